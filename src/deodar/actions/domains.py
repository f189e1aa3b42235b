"""Gives an app host names of its owner's, and takes them away."""

import uuid
from datetime import datetime

from deodar.actions import acm, certificates
from deodar.model import errors, route
from deodar.model.app import App
from deodar.model.certificate import Acm
from deodar.model.route import Domain, DomainKind
from deodar.store import domains, sni_endpoints
from deodar.store.db import Tx

DOMAIN_LIMIT = 1000  #: per app (devcenter: limits)


async def add(
    tx: Tx,
    app: App,
    hostname: str,
    *,
    certificate: str | None = None,
    platform_domain: str,
    now: datetime,
) -> Domain:
    """`hostname` is routed to the app, and served with that certificate of its if one is named.

    Raises InvalidParams where the name is another's or the platform's, or the certificate not for it,
    and NotFound without such a certificate.
    """
    name = route.check_hostname(hostname)
    bare = name.removeprefix("*.")
    if bare == platform_domain or bare.endswith(f".{platform_domain}"):
        raise errors.InvalidParams(
            f"{name} is below {platform_domain}, where the platform itself names apps. "
            "Rename the app to have another name there."
        )
    taken = await domains.by_hostname(tx, name)
    if taken is not None:
        whose = "this" if taken.app_id == app.id else "another"
        raise errors.InvalidParams(f"{name} is currently in use by {whose} app.")
    if len(await domains.of_app(tx, app.id)) >= DOMAIN_LIMIT:
        raise errors.InvalidParams(f"An app can have {DOMAIN_LIMIT} domains at most.")
    domain = Domain(
        id=str(uuid.uuid4()),
        app_id=app.id,
        hostname=name,
        kind=DomainKind.CUSTOM,
        acm=acm.AFRESH if app.acm else Acm(),
        created_at=now,
        updated_at=now,
    )
    await domains.insert_domain(tx, domain)
    tx.ring(app.id)
    if certificate is not None:
        return await certificates.choose(tx, app, domain, certificate, now=now)
    return domain


async def find(tx: Tx, app: App, identity: str) -> Domain:
    """The app's domain with that host name or id. Raises NotFound."""
    wanted = identity.strip().rstrip(".").lower()
    for domain in await domains.of_app(tx, app.id):
        if wanted in (domain.hostname, domain.id):
            return domain
    raise errors.NotFound("domain", f"Couldn't find that domain ({identity}).")


async def remove(tx: Tx, app: App, identity: str, *, now: datetime) -> Domain:
    """The domain that is the app's no more, nor is what ACM got for it. Raises NotFound."""
    domain = await find(tx, app, identity)
    await domains.delete_domain(tx, domain.id)
    if domain.sni_endpoint is not None and domain.sni_endpoint.acm:
        await sni_endpoints.remove(tx, domain.sni_endpoint.id, now=now)
    tx.ring(app.id)
    return domain

"""Gives an app host names of its owner's, and takes them away."""

import uuid
from datetime import datetime

from deodar.model import errors, route
from deodar.model.app import App
from deodar.model.route import Domain, DomainKind
from deodar.store import domains
from deodar.store.db import Tx

DOMAIN_LIMIT = 1000  #: per app (devcenter: limits)


async def add(tx: Tx, app: App, hostname: str, *, platform_domain: str, now: datetime) -> Domain:
    """`hostname` is routed to the app. Raises InvalidParams where it is another's or the platform's."""
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
        created_at=now,
        updated_at=now,
    )
    await domains.insert_domain(tx, domain)
    tx.ring(app.id)
    return domain


async def find(tx: Tx, app: App, identity: str) -> Domain:
    """The app's domain with that host name or id. Raises NotFound."""
    wanted = identity.strip().rstrip(".").lower()
    for domain in await domains.of_app(tx, app.id):
        if wanted in (domain.hostname, domain.id):
            return domain
    raise errors.NotFound("domain", f"Couldn't find that domain ({identity}).")


async def remove(tx: Tx, app: App, identity: str) -> Domain:
    """The domain that is the app's no more. Raises NotFound."""
    domain = await find(tx, app, identity)
    await domains.delete_domain(tx, domain.id)
    tx.ring(app.id)
    return domain

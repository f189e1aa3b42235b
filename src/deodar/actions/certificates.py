"""Gives an app certificates of its owner's, replaces and removes them, and lets domains choose one."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from deodar.adapters.certificates import Certificate
from deodar.model import app as app_rules
from deodar.model import certificate as rules
from deodar.model import errors
from deodar.model.app import App
from deodar.model.certificate import SniEndpoint
from deodar.model.route import Domain
from deodar.store import domains, sni_endpoints
from deodar.store.db import Tx

LIMIT = 1000  #: per app, one for each domain it may have


async def add(
    tx: Tx,
    app: App,
    certificate: Certificate,
    *,
    acm: bool = False,
    dice: random.Random,
    now: datetime,
) -> SniEndpoint:
    """A new certificate, which no domain has chosen yet. Raises InvalidParams."""
    present = await sni_endpoints.of_app(tx, app.id)
    if len(present) >= LIMIT:
        raise errors.InvalidParams(f"An app can have {LIMIT} certificates at most.")
    endpoint = SniEndpoint(
        id=str(uuid.uuid4()),
        app_id=app.id,
        name=_free_name(present, dice),
        chain=certificate.chain,
        facts=certificate.facts,
        acm=acm,
        created_at=now,
        updated_at=now,
    )
    await sni_endpoints.insert_endpoint(tx, endpoint, key=certificate.key)
    return endpoint


async def find(tx: Tx, app: App, identity: str) -> SniEndpoint:
    """The app's certificate with that name or id. Raises NotFound."""
    for endpoint in await sni_endpoints.of_app(tx, app.id):
        if identity in (endpoint.name, endpoint.id):
            return endpoint
    raise errors.NotFound("sni_endpoint", f"Couldn't find that SSL certificate ({identity}).")


async def change(
    tx: Tx, app: App, endpoint: SniEndpoint, certificate: Certificate, *, now: datetime
) -> SniEndpoint:
    """The same endpoint with another certificate, served at once. Raises InvalidParams."""
    for domain in await served_with(tx, endpoint):
        _check_covers(certificate.facts.names, domain.hostname)
    # Uploaded by its owner, it is his from now on, also where ACM had made the one before.
    changed = replace(
        endpoint, chain=certificate.chain, facts=certificate.facts, acm=False, updated_at=now
    )
    await sni_endpoints.replace(tx, changed, key=certificate.key)
    tx.ring(app.id)
    return changed


async def remove(tx: Tx, app: App, endpoint: SniEndpoint, *, now: datetime) -> None:
    """The domains that were served with it are given one by the platform's own authority."""
    await sni_endpoints.remove(tx, endpoint.id, now=now)
    tx.ring(app.id)


async def choose(
    tx: Tx, app: App, domain: Domain, identity: str | None, *, now: datetime
) -> Domain:
    """The domain is served with that certificate of the app's; None: with one of the platform's own
    authority, or ACM's where that is on. Raises NotFound and InvalidParams."""
    endpoint = None if identity is None else await find(tx, app, identity)
    if endpoint is not None:
        _check_covers(endpoint.facts.names, domain.hostname)
    before = domain.sni_endpoint
    await domains.set_endpoint(tx, domain.id, endpoint.id if endpoint else None, now=now)
    if before is not None and before.acm and (endpoint is None or endpoint.id != before.id):
        await sni_endpoints.remove(tx, before.id, now=now)
    tx.ring(app.id)
    chosen = await domains.get(tx, domain.id)
    assert chosen is not None
    return chosen


async def served_with(tx: Tx, endpoint: SniEndpoint) -> list[Domain]:
    """The domains that chose it."""
    return [
        domain
        for domain in await domains.of_app(tx, endpoint.app_id)
        if domain.sni_endpoint is not None and domain.sni_endpoint.id == endpoint.id
    ]


def _check_covers(names: Sequence[str], hostname: str) -> None:
    if not rules.covers(names, hostname):
        raise errors.InvalidParams(
            f"The certificate is not for {hostname}, but for {', '.join(names)}."
        )


def _free_name(present: Sequence[SniEndpoint], dice: random.Random) -> str:
    taken = {each.name for each in present}
    while True:
        name = app_rules.random_name(dice)
        if name not in taken:
            return name

"""Turns automated certificates (ACM) on and off for an app, and keeps what came of asking for one."""

import random
from dataclasses import replace
from datetime import datetime

from deodar.actions import certificates
from deodar.adapters.certificates import Certificate
from deodar.model.app import App
from deodar.model.certificate import Acm, AcmStatus, Order
from deodar.model.route import Domain
from deodar.store import acme, apps, domains, sni_endpoints
from deodar.store.db import Tx

#: nothing was tried yet
AFRESH = Acm(status=AcmStatus.WAITING)


async def enable(tx: Tx, app: App, *, now: datetime) -> App:
    """Every domain of the app is to have a certificate, now and later."""
    if not app.acm:
        for domain in await domains.of_app(tx, app.id):
            await domains.set_acm(tx, domain.id, AFRESH, now=now)
        app = replace(app, acm=True, updated_at=now)
        await apps.update_app(tx, app)
    tx.ring(app.id)
    return app


async def disable(tx: Tx, app: App, *, now: datetime) -> App:
    """The certificates that ACM made are gone; those of the owner stay."""
    for domain in await domains.of_app(tx, app.id):
        await acme.drop_order(tx, domain.id)
        if domain.acm != Acm():
            await domains.set_acm(tx, domain.id, Acm(), now=now)
    for endpoint in await sni_endpoints.of_app(tx, app.id):
        if endpoint.acm:
            await sni_endpoints.remove(tx, endpoint.id, now=now)
    app = replace(app, acm=False, updated_at=now)
    await apps.update_app(tx, app)
    tx.ring(app.id)
    return app


async def refresh(tx: Tx, app: App, *, now: datetime) -> App:
    """What failed is tried again at once."""
    if app.acm:
        for domain in await domains.of_app(tx, app.id):
            if domain.acm.status in (AcmStatus.FAILING, AcmStatus.FAILED):
                await domains.set_acm(tx, domain.id, AFRESH, now=now)
        tx.ring(app.id)
    return app


# What the loop found.


async def ordered(tx: Tx, order: Order, *, now: datetime) -> bool:
    """A certificate was asked for; False where nobody wants it any more."""
    wanted = await _wanted(tx, order.domain_id)
    if wanted is None:
        return False
    _, domain = wanted
    await acme.save_order(tx, order)
    # How often it failed before counts until it does not.
    found = Acm(status=AcmStatus.IN_PROGRESS, failures=domain.acm.failures)
    await domains.set_acm(tx, domain.id, found, now=now)
    tx.ring(order.app_id)
    return True


async def issued(
    tx: Tx, order: Order, certificate: Certificate, *, dice: random.Random, now: datetime
) -> bool:
    """The certificate is there, and served from now on; False where nobody wants it any more."""
    wanted = await _wanted(tx, order.domain_id)
    await acme.drop_order(tx, order.domain_id)
    tx.ring(order.app_id)
    if wanted is None:
        return False
    app, domain = wanted
    before = domain.sni_endpoint
    endpoint = await certificates.add(tx, app, certificate, acm=True, dice=dice, now=now)
    await domains.set_endpoint(tx, domain.id, endpoint.id, now=now)
    if before is not None and before.acm:
        await sni_endpoints.remove(tx, before.id, now=now)
    await domains.set_acm(tx, domain.id, Acm(status=AcmStatus.ISSUED), now=now)
    return True


async def noted(tx: Tx, domain: Domain, found: Acm, *, now: datetime) -> bool:
    """How far it has come with the domain, whose order is over if there was one. False where nobody
    wants it any more."""
    if await _wanted(tx, domain.id) is None:
        return False
    await acme.drop_order(tx, domain.id)
    await domains.set_acm(tx, domain.id, found, now=now)
    tx.ring(domain.app_id)
    return True


async def _wanted(tx: Tx, domain_id: str) -> tuple[App, Domain] | None:
    """The domain and its app while ACM is on for it: its owner may have thought better meanwhile."""
    domain = await domains.get(tx, domain_id)
    app = None if domain is None else await apps.find(tx, domain.app_id)
    if domain is None or app is None or not app.acm:
        return None
    return app, domain

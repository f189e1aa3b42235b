"""What is to be done so that every domain of an app has a certificate? Answers with steps; takes none.

One verdict for each domain, the first reason wins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from deodar.model import certificate
from deodar.model.certificate import Acm, AcmStatus, Order
from deodar.model.route import Domain

FIRST_REST = timedelta(minutes=15)  #: after a failure; doubled by each further one
LAST_REST = timedelta(days=1)
ENOUGH = 5  #: failures in a row, and the owner should look
STALE = timedelta(hours=1)  #: an order that is no further by then is given up

OWN = "It has a certificate of its own."
PRIVATE = "By the platform's own authority: no public one certifies this name."
WILDCARD = "ACM cannot cover wildcard domains. Add a certificate: heroku certs:add"
STUCK = "The certificate authority did not decide within an hour."


@dataclass(frozen=True, slots=True)
class Ask:
    """Order a certificate for the domain."""

    domain: Domain


@dataclass(frozen=True, slots=True)
class Advance:
    """The order can go on."""

    domain: Domain
    order: Order


@dataclass(frozen=True, slots=True)
class Note:
    """Say so in the store, and forget the order if there is one."""

    domain: Domain
    acm: Acm


Step = Ask | Advance | Note


def plan(domains: Iterable[Domain], orders: Iterable[Order], now: datetime) -> list[Step]:
    by_domain = {order.domain_id: order for order in orders}
    return [
        step
        for domain in domains
        if (step := judge(domain, by_domain.get(domain.id), now)) is not None
    ]


def judge(domain: Domain, order: Order | None, now: datetime) -> Step | None:
    """The next step for one domain; None when all is as it should, or somebody else's turn."""
    settled = settle(domain, now)
    if settled is not None:
        return Note(domain, settled) if order is not None or domain.acm != settled else None
    if order is not None:
        if now - order.created_at > STALE:
            return Note(domain, failed(domain.acm, STUCK, now))
        return Advance(domain, order) if order.routed else None
    if domain.acm.next_at is not None and domain.acm.next_at > now:
        return None
    return Ask(domain)


def settle(domain: Domain, now: datetime) -> Acm | None:
    """What there is to say of a domain that needs no certificate now; None where it needs one."""
    chosen = domain.sni_endpoint
    if chosen is not None and not chosen.acm:
        return Acm(status=AcmStatus.ISSUED, reason=OWN)
    if certificate.is_private(domain.hostname):
        return Acm(status=AcmStatus.ISSUED, reason=PRIVATE)
    if domain.hostname.startswith("*."):
        return Acm(status=AcmStatus.FAILED, reason=WILDCARD)
    if chosen is not None and chosen.renew_at > now:
        return Acm(status=AcmStatus.ISSUED)
    return None


def failed(before: Acm, reason: str, now: datetime) -> Acm:
    """One more failure. The authority's patience is limited, so each rest is longer than the last."""
    failures = before.failures + 1
    return Acm(
        status=AcmStatus.FAILED if failures >= ENOUGH else AcmStatus.FAILING,
        reason=reason,
        failures=failures,
        next_at=now + min(FIRST_REST * 2 ** min(before.failures, 20), LAST_REST),
    )


def next_look(domains: Iterable[Domain], later: Mapping[str, float], now: datetime) -> float | None:
    """Seconds until something is due; `later` has those until an order is worth a look, by domain."""
    looks = [*later.values()]
    for domain in domains:
        if domain.acm.next_at is not None and domain.acm.next_at > now:
            looks.append((domain.acm.next_at - now).total_seconds())
        elif domain.sni_endpoint is not None and domain.sni_endpoint.acm:
            due = (domain.sni_endpoint.renew_at - now).total_seconds()
            if due > 0:  # otherwise it is asked for already, and the bell tells what comes of it
                looks.append(due)
    return min(looks, default=None)

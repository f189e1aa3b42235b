"""What is to be done for a domain's certificate, as a table of situations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deodar.loops.certifying import plan
from deodar.loops.certifying.plan import Advance, Ask, Note, Step
from deodar.model.app import AppId
from deodar.model.certificate import Acm, AcmStatus, Chosen, Order
from deodar.model.route import Domain, DomainKind

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
WAITING = Acm(status=AcmStatus.WAITING)
ISSUED = Acm(status=AcmStatus.ISSUED)
DOMAIN = Domain(
    id="domain-id",
    app_id=AppId("app-id"),
    hostname="www.example.com",
    kind=DomainKind.CUSTOM,
    acm=WAITING,
    created_at=NOW,
    updated_at=NOW,
)
ORDER = Order(
    domain_id=DOMAIN.id,
    app_id=DOMAIN.app_id,
    hostname=DOMAIN.hostname,
    url="https://acme/order/1",
    key="KEY",
    token="token",
    answer="answer",
    routed=True,
    created_at=NOW,
)
MADE = Chosen(
    id="endpoint-id",
    name="calm-cove-10000",
    acm=True,
    starts_at=NOW,
    expires_at=NOW + 90 * DAY,
    updated_at=NOW,
)
CERTIFIED = replace(DOMAIN, sni_endpoint=MADE, acm=ISSUED)
OLD = replace(
    CERTIFIED, sni_endpoint=replace(MADE, starts_at=NOW - 60 * DAY, expires_at=NOW + 30 * DAY)
)
BRIEF = replace(CERTIFIED, sni_endpoint=replace(MADE, expires_at=NOW + 6 * DAY))
BRIEF_AND_OLD = replace(
    CERTIFIED, sni_endpoint=replace(MADE, starts_at=NOW - 4 * DAY, expires_at=NOW + 2 * DAY)
)
OWN = replace(CERTIFIED, sni_endpoint=replace(MADE, acm=False))
WILDCARD = replace(DOMAIN, hostname="*.example.com")
PRIVATE = replace(DOMAIN, hostname="shop.test")
RESTING = replace(DOMAIN, acm=plan.failed(WAITING, "no", NOW))
NOTED_OWN = Acm(status=AcmStatus.ISSUED, reason=plan.OWN)
NOTED_PRIVATE = Acm(status=AcmStatus.ISSUED, reason=plan.PRIVATE)
NOTED_WILDCARD = Acm(status=AcmStatus.FAILED, reason=plan.WILDCARD)
LATE = replace(ORDER, created_at=NOW - timedelta(minutes=61))


@pytest.mark.parametrize(
    ("domain", "order", "step"),
    [
        (DOMAIN, None, Ask(DOMAIN)),
        (DOMAIN, ORDER, Advance(DOMAIN, ORDER)),
        (DOMAIN, replace(ORDER, routed=False), None),
        (DOMAIN, LATE, Note(DOMAIN, plan.failed(WAITING, plan.STUCK, NOW))),
        (CERTIFIED, None, None),
        (replace(CERTIFIED, acm=WAITING), None, Note(replace(CERTIFIED, acm=WAITING), ISSUED)),
        (CERTIFIED, ORDER, Note(CERTIFIED, ISSUED)),
        (OLD, None, Ask(OLD)),
        (BRIEF, None, None),
        (BRIEF_AND_OLD, None, Ask(BRIEF_AND_OLD)),
        (OLD, ORDER, Advance(OLD, ORDER)),
        (OWN, None, Note(OWN, NOTED_OWN)),
        (replace(OWN, acm=NOTED_OWN), None, None),
        (replace(OWN, acm=NOTED_OWN), ORDER, Note(replace(OWN, acm=NOTED_OWN), NOTED_OWN)),
        (WILDCARD, None, Note(WILDCARD, NOTED_WILDCARD)),
        (PRIVATE, None, Note(PRIVATE, NOTED_PRIVATE)),
        (RESTING, None, None),
    ],
    ids=[
        "none yet: ask",
        "the router answers: go on",
        "the router does not answer yet: wait",
        "an order that comes to nothing is a failure",
        "certified: nothing",
        "certified, and not said so: say",
        "certified: an order is not needed",
        "nearly over: renew",
        "of a week, new: nothing",
        "of a week, a third left: renew",
        "nearly over, ordered: go on",
        "the owner's own: say so",
        "the owner's own, said: nothing",
        "the owner's own: an order is not needed",
        "a wildcard: say what to do",
        "a private name: say who certifies it",
        "failed a moment ago: rest",
    ],
)
def test_a_domain_is_given_the_step_that_is_next(
    domain: Domain, order: Order | None, step: Step | None
) -> None:
    assert plan.plan([domain], [order] if order else [], NOW) == ([step] if step else [])


def test_each_failure_has_a_longer_rest_up_to_a_day_and_the_fifth_is_shown_as_failed() -> None:
    acm, seen = WAITING, []
    for _ in range(9):
        acm = plan.failed(acm, "no", NOW)
        assert acm.next_at is not None
        seen.append((acm.status, (acm.next_at - NOW).total_seconds() / 60))

    assert seen == [
        ("failing", 15),
        ("failing", 30),
        ("failing", 60),
        ("failing", 120),
        ("failed", 240),
        ("failed", 480),
        ("failed", 960),
        ("failed", 1440),
        ("failed", 1440),
    ]


def test_a_rest_that_is_over_ends() -> None:
    assert plan.judge(RESTING, None, NOW + plan.FIRST_REST) == Ask(RESTING)


@pytest.mark.parametrize(
    ("domains", "later", "seconds"),
    [
        ([], {}, None),
        ([DOMAIN], {}, None),
        ([CERTIFIED], {}, 60 * 86_400),
        ([CERTIFIED, RESTING], {}, 15 * 60),
        ([CERTIFIED, RESTING], {"domain-id": 2.0}, 2.0),
        ([OWN], {}, None),
    ],
)
def test_the_next_look_is_when_something_is_due(
    domains: list[Domain], later: dict[str, float], seconds: float | None
) -> None:
    assert plan.next_look(domains, later, NOW) == seconds

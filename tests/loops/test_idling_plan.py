"""Which apps fall asleep and which sink deeper, as tables of situations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deodar.loops.idling import plan
from deodar.loops.idling.plan import (
    ROOM,
    Facts,
    FallAsleep,
    Machine,
    Reclaim,
    Recount,
    Step,
    Stop,
    Wake,
)
from deodar.model.app import AppId
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.formation import ProcessType
from deodar.model.idling import Bed, Defaults, Depth, Policy, Sleep

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DEFAULTS = Defaults()
HALF_HOUR = Policy(after=timedelta(minutes=30), workers=True, bed=Bed.SINK)
WEB = ProcessType(type="web", quantity=1, command="serve")
SLEEP = Sleep(since=NOW, depth=Depth.FROZEN, workers=True)


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def a_dyno(name: str = "web.1", state: State = State.UP, **more: object) -> Dyno:
    type_, number = name.split(".")
    plain = Dyno(
        id=f"id-{name}",
        app_id=AppId("app"),
        type=type_,
        number=int(number),
        kind=Kind.ONE_OFF if type_ == "run" else Kind.FORMATION,
        size="Eco",
        command="serve",
        release_id="r",
        release_version=1,
        slug_id="s",
        state=state,
        state_since=ago(days=1),
        created_at=ago(days=1),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def an_app(*present: Dyno, **more: object) -> Facts:
    plain = Facts(
        app_id="app",
        policy=HALF_HOUR,
        web=WEB,
        dynos=present or (a_dyno(),),
        active_at=ago(minutes=30),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def asleep(depth: Depth = Depth.FROZEN, *, hours: float = 0, **more: object) -> Facts:
    sleep = Sleep(since=ago(hours=hours), depth=depth, workers=True)
    return an_app(a_dyno(state=State.IDLE), sleep=sleep, **more)


def judged(facts: Facts, *, room: int = 2 * ROOM) -> Step | None:
    return plan.judge(facts, Machine(room=room), NOW, DEFAULTS)


@pytest.mark.parametrize(
    ("facts", "sleeps"),
    [
        (an_app(), True),
        (an_app(active_at=ago(minutes=29.9)), False),
        (an_app(active_at=None), True),
        (an_app(a_dyno(state_since=ago(minutes=5)), active_at=None), False),
        (an_app(a_dyno(state_since=ago(minutes=5))), False),
        (an_app(a_dyno("web.1"), a_dyno("worker.1")), True),
        (an_app(a_dyno("web.1"), a_dyno("worker.1", State.CRASHED)), True),
        (an_app(a_dyno("worker.1"), web=None), False),
        (an_app(a_dyno("worker.1"), web=replace(WEB, quantity=0)), False),
        (an_app(a_dyno("web.1"), web=replace(WEB, quantity=2)), False),
        (an_app(a_dyno("web.1"), a_dyno("run.1")), False),
        (an_app(a_dyno("web.1"), a_dyno("run.1", State.COMPLETE)), True),
        (an_app(a_dyno("web.1", condemned="restart")), False),
        (an_app(policy=replace(HALF_HOUR, after=None)), False),
        *((an_app(a_dyno("web.1", state)), state is State.UP) for state in State),
    ],
)
def test_an_app_sleeps_when_nobody_asked_for_long_and_nothing_is_going_on(
    facts: Facts, sleeps: bool
) -> None:
    assert judged(facts) == (FallAsleep(facts, SLEEP) if sleeps else None)


def test_how_it_sleeps_is_its_policys() -> None:
    facts = an_app(policy=replace(HALF_HOUR, bed=Bed.STOP, workers=False))

    assert judged(facts) == FallAsleep(facts, Sleep(since=NOW, depth=Depth.STOPPED, workers=False))


@pytest.mark.parametrize(
    ("facts", "room", "step"),
    [
        (asleep(hours=0.1), 2 * ROOM, None),
        (asleep(hours=0.2), 2 * ROOM, Reclaim),
        (asleep(hours=0.2), 0, None),
        (asleep(Depth.RECLAIMED, hours=0.2), 2 * ROOM, None),
        (asleep(Depth.RECLAIMED, hours=24), 2 * ROOM, Stop),
        (asleep(hours=24), 0, Stop),
        (asleep(hours=24, policy=replace(HALF_HOUR, bed=Bed.FREEZE)), 2 * ROOM, Reclaim),
        (asleep(hours=24, policy=replace(HALF_HOUR, bed=Bed.FREEZE)), 0, None),
        (asleep(Depth.STOPPED, hours=99, dynos=(a_dyno(state=State.PARKED),)), 2 * ROOM, None),
        (asleep(hours=1, dynos=(a_dyno(state=State.UP),)), 2 * ROOM, None),
        (asleep(policy=replace(HALF_HOUR, after=None)), 2 * ROOM, Wake),
    ],
)
def test_a_sleeper_sinks_as_time_passes(facts: Facts, room: int, step: type | None) -> None:
    taken = judged(facts, room=room)

    assert (type(taken) if taken else None) == step


def test_after_the_clock_was_set_back_silence_counts_from_now() -> None:
    facts = an_app(active_at=NOW + timedelta(hours=1))

    assert judged(facts) == Recount(facts)


def sinks(room: int, *every: Facts) -> list[tuple[str, type]]:
    machine = Machine(available=0.05, room=room)
    return [(step.facts.app_id, type(step)) for step in plan.plan(every, machine, NOW, DEFAULTS)]


def test_scarce_memory_sinks_the_oldest_sleepers_before_their_time() -> None:
    every = [asleep(hours=number / 100, app_id=f"{number}") for number in range(1, 8)]

    assert sinks(2 * ROOM, *every) == [(name, Reclaim) for name in ("7", "6", "5", "4")]


def test_where_swap_is_full_the_oldest_are_stopped_who_may_be() -> None:
    kept = asleep(app_id="kept", hours=9, policy=replace(HALF_HOUR, bed=Bed.FREEZE))
    old = asleep(Depth.RECLAIMED, app_id="old", hours=8)
    new = asleep(app_id="new", hours=7)

    assert sinks(0, new, old, kept) == [("old", Stop), ("new", Stop)]


def test_scarce_memory_does_not_touch_who_is_awake_or_has_no_process() -> None:
    parked = asleep(Depth.STOPPED, app_id="parked", dynos=(a_dyno(state=State.PARKED),))

    assert sinks(2 * ROOM, an_app(active_at=NOW), parked) == []


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        (b"1893499200\n", NOW),
        (b"1893495600\n", NOW - timedelta(hours=1)),
        (b"9" * 40, NOW),
        (b"-5\n", None),
        (b"", None),
        (b"stat: cannot stat", None),
        ("\u0663".encode(), None),
    ],
)
def test_a_dyno_may_say_what_it_likes_of_its_file(told: bytes, moment: datetime | None) -> None:
    assert plan.moment(told, NOW) == moment


def test_a_dyno_that_says_it_is_busy_is_as_good_as_a_request() -> None:
    facts = an_app()

    assert plan.touched(facts, ago(minutes=5), NOW) == ago(minutes=5)
    assert plan.touched(facts, ago(hours=5), NOW) == ago(minutes=30)
    assert plan.touched(facts, NOW + timedelta(hours=5), NOW) == NOW

"""What the manifold decides for an app that is to sleep, and for one that is to wake."""

from dataclasses import replace
from datetime import timedelta

import pytest

from deodar.engines.base import Sighting
from deodar.loops.manifold import plan
from deodar.loops.manifold.plan import (
    Forget,
    Freeze,
    Launch,
    Park,
    Start,
    Step,
    Stop,
    Thaw,
    Wish,
)
from deodar.model.dyno import Dyno, State
from deodar.model.idling import Depth, Sleep
from tests.loops.test_manifold_plan import LIMITS, NOW, a_dyno, steps, wish

FROZEN = Sleep(since=NOW, depth=Depth.FROZEN, workers=True)
STOPPED = replace(FROZEN, depth=Depth.STOPPED)


def sleeping(sleep: Sleep = FROZEN, **quantities: int) -> Wish:
    return replace(wish(**quantities), sleep=sleep)


@pytest.mark.parametrize(
    ("dyno", "frozen", "stopped"),
    [
        (a_dyno(routed=True), None, None),
        (a_dyno(), Freeze(a_dyno()), Stop(a_dyno(), "idle")),
        (a_dyno(state=State.IDLE), None, Stop(a_dyno(state=State.IDLE), "idle")),
        (a_dyno(state=State.PARKED), None, None),
        (a_dyno(state=State.STARTING), None, None),
        (
            a_dyno(state=State.PROVISIONING),
            Launch(a_dyno(state=State.PROVISIONING)),
            Launch(a_dyno(state=State.PROVISIONING)),
        ),
    ],
)
def test_a_dyno_of_a_sleeping_app_comes_to_its_depth(
    dyno: Dyno, frozen: Step | None, stopped: Step | None
) -> None:
    for sleep, step in ((FROZEN, frozen), (STOPPED, stopped)):
        assert steps(sleeping(sleep, web=1), dyno) == ([step] if step else [])


def test_memory_that_leaves_ram_is_nothing_to_the_manifold() -> None:
    reclaimed = replace(FROZEN, depth=Depth.RECLAIMED)

    assert steps(sleeping(reclaimed, web=1), a_dyno(state=State.IDLE)) == []


@pytest.mark.parametrize("workers", [True, False])
def test_workers_sleep_where_they_are_to(workers: bool) -> None:
    worker = a_dyno("worker.1")
    sleep = replace(FROZEN, workers=workers)

    assert steps(sleeping(sleep, web=1, worker=1), a_dyno(state=State.IDLE), worker) == (
        [Freeze(worker)] if workers else []
    )


def test_a_one_off_of_a_sleeping_app_runs_on() -> None:
    assert steps(sleeping(web=1), a_dyno(state=State.IDLE), a_dyno("run.1")) == []


def test_a_place_that_is_free_while_the_app_sleeps_is_parked() -> None:
    crashed = a_dyno("web.2", State.CRASHED)

    assert steps(sleeping(web=3), a_dyno(state=State.IDLE), crashed) == [
        Forget(crashed),
        Park("web", 2),
        Park("web", 3),
    ]


def test_an_app_that_wakes_goes_on_where_it_stood_and_boots_what_was_parked() -> None:
    frozen, parked = a_dyno(state=State.IDLE), a_dyno("web.2", State.PARKED)

    assert steps(wish(web=2), frozen, parked) == [Thaw(frozen), Launch(parked)]


def test_what_is_parked_goes_when_nobody_wishes_it_any_more() -> None:
    surplus, old = a_dyno("web.2", State.PARKED), a_dyno(state=State.PARKED, release_id="r1")

    assert steps(wish(web=1), old, surplus) == [Forget(old), Forget(surplus), Start("web", 1)]


def test_a_release_of_a_sleeping_app_wakes_the_old_dyno_until_the_new_one_serves() -> None:
    old = a_dyno(state=State.IDLE, release_id="r1")

    assert steps(wish(web=1), old) == [Thaw(old), Start("web", 1)]


def test_a_sleeping_dyno_is_not_cycled() -> None:
    long_ago = a_dyno(state=State.IDLE, state_since=NOW - timedelta(days=9))

    assert steps(sleeping(web=1), long_ago) == []


@pytest.mark.parametrize(
    ("state", "frozen", "noticed"),
    [
        (State.UP, False, State.UP),
        (State.UP, True, State.IDLE),
        (State.IDLE, True, State.IDLE),
        (State.IDLE, False, State.UP),
        (State.STOPPING, True, State.STOPPING),
    ],
)
def test_the_record_follows_what_stands_still(state: State, frozen: bool, noticed: State) -> None:
    dyno = a_dyno(state=state)
    sighting = Sighting(
        id=dyno.id, app_id="app", name="web.1", running=True, address=None, frozen=frozen
    )

    assert plan.notice(dyno, sighting, NOW, LIMITS).state is noticed


def test_a_frozen_dyno_that_is_gone_after_a_reboot_is_parked() -> None:
    lost = plan.notice(a_dyno(state=State.IDLE), None, NOW, LIMITS)

    assert lost.state is State.CRASHED
    assert steps(sleeping(web=1), lost) == [Forget(lost), Park("web", 1)]

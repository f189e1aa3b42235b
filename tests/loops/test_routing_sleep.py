"""What the router does for an app that is to sleep."""

from dataclasses import replace

import pytest

from deodar.adapters.haproxy.table import Mode, Seen, Slot
from deodar.loops.routing import plan
from deodar.loops.routing.plan import Drain, Free, Remove, Rouse, Step, Wanted
from deodar.model.dyno import Dyno, State
from deodar.model.idling import Depth, Sleep
from tests.loops.test_routing_plan import APP, DRAIN, NAME, NOW, SERVER, dyno, seen, wanted

SLEEP = Sleep(since=NOW, depth=Depth.FROZEN, workers=True)
HELD = dyno(State.UP, routed=False)


def sleeping(*dynos: Dyno) -> Wanted:
    return replace(wanted(*dynos), app=replace(APP, sleep=SLEEP))


def steps(has: Dyno, server: Seen | None, *, asked: bool = False) -> list[Step]:
    slot = Slot(
        hosts=frozenset({"one.localhost"}), servers={} if server is None else {NAME: server}
    )
    return plan.plan(sleeping(has), slot, NOW, drain=DRAIN, asked=asked)


@pytest.mark.parametrize(
    ("has", "server", "taken"),
    [
        (dyno(State.UP), seen(), [Drain(NAME)]),
        (dyno(State.UP), seen(Mode.DRAIN), [Remove(NAME, dyno(State.UP))]),
        (dyno(State.UP), seen(Mode.MAINT), [Remove(NAME, dyno(State.UP))]),
        (dyno(State.UP), seen(Mode.DRAIN, sessions=1), [Rouse()]),
        (dyno(State.UP), None, [Free(dyno(State.UP))]),
        (HELD, None, []),
        (dyno(State.IDLE, routed=False), None, []),
        (dyno(State.PARKED, routed=False), None, []),
        (dyno(State.STOPPING), seen(), [Drain(NAME)]),
    ],
)
def test_the_router_lets_go_of_who_is_to_sleep(
    has: Dyno, server: Seen | None, taken: list[Step]
) -> None:
    assert steps(has, server) == taken


@pytest.mark.parametrize(
    ("has", "server"),
    [(dyno(State.UP), seen()), (HELD, None), (dyno(State.IDLE, routed=False), None)],
)
def test_an_app_that_is_asked_for_in_between_is_to_be_awake(has: Dyno, server: Seen | None) -> None:
    assert steps(has, server, asked=True) == [Rouse()]


def test_a_fresh_haproxy_is_not_told_of_a_dyno_whose_app_is_to_sleep() -> None:
    assert plan.table([sleeping(dyno(State.UP))], NOW).servers == {}
    assert plan.table([wanted(dyno(State.UP))], NOW).servers == {APP.slot: (SERVER,)}
    assert plan.next_look(sleeping(dyno(State.UP)), {NAME: seen()}, NOW) == plan.FIRST_LOOK

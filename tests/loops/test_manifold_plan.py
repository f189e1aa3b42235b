"""What the manifold decides, as tables of situations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deodar.engines.base import Sighting
from deodar.loops.manifold import plan
from deodar.loops.manifold.plan import (
    FailRelease,
    Forget,
    Kill,
    Launch,
    Limits,
    Park,
    Start,
    Stop,
    Terminate,
    Wish,
)
from deodar.model import dyno as rules
from deodar.model.app import AppId
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.formation import ProcessType

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LIMITS = Limits()


def a_dyno(name: str = "web.1", state: State = State.UP, **more: object) -> Dyno:
    type_, number = name.split(".")
    plain = Dyno(
        id=f"id-{name}",
        app_id=AppId("app"),
        type=type_,
        number=int(number),
        kind=Kind.ONE_OFF if type_ == "run" else Kind.FORMATION,
        size="Basic",
        command="serve",
        release_id="r2",
        release_version=2,
        slug_id="s2",
        state=state,
        state_since=NOW,
        created_at=NOW,
        port=5000 if type_ == "web" else None,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def wish(**quantities: int) -> Wish:
    return Wish(
        release_id="r2",
        formation=tuple(
            ProcessType(type=name, quantity=quantity, command="serve")
            for name, quantity in quantities.items()
        ),
    )


def steps(wished: Wish, *dynos: Dyno, after: float = 0) -> list[plan.Step]:
    return plan.plan(wished, dynos, NOW + timedelta(seconds=after), LIMITS)


def test_nothing_is_done_where_all_is_as_wished() -> None:
    assert steps(wish(web=1, worker=1), a_dyno("web.1"), a_dyno("worker.1")) == []


def test_scaling_up_fills_the_gaps_with_the_lowest_numbers() -> None:
    assert steps(wish(web=3), a_dyno("web.2")) == [Start("web", 1), Start("web", 3)]


def test_scaling_down_stops_the_highest_numbers() -> None:
    extra = a_dyno("web.2")

    assert steps(wish(web=1), a_dyno("web.1"), extra) == [Stop(extra, "surplus")]


def test_a_process_type_that_is_gone_is_stopped() -> None:
    gone = a_dyno("clock.1")

    assert steps(wish(web=1), a_dyno("web.1"), gone) == [Stop(gone, "surplus")]


def test_a_new_release_starts_its_web_dyno_before_the_old_one_stops() -> None:
    old = a_dyno("web.1", release_id="r1", routed=True)

    assert steps(wish(web=1), old) == [Start("web", 1)]


@pytest.mark.parametrize(
    ("state", "routed"), [(State.STARTING, False), (State.UP, False), (State.CRASHED, False)]
)
def test_the_old_web_dyno_serves_until_the_new_one_is_routed(state: State, routed: bool) -> None:
    old = a_dyno("web.1", release_id="r1", routed=True)
    new = a_dyno("web.1", state, id="new", routed=routed, restart_at=NOW + timedelta(hours=1))

    assert steps(wish(web=1), old, new) == []


def test_the_old_web_dyno_stops_once_the_new_one_is_routed() -> None:
    old = a_dyno("web.1", release_id="r1", routed=True)
    new = a_dyno("web.1", id="new", routed=True)

    assert steps(wish(web=1), old, new) == [Stop(old, "release")]


def test_a_new_release_replaces_a_worker_at_once() -> None:
    old = a_dyno("worker.1", release_id="r1")

    assert steps(wish(worker=1), old) == [Stop(old, "release"), Start("worker", 1)]


def test_a_worker_waits_with_the_web_dynos_of_its_release() -> None:
    old_web = a_dyno("web.1", release_id="r1", routed=True)
    new_web = a_dyno("web.1", State.STARTING, id="new")
    old_worker = a_dyno("worker.1", release_id="r1")

    assert steps(wish(web=1, worker=1), old_web, new_web, old_worker) == []

    serving = replace(new_web, state=State.UP, routed=True)
    assert steps(wish(web=1, worker=1), old_web, serving, old_worker) == [Stop(old_web, "release")]

    leaving = replace(old_web, state=State.STOPPING)
    assert steps(wish(web=1, worker=1), leaving, serving, old_worker) == [
        Stop(old_worker, "release"),
        Start("worker", 1),
    ]


def test_without_preboot_web_dynos_are_stopped_as_their_successors_start() -> None:
    old = a_dyno("web.1", release_id="r1", routed=True)

    assert steps(replace(wish(web=1), preboot=False), old) == [
        Stop(old, "release"),
        Start("web", 1),
    ]


@pytest.mark.parametrize("crash", [{"crashes": 2}, {"crashes": 1, "killed": True}])
def test_a_release_that_does_not_come_up_fails_and_the_serving_one_is_current_again(
    crash: dict[str, object],
) -> None:
    old = a_dyno("web.1", release_id="r1", release_version=1, routed=True)
    new = a_dyno("web.1", State.CRASHED, id="new", **crash)

    assert steps(wish(web=1), old, new) == [FailRelease("r2", "r1", new)]


def test_a_release_is_given_a_second_try() -> None:
    old = a_dyno("web.1", release_id="r1", routed=True)
    new = a_dyno("web.1", State.CRASHED, id="new", crashes=1, restart_at=NOW)

    assert steps(wish(web=1), old, new) == [Start("web", 1, 1, new)]


def test_a_release_without_one_to_go_back_to_does_not_fail() -> None:
    crashed = a_dyno("web.1", State.CRASHED, crashes=2, restart_at=NOW + timedelta(minutes=10))

    assert steps(wish(web=1), crashed) == []


def test_after_a_day_a_dyno_is_cycled_its_successor_first() -> None:
    old = a_dyno("worker.1")
    day = timedelta(hours=24, minutes=216).total_seconds()

    assert steps(wish(worker=1), old, after=timedelta(hours=24).total_seconds() - 1) == []
    assert steps(wish(worker=1), old, after=day) == [Start("worker", 1)]

    later = NOW + timedelta(seconds=day)
    successor = a_dyno("worker.1", id="new", state_since=later, created_at=later)
    assert steps(wish(worker=1), old, successor, after=day) == [Stop(old, "cycling")]


def test_dynos_are_cycled_one_at_a_time() -> None:
    first, second = a_dyno("web.1", routed=True), a_dyno("web.2", routed=True)
    day = timedelta(hours=24, minutes=216).total_seconds()

    assert steps(wish(web=2), first, second, after=day) == [Start("web", 1)]


def test_dynos_are_not_all_due_at_the_same_moment() -> None:
    dues = {rules.cycles_at(a_dyno("web.1", id=f"{n:036d}")) - NOW for n in range(50)}

    assert len(dues) > 40
    assert min(dues) >= timedelta(hours=24)
    assert max(dues) < timedelta(hours=24, minutes=216)


def test_the_next_look_is_when_something_is_due_and_not_before() -> None:
    resting = a_dyno("web.1", State.CRASHED, restart_at=NOW + timedelta(seconds=600))
    overdue = a_dyno("web.2", State.CRASHED, restart_at=NOW - timedelta(seconds=1))

    assert plan.next_look([resting, overdue], NOW, LIMITS) == 600
    assert plan.next_look([overdue], NOW, LIMITS) is None


def test_another_size_replaces_a_dyno_without_a_release() -> None:
    old = a_dyno("worker.1", size="Standard-2X")

    assert steps(wish(worker=1), old) == [Stop(old, "size"), Start("worker", 1)]


def test_a_restart_wished_of_a_web_dyno_waits_for_its_successor() -> None:
    assert steps(wish(web=1), a_dyno("web.1", condemned="restart", routed=True)) == [
        Start("web", 1)
    ]


def test_a_stop_wished_of_a_web_dyno_is_done_at_once_and_it_is_replaced() -> None:
    stopped = a_dyno("web.1", condemned="stop")

    assert steps(wish(web=1), stopped) == [Stop(stopped, "stop"), Start("web", 1)]


def test_no_signal_is_sent_while_the_router_may_send_requests() -> None:
    assert steps(wish(), a_dyno("web.1", State.STOPPING, routed=True)) == []


def test_the_signal_is_sent_once_the_router_let_go() -> None:
    draining = a_dyno("web.1", State.STOPPING, routed=False)

    assert steps(wish(), draining) == [Terminate(draining)]


def test_thirty_seconds_after_the_signal_it_is_killed_with_r12() -> None:
    stubborn = a_dyno("web.1", State.STOPPING, signalled_at=NOW)

    assert steps(wish(), stubborn, after=29.9) == []
    assert steps(wish(), stubborn, after=30) == [
        Kill(
            stubborn,
            "Error R12 (Exit timeout) -> Process failed to exit within 30 seconds of SIGTERM",
        )
    ]


def test_a_web_dyno_that_does_not_bind_within_sixty_seconds_is_killed_with_r10() -> None:
    silent = a_dyno("web.1", State.STARTING)

    assert steps(wish(web=1), silent, after=59.9) == []
    assert steps(wish(web=1), silent, after=60) == [
        Kill(
            silent,
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds of launch",
        )
    ]


def test_what_was_killed_is_not_killed_again() -> None:
    assert steps(wish(web=1), a_dyno("web.1", State.STARTING, killed=True), after=100) == []
    dying = a_dyno("web.1", State.STOPPING, signalled_at=NOW, killed=True)
    assert steps(wish(), dying, after=100) == []


def test_a_crashed_dyno_rests_until_it_is_due() -> None:
    crashed = a_dyno("web.1", State.CRASHED, crashes=2, restart_at=NOW + timedelta(seconds=600))

    assert steps(wish(web=1), crashed, after=599) == []
    assert steps(wish(web=1), crashed, after=600) == [Start("web", 1, 2, crashed)]


def test_a_new_release_starts_a_crashed_dyno_afresh() -> None:
    crashed = a_dyno(
        "web.1", State.CRASHED, release_id="r1", crashes=7, restart_at=NOW + timedelta(hours=9)
    )

    assert steps(wish(web=1), crashed) == [Forget(crashed), Start("web", 1, crashes=0)]


def test_a_record_without_a_process_is_launched_and_an_unwanted_one_forgotten() -> None:
    wanted, surplus = a_dyno("web.1", State.PROVISIONING), a_dyno("web.2", State.PROVISIONING)

    assert steps(wish(web=1), wanted, surplus) == [Launch(wanted), Forget(surplus)]


def test_one_off_dynos_outlive_releases_and_are_forgotten_when_complete() -> None:
    running = a_dyno("run.1234", release_id="r1")
    done = a_dyno("run.4321", State.COMPLETE)

    assert steps(wish(), running, done) == [Forget(done)]


def test_a_one_off_dyno_ends_at_its_time_to_live() -> None:
    running = a_dyno("run.1234", time_to_live=60)

    assert steps(wish(), running, after=59) == []
    assert steps(wish(), running, after=60) == [Stop(running, "expired")]


@given(
    st.lists(
        st.builds(
            a_dyno,
            st.sampled_from(["web.1", "web.2", "worker.1", "run.1000"]),
            st.sampled_from(list(State)),
            release_id=st.sampled_from(["r1", "r2"]),
            routed=st.booleans(),
            condemned=st.sampled_from([None, "restart", "stop", "memory"]),
            signalled_at=st.sampled_from([None, NOW]),
            killed=st.booleans(),
        ),
        max_size=8,
    ).map(lambda dynos: [replace(dyno, id=str(n)) for n, dyno in enumerate(dynos)]),
    st.integers(0, 3),
    st.floats(0, 100),
)
def test_every_dyno_gets_at_most_one_step(dynos: list[Dyno], web: int, after: float) -> None:
    given_steps = steps(wish(web=web, worker=1), *dynos, after=after)

    starts = [step for step in given_steps if isinstance(step, Start)]
    if any(isinstance(step, FailRelease) for step in given_steps):
        assert len(given_steps) == 1
        return
    touched = [start.instead_of.id for start in starts if start.instead_of]
    touched += [
        step.dyno.id for step in given_steps if not isinstance(step, Start | Park | FailRelease)
    ]
    assert len(touched) == len(set(touched))
    places = [(start.type, start.number) for start in starts]
    assert len(places) == len(set(places))


def seen(
    running: bool = False,
    status: int | None = None,
    oom: bool = False,
    peak: int | None = None,
) -> Sighting:
    return Sighting(
        id="id",
        app_id="app",
        name="web.1",
        running=running,
        address=None,
        exit_status=status,
        oom_killed=oom,
        peak=peak,
    )


@pytest.mark.parametrize("state", [State.STARTING, State.UP])
@pytest.mark.parametrize("name", ["web.1", "worker.1", "run.1"])
def test_a_dyno_condemned_for_its_memory_is_killed_once(name: str, state: State) -> None:
    fat = a_dyno(name, state, condemned="memory", routed=True)

    assert steps(wish(web=1, worker=1), fat, *others(fat)) == [
        Kill(fat, "Error R15 (Memory quota vastly exceeded)")
    ]
    assert steps(wish(web=1, worker=1), replace(fat, killed=True), *others(fat)) == []


def test_memory_kills_at_once_even_who_is_to_be_replaced_or_is_surplus() -> None:
    old = a_dyno("web.1", condemned="memory", release_id="r1", routed=True)
    surplus = a_dyno("worker.1", condemned="memory")

    assert steps(wish(web=1), old, surplus) == [
        Kill(old, "Error R15 (Memory quota vastly exceeded)"),
        Kill(surplus, "Error R15 (Memory quota vastly exceeded)"),
        Start("web", 1),
    ]


def test_a_dyno_killed_for_its_memory_keeps_its_place_and_rests_like_any_that_crashed() -> None:
    killed = a_dyno(
        "web.1",
        State.CRASHED,
        condemned="memory",
        killed=True,
        crashes=2,
        restart_at=NOW + timedelta(minutes=10),
    )

    assert steps(wish(web=1), killed) == []
    assert steps(wish(web=1), killed, after=600) == [Start("web", 1, 2, killed)]


def test_one_kill_for_its_memory_does_not_fail_a_release() -> None:
    old = a_dyno("web.1", id="old", release_id="r1", release_version=1, routed=True)
    killed = a_dyno("web.1", State.CRASHED, condemned="memory", killed=True, crashes=1)

    assert steps(wish(web=1), old, killed) == [Start("web", 1, 1, killed)]
    assert steps(wish(web=1), old, replace(killed, crashes=2)) == [
        FailRelease("r2", "r1", replace(killed, crashes=2))
    ]


def others(dyno: Dyno) -> list[Dyno]:
    """The rest of one web and one worker."""
    return [a_dyno(name) for name in ("web.1", "worker.1") if name != dyno.name]


def test_an_exit_of_zero_is_a_crash_for_a_formation_dyno() -> None:
    after = plan.notice(a_dyno("web.1"), seen(status=0), NOW, LIMITS)

    assert (after.state, after.exit_status, after.crashes) == (State.CRASHED, 0, 1)


def test_a_one_off_that_exits_is_complete_whatever_its_status() -> None:
    assert plan.notice(a_dyno("run.1"), seen(status=3), NOW, LIMITS).state is State.COMPLETE


def test_a_stopping_dyno_that_exits_is_down() -> None:
    assert (
        plan.notice(a_dyno("web.1", State.STOPPING), seen(status=143), NOW, LIMITS).state
        is State.DOWN
    )


def test_the_first_crash_restarts_at_once_and_later_ones_rest_longer_each_time() -> None:
    rests = [
        plan.notice(a_dyno("web.1", crashes=crashes), seen(status=1), NOW, LIMITS).restart_at
        for crashes in (0, 1, 2, 3, 20)
    ]

    assert rests == [
        NOW,
        NOW + timedelta(minutes=10),
        NOW + timedelta(minutes=20),
        NOW + timedelta(minutes=40),
        NOW + timedelta(hours=24),
    ]


def test_a_crash_after_ten_minutes_up_restarts_at_once_again() -> None:
    long_up = a_dyno("web.1", crashes=5, state_since=NOW - timedelta(minutes=10))

    assert plan.notice(long_up, seen(status=1), NOW, LIMITS).restart_at == NOW


@pytest.mark.parametrize(
    ("sighting", "reason"),
    [
        (None, "The dyno's process is gone; the machine may have restarted"),
        (seen(status=127), "Command not found: serve"),
        (seen(status=126), "Command cannot be executed: serve"),
        (seen(status=137, oom=True), "Error R15 (Memory quota vastly exceeded)"),
        (seen(status=137, oom=True, peak=1 << 30), "Error R15 (Memory quota vastly exceeded)"),
        (seen(status=137, oom=True, peak=1 << 28), "The machine is out of memory"),
        (seen(status=1), None),
    ],
)
def test_a_crash_says_why(sighting: Sighting | None, reason: str | None) -> None:
    assert plan.notice(a_dyno("web.1"), sighting, NOW, LIMITS).reason == reason


def test_a_clock_that_is_set_back_changes_no_wait() -> None:
    later = NOW + timedelta(hours=1)
    crashed = a_dyno(
        "web.1", State.CRASHED, state_since=later, restart_at=later + timedelta(minutes=10)
    )
    stubborn = a_dyno("web.1", State.STOPPING, state_since=later, signalled_at=later)

    assert plan.rebase(crashed, NOW).restart_at == NOW + timedelta(minutes=10)
    assert plan.rebase(stubborn, NOW).signalled_at == NOW
    assert plan.rebase(stubborn, later) is stubborn


def test_a_running_dyno_is_left_as_it_is() -> None:
    dyno = a_dyno("web.1")

    assert plan.notice(dyno, seen(running=True), NOW, LIMITS) is dyno

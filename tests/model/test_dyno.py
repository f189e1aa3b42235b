"""The table of a dyno's life."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deodar.model import dyno, errors
from deodar.model.app import AppId
from deodar.model.dyno import MOVES, PROCESSLESS, SHOWN, Dyno, Event, Kind, State

NOW = datetime(2030, 1, 1, tzinfo=UTC)

WEB = Dyno(
    id="id",
    app_id=AppId("app"),
    type="web",
    number=1,
    kind=Kind.FORMATION,
    size="Basic",
    command="serve",
    release_id="r",
    release_version=1,
    slug_id="s",
    state_since=NOW,
    created_at=NOW,
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_a_dyno_moves_by_the_table_and_in_no_other_way(state: State, event: Event) -> None:
    later = NOW + timedelta(seconds=1)
    before = replace(WEB, state=state)

    if (state, event) in MOVES:
        assert before.on(event, later) == replace(
            before, state=MOVES[state, event], state_since=later
        )
    else:
        with pytest.raises(errors.IllegalTransition):
            before.on(event, later)


@pytest.mark.parametrize("state", [State.STARTING, State.UP])
def test_a_one_off_that_exits_is_complete(state: State) -> None:
    assert (
        replace(WEB, kind=Kind.ONE_OFF, state=state).on(Event.EXITED, NOW).state is State.COMPLETE
    )


def test_every_state_can_be_shown_and_every_one_that_is_not_gone_can_end() -> None:
    assert set(SHOWN) == set(State)
    assert {state for state, _ in MOVES} >= set(State) - {State.COMPLETE, State.DOWN}
    assert all((state, Event.EXITED) in MOVES for state in set(State) - PROCESSLESS)


def test_restarts_rest_at_most_a_day() -> None:
    minutes = [dyno.backoff(crashes).total_seconds() / 60 for crashes in range(12)]

    assert minutes == [0, 0, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]

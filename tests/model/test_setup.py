"""The life of a set-up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deodar.model import errors
from deodar.model.app import AppId, ConfigVars
from deodar.model.setup import ENDED, MOVES, Event, Setup, State

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SETUP = Setup(
    id="1",
    app_id=AppId("a"),
    app_name="shop",
    user="ada@example.com",
    source=ConfigVars(url="https://example.com/secret"),
    created_at=NOW,
    updated_at=NOW,
)


def test_a_move_is_made_and_its_moment_kept() -> None:
    later = NOW + timedelta(seconds=1)

    assert SETUP.on(Event.APPLIED, later) == replace(SETUP, state=State.BUILD, updated_at=later)


@pytest.mark.parametrize("state", State)
def test_every_state_is_left_by_failing_or_is_the_end(state: State) -> None:
    assert ((state, Event.FAILED) in MOVES) == (state not in ENDED)


def test_what_has_ended_does_not_move() -> None:
    with pytest.raises(errors.IllegalTransition):
        replace(SETUP, state=State.FAILED).on(Event.APPLIED, NOW)


def test_the_api_shows_three_of_the_states() -> None:
    shown = {state: replace(SETUP, state=state).status for state in State}

    assert shown == {
        State.SOURCE: "pending",
        State.BUILD: "pending",
        State.POSTDEPLOY: "pending",
        State.SUCCEEDED: "succeeded",
        State.FAILED: "failed",
    }


def test_where_the_source_lies_is_not_printed() -> None:
    assert "secret" not in repr(SETUP)

"""What is to be done about an app's pending releases? Answers with one step; takes none itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deodar.model.dyno import Dyno, Kind, State
from deodar.model.release import Release


@dataclass(frozen=True, slots=True)
class Begin:
    """Its release phase has no dyno yet."""

    release: Release


@dataclass(frozen=True, slots=True)
class Attend:
    """Its release phase runs or has ended: its output is to be kept and its end to be judged."""

    release: Release
    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Stand:
    """It has no release phase, and none before it is undecided."""

    release: Release


Step = Begin | Attend | Stand


def plan(pending: Sequence[Release], dynos: Iterable[Dyno]) -> Step | None:
    """The step for the oldest pending release: they stand or fall in the order of their numbers."""
    if not pending:
        return None
    release = pending[0]
    if release.command is None:
        return Stand(release)
    for dyno in dynos:
        if dyno.kind is Kind.ONE_OFF and dyno.release_id == release.id:
            return Attend(release, dyno)
    return Begin(release)


def failure(dyno: Dyno) -> str | None:
    """Why the release phase that has ended so is a failure; None if it is none."""
    if dyno.state is State.COMPLETE:
        return None if dyno.exit_status == 0 else dyno.cause
    if dyno.state is State.DOWN:
        return "It was stopped" if dyno.replaced else f"It ran longer than {_life(dyno)}"
    return dyno.cause


def _life(dyno: Dyno) -> str:
    seconds = dyno.time_to_live or 0
    return f"{seconds} seconds" if seconds < 120 else f"{seconds / 60:g} minutes"

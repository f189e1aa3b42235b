"""What should the manifold do next for one app? Answers with steps; takes none itself.

`notice` turns what the engine saw into the dyno's next state; `plan` compares wish and dynos. Every
dyno gets at most one step, the first reason wins.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from deodar.engines.base import Sighting
from deodar.model import dyno as rules
from deodar.model.dyno import GONE, Dyno, Event, Kind, State
from deodar.model.formation import ProcessType


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a dyno may take; settings."""

    boot: timedelta = rules.BOOT_TIMEOUT
    stop: timedelta = rules.STOP_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an app's owner wants to be running."""

    release_id: str
    formation: tuple[ProcessType, ...]

    def of(self, dyno: Dyno) -> ProcessType | None:
        """The line of the formation that wishes for this dyno, if one does."""
        for each in self.formation:
            if each.type == dyno.type and dyno.number <= each.quantity:
                return each
        return None


@dataclass(frozen=True, slots=True)
class Start:
    """A formation dyno is wished and not there."""

    type: str
    number: int
    crashes: int = 0  #: that it takes over from the one it stands in for
    instead_of: Dyno | None = None  #: a crashed one, whose record goes


@dataclass(frozen=True, slots=True)
class Launch:
    """Its record is there, its process is not."""

    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Stop:
    """It shall end: the router lets go of it first."""

    dyno: Dyno
    why: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM to all of its processes."""

    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL; `error` is the R code's line for the owner."""

    dyno: Dyno
    error: str


@dataclass(frozen=True, slots=True)
class Forget:
    """It has ended and nobody needs its record."""

    dyno: Dyno


Step = Start | Launch | Stop | Terminate | Kill | Forget


def notice(dyno: Dyno, sighting: Sighting | None, now: datetime) -> Dyno:
    """The dyno as it is after a look at the engine; unchanged while all is as it was."""
    if not dyno.runs or (sighting is not None and sighting.running):
        return dyno
    status = sighting.exit_status if sighting else None
    ended = replace(
        dyno.on(Event.EXITED, now),
        exit_status=status,
        reason=dyno.reason or explain(dyno, sighting),
    )
    return crash(ended, since=dyno, now=now) if ended.state is State.CRASHED else ended


def refuse(dyno: Dyno, reason: str, now: datetime) -> Dyno:
    """The dyno, which the engine could not start."""
    refused = replace(dyno.on(Event.REFUSED, now), reason=reason)
    return crash(refused, since=dyno, now=now)


def crash(crashed: Dyno, *, since: Dyno, now: datetime) -> Dyno:
    """When a crashed dyno starts again: at once after a long run, else later each time."""
    ran_long = since.state is State.UP and now - since.state_since >= rules.LONG_RUN
    crashes = 1 if ran_long else since.crashes + 1
    return replace(crashed, crashes=crashes, restart_at=now + rules.backoff(crashes))


def explain(dyno: Dyno, sighting: Sighting | None) -> str | None:
    """Why it ended, in a sentence for its owner; None where the exit status says it all."""
    if sighting is None or sighting.exit_status is None:
        return "The dyno's process is gone; the machine may have restarted"
    if sighting.oom_killed:
        return "Error R15 (Memory quota vastly exceeded)"
    if sighting.exit_status == 127:
        return f"Command not found: {dyno.command}"
    if sighting.exit_status == 126:
        return f"Command cannot be executed: {dyno.command}"
    return None


def plan(wish: Wish, dynos: Sequence[Dyno], now: datetime, limits: Limits) -> list[Step]:
    """The steps to take now, at most one for each dyno, and one for each gap in the formation."""
    steps = [step for dyno in dynos if (step := judge(dyno, wish, dynos, now, limits)) is not None]
    return steps + fill(wish, dynos)


def judge(
    dyno: Dyno, wish: Wish, dynos: Collection[Dyno], now: datetime, limits: Limits
) -> Step | None:
    """The one thing to do about this dyno, if any."""
    match dyno.state:
        case State.PROVISIONING:
            return Launch(dyno) if unwanted(dyno, wish, now) is None else Forget(dyno)
        case State.STARTING | State.UP:
            return judge_running(dyno, wish, dynos, now, limits)
        case State.STOPPING:
            return judge_stopping(dyno, now, limits)
        case State.CRASHED if stands(dyno, wish) and not stood_in_for(dyno, wish, dynos):
            due = dyno.restart_at is None or now >= dyno.restart_at
            return Start(dyno.type, dyno.number, dyno.crashes, dyno) if due else None
        case State.CRASHED | State.COMPLETE | State.DOWN:
            return Forget(dyno)


def judge_running(
    dyno: Dyno, wish: Wish, dynos: Collection[Dyno], now: datetime, limits: Limits
) -> Step | None:
    why = unwanted(dyno, wish, now)
    if why is not None and (
        why in STOPS_AT_ONCE or not dyno.is_web or succeeded(dyno, wish, dynos)
    ):
        return Stop(dyno, why)
    if dyno.state is State.STARTING and now - dyno.state_since >= limits.boot and not dyno.killed:
        seconds = f"{limits.boot.total_seconds():g}"
        return Kill(
            dyno,
            f"Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {seconds} "
            "seconds of launch",
        )
    return None


def judge_stopping(dyno: Dyno, now: datetime, limits: Limits) -> Step | None:
    if dyno.signalled_at is None:
        # A request that is being answered may finish: the router lets go before SIGTERM is sent.
        return None if dyno.routed else Terminate(dyno)
    if now - dyno.signalled_at >= limits.stop and not dyno.killed:
        seconds = f"{limits.stop.total_seconds():g}"
        return Kill(
            dyno,
            f"Error R12 (Exit timeout) -> Process failed to exit within {seconds} seconds of SIGTERM",
        )
    return None


#: reasons that do not wait for a successor to serve in a web dyno's place
STOPS_AT_ONCE = frozenset({"surplus", "stop"})


def unwanted(dyno: Dyno, wish: Wish, now: datetime) -> str | None:
    """Why this dyno should not be, or not as it is."""
    if dyno.kind is Kind.ONE_OFF:
        if dyno.condemned is not None:
            return "stop"
        lives = dyno.time_to_live
        return (
            "expired"
            if lives is not None and now - dyno.created_at >= timedelta(seconds=lives)
            else None
        )
    wished = wish.of(dyno)
    if wished is None:
        return "surplus"
    if dyno.condemned is not None:
        return dyno.condemned
    if dyno.release_id != wish.release_id:
        return "release"
    return "size" if dyno.size != wished.size else None


def stands(dyno: Dyno, wish: Wish) -> bool:
    """Whether this dyno is the one that its place in the formation wishes for."""
    wished = wish.of(dyno)
    return (
        dyno.kind is Kind.FORMATION
        and wished is not None
        and dyno.condemned is None
        and dyno.release_id == wish.release_id
        and dyno.size == wished.size
        and dyno.state not in (State.STOPPING, State.DOWN, State.COMPLETE)
    )


def stood_in_for(dyno: Dyno, wish: Wish, dynos: Iterable[Dyno]) -> bool:
    """Whether a newer dyno stands in this one's place."""
    return any(
        (other.created_at, other.id) > (dyno.created_at, dyno.id)
        and other.name == dyno.name
        and stands(other, wish)
        for other in dynos
    )


def succeeded(dyno: Dyno, wish: Wish, dynos: Iterable[Dyno]) -> bool:
    """Whether another dyno serves in this one's place already."""
    return any(
        other.id != dyno.id
        and other.name == dyno.name
        and stands(other, wish)
        and other.state is State.UP
        and other.routed
        for other in dynos
    )


def fill(wish: Wish, dynos: Sequence[Dyno]) -> list[Step]:
    """A Start for each place in the formation where no dyno stands, lowest numbers first."""
    taken = {(dyno.type, dyno.number) for dyno in dynos if stands(dyno, wish)}
    return [
        Start(each.type, number)
        for each in wish.formation
        for number in range(1, each.quantity + 1)
        if (each.type, number) not in taken
    ]


def next_look(dynos: Iterable[Dyno], now: datetime, limits: Limits) -> float | None:
    """Seconds until time alone makes something due; None if only an event can."""
    dues = [due for dyno in dynos if (due := due_at(dyno, limits)) is not None]
    return max(0.0, (min(dues) - now).total_seconds()) if dues else None


def due_at(dyno: Dyno, limits: Limits) -> datetime | None:
    match dyno.state:
        case State.STARTING if not dyno.killed:
            return dyno.state_since + limits.boot
        case State.STOPPING if dyno.signalled_at is not None and not dyno.killed:
            return dyno.signalled_at + limits.stop
        case State.CRASHED:
            return dyno.restart_at
        case State.UP if dyno.time_to_live is not None:
            return dyno.created_at + timedelta(seconds=dyno.time_to_live)
    return None


def ended(dynos: Iterable[Dyno]) -> list[Dyno]:
    """Those that need no container any more."""
    return [dyno for dyno in dynos if dyno.state in GONE]

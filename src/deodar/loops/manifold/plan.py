"""What should the manifold do next for one app? Answers with steps; takes none itself.

`notice` turns what the engine saw into the dyno's next state; `plan` compares wish and dynos. Every
dyno gets at most one step, the first reason wins.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from deodar.engines.base import Sighting
from deodar.model import dyno as rules
from deodar.model.dyno import Dyno, Event, Kind, State
from deodar.model.formation import ProcessType, size_of
from deodar.model.idling import Depth
from deodar.model.idling import Sleep as SleepWish


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a dyno may take, run and rest; settings."""

    boot: timedelta = rules.BOOT_TIMEOUT
    stop: timedelta = rules.STOP_TIMEOUT
    first_rest: timedelta = rules.FIRST_REST
    last_rest: timedelta = rules.LAST_REST
    cycle: timedelta = rules.CYCLE
    cycle_spread: timedelta = rules.CYCLE_SPREAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an app's owner wants to be running."""

    release_id: str
    formation: tuple[ProcessType, ...]
    preboot: bool = True  #: a web dyno stops when its successor serves, not before
    cycling: str | None = None  #: id of the dyno whose turn it is
    pending: frozenset[str] = frozenset()  #: releases that wait for their release phase
    awaited: frozenset[str] = frozenset()  #: ids of dynos whose end others wait for
    sleep: SleepWish | None = None  #: how the app sleeps, if it does

    def lies(self, process_type: str) -> bool:
        """Whether dynos of that type are to sleep."""
        return self.sleep is not None and self.sleep.takes(process_type)

    def of(self, dyno: Dyno) -> ProcessType | None:
        """The line of the formation that wishes for this dyno, if one does."""
        for each in self.formation:
            if each.type == dyno.type and dyno.number <= each.quantity:
                return each
        return None


@dataclass(frozen=True, slots=True)
class FailRelease:
    """Its web dynos do not come up, and those of an older release still serve: back to that one."""

    release_id: str
    back_to: str
    dyno: Dyno  #: that crashed


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
class Freeze:
    """Nobody asks for it: it shall stand still."""

    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Park:
    """As Start, of an app that sleeps: a record, and no process until somebody asks."""

    type: str
    number: int


@dataclass(frozen=True, slots=True)
class Thaw:
    """Somebody asks for it: it goes on."""

    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Forget:
    """It has ended and nobody needs its record."""

    dyno: Dyno


Step = Start | Launch | Stop | Terminate | Kill | Freeze | Thaw | Park | Forget | FailRelease


def notice(dyno: Dyno, sighting: Sighting | None, now: datetime, limits: Limits) -> Dyno:
    """The dyno as it is after a look at the engine; unchanged while all is as it was."""
    if not dyno.runs:
        return dyno
    if sighting is not None and sighting.running:
        return notice_stillness(dyno, sighting, now)
    status = sighting.exit_status if sighting else None
    ended = replace(
        dyno.on(Event.EXITED, now),
        exit_status=status,
        reason=dyno.reason or explain(dyno, sighting),
    )
    return crash(ended, dyno, now, limits) if ended.state is State.CRASHED else ended


def notice_stillness(dyno: Dyno, sighting: Sighting, now: datetime) -> Dyno:
    """One that runs, and whether it stands still: after a kill between the deed and its record."""
    if dyno.state is State.UP and sighting.frozen:
        return dyno.on(Event.SLEPT, now)
    if dyno.state is State.IDLE and not sighting.frozen:
        return dyno.on(Event.WOKEN, now)
    return dyno


def rebase(dyno: Dyno, now: datetime) -> Dyno:
    """The dyno with its moments moved into a past that there is, after the clock was set back: what
    was due in a minute is due in a minute still."""
    if dyno.state_since <= now:
        return dyno
    back = dyno.state_since - now
    return replace(
        dyno,
        state_since=now,
        created_at=min(dyno.created_at, now),
        signalled_at=dyno.signalled_at and dyno.signalled_at - back,
        restart_at=dyno.restart_at and dyno.restart_at - back,
    )


def refuse(dyno: Dyno, reason: str, now: datetime, limits: Limits) -> Dyno:
    """The dyno, which the engine could not start."""
    refused = replace(dyno.on(Event.REFUSED, now), reason=reason)
    return crash(refused, dyno, now, limits)


def crash(crashed: Dyno, before: Dyno, now: datetime, limits: Limits) -> Dyno:
    """When a crashed dyno starts again: at once after a long run, else later each time."""
    ran_long = before.state is State.UP and now - before.state_since >= rules.LONG_RUN
    crashes = 1 if ran_long else before.crashes + 1
    rest = rules.backoff(crashes, first=limits.first_rest, last=limits.last_rest)
    return replace(crashed, crashes=crashes, restart_at=now + rest)


def explain(dyno: Dyno, sighting: Sighting | None) -> str | None:
    """Why it ended, in a sentence for its owner; None where the exit status says it all."""
    if sighting is None or sighting.exit_status is None:
        return "The dyno's process is gone; the machine may have restarted"
    if sighting.oom_killed:
        at_fault = sighting.peak is None or sighting.peak > size_of(dyno.size).memory
        return rules.R15 if at_fault else "The machine is out of memory"
    if sighting.exit_status == 127:
        return f"Command not found: {dyno.command}"
    if sighting.exit_status == 126:
        return f"Command cannot be executed: {dyno.command}"
    return None


def plan(wish: Wish, dynos: Sequence[Dyno], now: datetime, limits: Limits) -> list[Step]:
    """The steps to take now, at most one for each dyno, and one for each gap in the formation."""
    failure = fail(wish, dynos)
    if failure is not None:
        return [failure]
    wish = replace(wish, cycling=turn(dynos, now, limits))
    steps = [step for dyno in dynos if (step := judge(dyno, wish, dynos, now, limits)) is not None]
    return steps + fill(wish, dynos)


def fail(wish: Wish, dynos: Collection[Dyno]) -> FailRelease | None:
    """Whether the current release is to be given up: a web dyno of it crashed for the second time or
    never bound, while one of an older release still serves. A kill for its memory is a crash as others."""
    web = [dyno for dyno in dynos if dyno.is_web]
    serving = [dyno for dyno in web if dyno.routed and dyno.release_id != wish.release_id]
    crashed = [
        dyno
        for dyno in web
        if dyno.release_id == wish.release_id
        and dyno.state is State.CRASHED
        and (dyno.crashes > 1 or (dyno.killed and dyno.condemned != "memory"))
    ]
    if not (wish.preboot and serving and crashed):
        return None
    newest = max(serving, key=lambda dyno: dyno.release_version)
    return FailRelease(wish.release_id, newest.release_id, crashed[0])


def turn(dynos: Iterable[Dyno], now: datetime, limits: Limits) -> str | None:
    """The id of the one dyno that is to be cycled now: the oldest of those that are due."""
    due = [
        dyno
        for dyno in dynos
        if dyno.state is State.UP
        and dyno.kind is Kind.FORMATION
        and now >= rules.cycles_at(dyno, every=limits.cycle, spread=limits.cycle_spread)
    ]
    return min(due, key=lambda dyno: (dyno.state_since, dyno.id)).id if due else None


def judge(
    dyno: Dyno, wish: Wish, dynos: Collection[Dyno], now: datetime, limits: Limits
) -> Step | None:
    """The one thing to do about this dyno, if any."""
    match dyno.state:
        case State.PROVISIONING:
            wanted = unwanted(dyno, wish, now) is None or is_phase(dyno, wish)
            return Launch(dyno) if wanted else Forget(dyno)
        case State.PARKED:
            if unwanted(dyno, wish, now) is not None:
                return Forget(dyno)
            return None if wish.lies(dyno.type) else Launch(dyno)
        case State.STARTING | State.UP | State.IDLE:
            return judge_running(dyno, wish, dynos, now, limits)
        case State.STOPPING:
            return judge_stopping(dyno, now, limits)
        case State.CRASHED if stands(dyno, wish) and not stood_in_for(dyno, wish, dynos):
            due = dyno.restart_at is None or now >= dyno.restart_at
            return Start(dyno.type, dyno.number, dyno.crashes, dyno) if due else None
        case State.CRASHED | State.COMPLETE | State.DOWN:
            kept = is_phase(dyno, wish) or dyno.id in wish.awaited
            return None if kept else Forget(dyno)


def is_phase(dyno: Dyno, wish: Wish) -> bool:
    """Whether this is the release phase of a release that is not decided: its end, not only its life,
    is needed for that."""
    return dyno.kind is Kind.ONE_OFF and dyno.release_id in wish.pending


def judge_running(
    dyno: Dyno, wish: Wish, dynos: Collection[Dyno], now: datetime, limits: Limits
) -> Step | None:
    if dyno.condemned == "memory":
        return None if dyno.killed else Kill(dyno, rules.R15)
    why = unwanted(dyno, wish, now)
    if why is not None and not stays(dyno, why, wish, dynos):
        return Stop(dyno, why)
    if dyno.state is State.STARTING and now - dyno.state_since >= limits.boot and not dyno.killed:
        seconds = f"{limits.boot.total_seconds():g}"
        return Kill(
            dyno,
            f"Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {seconds} "
            "seconds of launch",
        )
    if dyno.kind is Kind.FORMATION and wish.sleep is not None and wish.lies(dyno.type):
        return lay(dyno, wish.sleep)
    return Thaw(dyno) if dyno.state is State.IDLE else None


def lay(dyno: Dyno, sleep: SleepWish) -> Step | None:
    """How one that runs comes to sleep. What boots still is let boot; the router lets go of it first."""
    if dyno.routed or dyno.state is State.STARTING:
        return None
    if sleep.depth is Depth.STOPPED:
        return Stop(dyno, "idle")
    return Freeze(dyno) if dyno.state is State.UP else None


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


#: reasons that wait for nobody
STOPS_AT_ONCE = frozenset({"surplus", "stop", "expired"})


def stays(dyno: Dyno, why: str, wish: Wish, dynos: Collection[Dyno]) -> bool:
    """Whether an unwanted dyno runs on for now: until another does its work."""
    if why in STOPS_AT_ONCE:
        return False
    if why == "cycling" or (dyno.is_web and wish.preboot):
        return not succeeded(dyno, wish, dynos)
    return held(dyno, wish, dynos)


def held(dyno: Dyno, wish: Wish, dynos: Iterable[Dyno]) -> bool:
    """Whether a dyno that is not web waits with its release's web dynos: if those do not come up, the
    release fails, and it need not have been touched."""
    return (
        wish.preboot
        and dyno.kind is Kind.FORMATION
        and not dyno.is_web
        and not dyno.replaced
        and dyno.release_id != wish.release_id
        and dyno.state in (State.STARTING, State.UP)
        and wish.of(dyno) is not None
        and any(
            other.is_web and other.release_id == dyno.release_id and other.state is State.UP
            for other in dynos
        )
    )


def unwanted(dyno: Dyno, wish: Wish, now: datetime) -> str | None:
    """Why this dyno should not be, or not as it is."""
    if dyno.kind is Kind.ONE_OFF:
        if dyno.replaced:
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
    if dyno.replaced:
        return dyno.condemned
    if dyno.release_id != wish.release_id:
        return "release"
    if dyno.size != wished.size:
        return "size"
    return "cycling" if dyno.id == wish.cycling else None


def stands(dyno: Dyno, wish: Wish) -> bool:
    """Whether this dyno is the one that its place in the formation wishes for."""
    wished = wish.of(dyno)
    return (
        dyno.kind is Kind.FORMATION
        and wished is not None
        and not dyno.replaced
        and dyno.release_id == wish.release_id
        and dyno.size == wished.size
        and dyno.id != wish.cycling
        and dyno.state not in (State.STOPPING, State.DOWN, State.COMPLETE)
        # Who sleeps has not crashed: it is parked in its place.
        and not (dyno.state is State.CRASHED and wish.lies(dyno.type))
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
        and (other.routed or not other.is_web)
        for other in dynos
    )


def fill(wish: Wish, dynos: Sequence[Dyno]) -> list[Step]:
    """A Start, or Park, for each place in the formation where no dyno stands, lowest numbers first."""
    taken = {
        (dyno.type, dyno.number) for dyno in dynos if stands(dyno, wish) or held(dyno, wish, dynos)
    }
    return [
        Park(each.type, number) if wish.lies(each.type) else Start(each.type, number)
        for each in wish.formation
        for number in range(1, each.quantity + 1)
        if (each.type, number) not in taken
    ]


def next_look(dynos: Iterable[Dyno], now: datetime, limits: Limits) -> float | None:
    """Seconds until time alone makes something due; None if only an event can. What is due by `now`
    has its step, or waits for another dyno."""
    dues = [due for dyno in dynos if (due := due_at(dyno, limits)) is not None and due > now]
    return (min(dues) - now).total_seconds() if dues else None


def due_at(dyno: Dyno, limits: Limits) -> datetime | None:
    match dyno.state:
        case State.STARTING if not dyno.killed:
            return dyno.state_since + limits.boot
        case State.STOPPING if dyno.signalled_at is not None and not dyno.killed:
            return dyno.signalled_at + limits.stop
        case State.CRASHED:
            return dyno.restart_at
        case State.UP if dyno.kind is Kind.FORMATION:
            return rules.cycles_at(dyno, every=limits.cycle, spread=limits.cycle_spread)
        case State.UP if dyno.time_to_live is not None:
            return dyno.created_at + timedelta(seconds=dyno.time_to_live)
    return None

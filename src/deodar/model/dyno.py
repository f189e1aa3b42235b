"""What a Dyno is and the one table of its life; deciding what to do with it is the manifold's.

A dyno moves only by `dyno.on(event, now)`. What is not in MOVES cannot happen: IllegalTransition.
The states that the API shows are `starting`, `up`, `idle`, `crashed`, `down`; `provisioning` is
shown as `starting`, `stopping` as `up` until it is gone, `complete` as `down`, `parked` as `idle`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from deodar.model import errors
from deodar.model.app import AppId, ConfigVars


class State(StrEnum):
    PROVISIONING = "provisioning"  #: wished; nothing runs yet
    STARTING = "starting"  #: its process runs; a web dyno does not accept yet
    UP = "up"
    IDLE = "idle"  #: up, but it stands still until somebody asks for it
    PARKED = "parked"  #: not even that: it has no process until somebody asks for it
    STOPPING = "stopping"  #: to be stopped; drains first, then has 30 s after SIGTERM
    CRASHED = "crashed"  #: ended unasked; will be started again
    COMPLETE = "complete"  #: a one-off that ended
    DOWN = "down"  #: stopped by wish; its record goes next


class Event(StrEnum):
    LAUNCHED = "launched"  #: the engine runs its process
    BOUND = "bound"  #: accepts on its port; for a dyno without one, at once after launch
    SLEPT = "slept"  #: nobody asked for it for long
    WOKEN = "woken"  #: somebody did
    STOP = "stop"  #: somebody wishes it to end
    EXITED = "exited"  #: its process ended, or is nowhere to be found
    REFUSED = "refused"  #: the engine could not start it: image missing, exec format


class Kind(StrEnum):
    FORMATION = "formation"  #: kept running by the manifold
    ONE_OFF = "one-off"  #: runs once: `heroku run`


MOVES: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.PROVISIONING, Event.LAUNCHED): State.STARTING,
        (State.PROVISIONING, Event.REFUSED): State.CRASHED,
        (State.PROVISIONING, Event.STOP): State.STOPPING,
        (State.STARTING, Event.BOUND): State.UP,
        (State.STARTING, Event.EXITED): State.CRASHED,
        (State.STARTING, Event.STOP): State.STOPPING,
        (State.UP, Event.EXITED): State.CRASHED,
        (State.UP, Event.STOP): State.STOPPING,
        (State.UP, Event.SLEPT): State.IDLE,
        (State.IDLE, Event.WOKEN): State.UP,
        (State.IDLE, Event.EXITED): State.CRASHED,
        (State.IDLE, Event.STOP): State.STOPPING,
        (State.PARKED, Event.LAUNCHED): State.STARTING,
        (State.PARKED, Event.REFUSED): State.CRASHED,
        (State.STOPPING, Event.STOP): State.STOPPING,
        (State.STOPPING, Event.EXITED): State.DOWN,
        (State.CRASHED, Event.STOP): State.DOWN,
    }
)

#: those that end a process which does not handle them; a status over 128 tells of one
SIGNALS = MappingProxyType(
    {
        1: "SIGHUP",
        2: "SIGINT",
        3: "SIGQUIT",
        4: "SIGILL",
        6: "SIGABRT",
        7: "SIGBUS",
        8: "SIGFPE",
        9: "SIGKILL",
        11: "SIGSEGV",
        13: "SIGPIPE",
        15: "SIGTERM",
    }
)

R15 = "Error R15 (Memory quota vastly exceeded)"

#: what a one-off's end means instead: it is done, whatever the status
ENDS_COMPLETE = frozenset({State.STARTING, State.UP})

#: what `heroku run --exit-code` adds to a command
EXIT_CODE = ' ; echo "\uffff heroku-command-exit-status: $?"'

GONE = frozenset({State.CRASHED, State.COMPLETE, State.DOWN})
PROCESSLESS = GONE | {State.PROVISIONING, State.PARKED}
SHOWN = MappingProxyType(
    {
        State.PROVISIONING: "starting",
        State.STARTING: "starting",
        State.UP: "up",
        State.IDLE: "idle",
        State.PARKED: "idle",
        State.STOPPING: "up",
        State.CRASHED: "crashed",
        State.COMPLETE: "down",
        State.DOWN: "down",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dyno:
    """One dyno: a process in its own container, wished or running (devcenter: dynos)."""

    id: str
    app_id: AppId
    type: str  #: process type, `run` for a one-off
    number: int
    kind: Kind
    size: str
    command: str
    release_id: str
    release_version: int
    slug_id: str | None
    state: State = State.PROVISIONING
    state_since: datetime
    created_at: datetime
    address: str | None = None  #: IP address inside the machine, once launched
    port: int | None = None  #: what PORT tells it; web dynos only
    routed: bool = False  #: the router may send it requests
    condemned: str | None = None  #: why it shall go: `restart`, `stop`; `memory` kills it
    signalled_at: datetime | None = None  #: when SIGTERM was sent
    killed: bool = False  #: SIGKILL was sent
    exit_status: int | None = None  #: of its last run; 128+n for signal n
    reason: str | None = None  #: why it ended, for the owner
    fate: str | None = None  #: why the crashed one that it stands in for ended
    crashes: int = 0  #: in a row, since the last release or long run
    restart_at: datetime | None = None  #: when a crashed one may start again
    attached: bool = False  #: somebody's terminal is, or will be, on it
    tty: bool = False
    env: ConfigVars = field(default_factory=ConfigVars)  #: its own, over the release's config
    time_to_live: int | None = None  #: seconds; one-off only

    @property
    def name(self) -> str:
        return f"{self.type}.{self.number}"

    @property
    def cause(self) -> str:
        """Why it ended, for its owner, in a sentence without its end."""
        if self.reason is not None:
            return self.reason
        status = self.exit_status
        if status is None:
            return "Its process ended and nobody knows how"
        name = SIGNALS.get(status - 128)
        return f"Process exited with status {status}" + (f" ({name})" if name else "")

    @property
    def is_web(self) -> bool:
        return self.type == "web" and self.kind is Kind.FORMATION

    @property
    def replaced(self) -> bool:
        """Whether somebody wishes another in its place. One that is killed for its memory crashes: its
        place is still its own."""
        return self.condemned is not None and self.condemned != "memory"

    @property
    def runs(self) -> bool:
        """Whether the engine should have a container for it."""
        return self.state not in PROCESSLESS

    def on(self, event: Event, now: datetime) -> "Dyno":
        """This dyno after `event`. Raises IllegalTransition where the table has no such move."""
        target = MOVES.get((self.state, event))
        if target is None:
            raise errors.IllegalTransition(f"{self.name} is {self.state}: cannot take {event}")
        if self.kind is Kind.ONE_OFF and event is Event.EXITED and self.state in ENDS_COMPLETE:
            target = State.COMPLETE
        return replace(self, state=target, state_since=now)


#: how long things may take (devcenter: dynos); each is a setting
BOOT_TIMEOUT = timedelta(seconds=60)
STOP_TIMEOUT = timedelta(seconds=30)
LONG_RUN = timedelta(minutes=10)  #: a crash after so long up restarts at once
FIRST_REST = timedelta(minutes=10)
LAST_REST = timedelta(hours=24)
CYCLE = timedelta(hours=24)
CYCLE_SPREAD = timedelta(minutes=216)  #: added at random, so that not all cycle at once


def backoff(
    crashes: int, *, first: timedelta = FIRST_REST, last: timedelta = LAST_REST
) -> timedelta:
    """How long a dyno rests before its next start after so many crashes in a row.

    The first restart is immediate, then 10, 20, 40 minutes … up to 24 hours (devcenter: dynos,
    "Dyno crash restart policy").
    """
    if crashes <= 1:
        return timedelta(0)
    # 2**20 times the first rest is beyond the last for any sane setting; the bound keeps it finite
    return min(first * (1 << min(crashes - 2, 20)), last)


def cycles_at(
    dyno: Dyno, *, every: timedelta = CYCLE, spread: timedelta = CYCLE_SPREAD
) -> datetime:
    """When a dyno that is up is restarted for its own good (devcenter: dynos, "Automatic dyno
    restarts"). At random, but the same each time one asks."""
    share = int.from_bytes(dyno.id.encode()[-4:], "big") % 10_000 / 10_000
    return dyno.state_since + every + spread * share

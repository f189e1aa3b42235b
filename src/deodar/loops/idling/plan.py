"""Which apps are to sleep, and which sleepers to sink deeper? Answers with steps; takes none itself.

Each app gets at most one step. What wakes an app is not decided here: a request does, or its owner.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from deodar.model.dyno import GONE, Dyno, Kind, State
from deodar.model.formation import MB, ProcessType
from deodar.model.idling import Bed, Defaults, Depth, Policy, Sleep

SCARCE = 0.1  #: of the machine's memory; with less than that free, sleepers sink before their time
ROOM = 64 * MB  #: bytes of swap below which there is no room for another's memory
AT_ONCE = 4  #: sleepers that sink in one look when memory is scarce, the oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One app as the store has it."""

    app_id: str
    policy: Policy
    web: ProcessType | None  #: its line of the formation
    dynos: tuple[Dyno, ...]
    sleep: Sleep | None = None
    active_at: datetime | None = None  #: somebody asked for it

    @property
    def idle(self) -> tuple[Dyno, ...]:
        """Its dynos that stand still."""
        return tuple(dyno for dyno in self.dynos if dyno.state is State.IDLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How the machine is off for memory."""

    available: float = 1.0  #: the share of it that is
    room: int = 0  #: bytes of swap that are free

    @property
    def scarce(self) -> bool:
        return self.available < SCARCE


@dataclass(frozen=True, slots=True)
class FallAsleep:
    """Nobody has asked for it for long."""

    facts: Facts
    sleep: Sleep


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Its memory is to leave RAM."""

    facts: Facts
    sleep: Sleep


@dataclass(frozen=True, slots=True)
class Stop:
    """No process of it is to be left."""

    facts: Facts
    sleep: Sleep


@dataclass(frozen=True, slots=True)
class Wake:
    """It sleeps, and must not by what its policy says now."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class Recount:
    """It was asked for at a moment that is yet to come, the clock having been set back."""

    facts: Facts


Step = FallAsleep | Reclaim | Stop | Wake | Recount


def plan(every: Sequence[Facts], machine: Machine, now: datetime, defaults: Defaults) -> list[Step]:
    steps = {
        facts.app_id: step
        for facts in every
        if (step := judge(facts, machine, now, defaults)) is not None
    }
    if machine.scarce:
        asleep = [facts for facts in every if facts.sleep and facts.app_id not in steps]
        for step in press(asleep, machine):
            steps[step.facts.app_id] = step
    return list(steps.values())


def judge(facts: Facts, machine: Machine, now: datetime, defaults: Defaults) -> Step | None:
    """What time alone brings about for one app."""
    if facts.sleep is not None:
        return judge_asleep(facts, facts.sleep, machine, now, defaults)
    if facts.active_at is not None and facts.active_at > now:
        return Recount(facts)
    if facts.policy.after is None or not may_sleep(facts):
        return None
    if now - silent_since(facts) < facts.policy.after:
        return None
    depth = Depth.STOPPED if facts.policy.bed is Bed.STOP else Depth.FROZEN
    return FallAsleep(facts, Sleep(since=now, depth=depth, workers=facts.policy.workers))


def may_sleep(facts: Facts) -> bool:
    """Whether there is something that a request would wake, all of it serves, and nothing is going on:
    no one-off, no start, no stop. An app of workers only never sleeps."""
    web = [dyno for dyno in facts.dynos if dyno.is_web]
    return (
        facts.web is not None
        and facts.web.quantity > 0
        and len(web) == facts.web.quantity
        and all(dyno.state is State.UP and dyno.condemned is None for dyno in web)
        and not any(dyno.kind is Kind.ONE_OFF and dyno.state not in GONE for dyno in facts.dynos)
    )


def silent_since(facts: Facts) -> datetime:
    """When it was last asked for; one that nobody ever asked for counts from when it came up."""
    moments = [dyno.state_since for dyno in facts.dynos if dyno.is_web]
    return max([*moments, *([facts.active_at] if facts.active_at else [])])


def judge_asleep(
    facts: Facts, sleep: Sleep, machine: Machine, now: datetime, defaults: Defaults
) -> Step | None:
    if facts.policy.after is None:
        return Wake(facts)
    asleep = now - sleep.since
    if facts.policy.bed is Bed.SINK and asleep >= defaults.stop_after and facts.idle:
        return Stop(facts, sleep)
    if asleep >= defaults.reclaim_after and machine.room >= ROOM and facts.idle:
        return Reclaim(facts, sleep) if sleep.depth is Depth.FROZEN else None
    return None


def press(asleep: Sequence[Facts], machine: Machine) -> list[Reclaim | Stop]:
    """Who sinks for want of memory: into swap while there is room, and then those go that have been in
    it for longest."""
    steps: list[Reclaim | Stop] = []
    for facts in sorted(asleep, key=_since):
        if facts.sleep is None or not facts.idle:
            continue
        if machine.room >= ROOM:
            if facts.sleep.depth is Depth.FROZEN:
                steps.append(Reclaim(facts, facts.sleep))
        elif facts.policy.bed is Bed.SINK:
            steps.append(Stop(facts, facts.sleep))
    return steps[:AT_ONCE]


def _since(facts: Facts) -> tuple[float, str]:
    return (facts.sleep.since.timestamp() if facts.sleep else 0.0, facts.app_id)


def moment(told: bytes, now: datetime) -> datetime | None:
    """When a dyno says that it touched its file, as seconds since the epoch; None for anything else. It
    may say what it likes, but not of times to come."""
    text = told.strip()
    if not text.isdigit():
        return None
    return datetime.fromtimestamp(min(int(text), now.timestamp()), UTC)


def touched(facts: Facts, at: datetime, now: datetime) -> datetime:
    """When it was last asked for, after a dyno of it was found to have been busy `at` that time."""
    return max(min(at, now), silent_since(facts))


def since_touched(facts: Facts, at: datetime, now: datetime) -> Facts:
    return replace(facts, active_at=touched(facts, at, now))

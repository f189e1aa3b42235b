"""What is a dyno's owner told of its memory and load, and when must it end? Observes nothing.

What counts against a dyno's quota is what nothing but its own processes can give back: their memory,
what they keep in /tmp, /dev/shm and shared memory, and what of both is swapped. Files that the kernel
keeps in memory because there is room are told, and alarm nobody.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from deodar.engines.base import Usage
from deodar.model.dyno import Dyno
from deodar.model.formation import MB, DynoSize

EXCEEDED = "Error R14 (Memory quota exceeded)"

PERIODS = (
    ("1m", timedelta(minutes=1)),
    ("5m", timedelta(minutes=5)),
    ("15m", timedelta(minutes=15)),
)


class Level(StrEnum):
    WITHIN = "within"
    EXCEEDED = "exceeded"  #: R14: it goes on, at the cost of whoever shares the machine
    VASTLY = "vastly"  #: R15: it must end


@dataclass(frozen=True, slots=True)
class Load:
    """How many threads of a dyno wanted a CPU, on average: of the last one, five and fifteen minutes."""

    since: datetime
    at: datetime
    averages: tuple[float, ...] = (0.0,) * len(PERIODS)


def taken(usage: Usage) -> int:
    """Bytes that count against the quota."""
    return usage.rss + usage.shared + usage.swap


def most(usage: Usage) -> int:
    """The same, but before the kernel ended a process for it, if it did."""
    return max(taken(usage), usage.peak or 0)


def judge(usage: Usage, size: DynoSize) -> Level:
    # The kernel's limit is at twice the quota: a dyno may live on without the process that it ended.
    # It also ends processes of those within their quota, where the machine has no memory left.
    killed = usage.oom_kills and (usage.peak is None or usage.peak > size.memory)
    if killed or taken(usage) >= 2 * size.memory:
        return Level.VASTLY
    return Level.EXCEEDED if taken(usage) > size.memory else Level.WITHIN


def running(usage: Usage, size: DynoSize) -> str:
    """The line before R14 and R15."""
    return f"Process running mem={size.share(most(usage))}"


def crowded(size: DynoSize) -> str:
    """Ours: Heroku says nothing, and the app only sees that it cannot fork."""
    return f"Process limit reached ({size.pids})"


def measured(dyno: Dyno, usage: Usage, size: DynoSize) -> str:
    """What log-runtime-metrics tells of memory."""
    pages = [
        f"sample#memory_{name}={count}pages"
        for name, count in (("pgpgin", usage.pgpgin), ("pgpgout", usage.pgpgout))
        if count is not None
    ]
    samples = (
        f"sample#memory_total={_megabytes(usage.rss + usage.cache + usage.swap)}",
        f"sample#memory_rss={_megabytes(usage.rss)}",
        f"sample#memory_cache={_megabytes(usage.cache)}",
        f"sample#memory_swap={_megabytes(usage.swap)}",
        *pages,
        f"sample#memory_quota={_megabytes(size.memory)}",
    )
    return " ".join((_name(dyno), *samples))


def loaded(dyno: Dyno, load: Load) -> str | None:
    """What log-runtime-metrics tells of load: each average once it had its time; None before."""
    samples = [
        f"sample#load_avg_{name}={average:.2f}"
        for (name, period), average in zip(PERIODS, load.averages, strict=True)
        if load.at - load.since >= period
    ]
    return " ".join((_name(dyno), *samples)) if samples else None


def sampled(load: Load | None, runnable: int, now: datetime) -> Load:
    """The averages after one more look, as the kernel makes its own: the older, the less it counts."""
    if load is None:
        return Load(now, now)
    elapsed = now - load.at
    averages = []
    for (_, period), average in zip(PERIODS, load.averages, strict=True):
        kept = math.exp(-elapsed / period)
        averages.append(average * kept + runnable * (1 - kept))
    return replace(load, at=now, averages=tuple(averages))


def _name(dyno: Dyno) -> str:
    return f"source={dyno.name} dyno=heroku.{dyno.app_id}.{dyno.id}"


def _megabytes(count: int) -> str:
    return f"{count / MB:.2f}MB"

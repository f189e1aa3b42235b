"""What containers take of this machine, as their cgroups tell it, of version 1 or 2; judges nothing."""

import os
from collections.abc import Mapping

from deodar.engines import base
from deodar.engines.local import cgroups
from deodar.engines.local.cgroups import Cgroups


def read(groups: Cgroups, paths: Mapping[str, str]) -> Mapping[str, base.Usage]:
    """By the same keys as the cgroups' paths; one that is gone is left out. Blocks for a moment."""
    one = _unified if groups.unified is not None else _legacy
    return {key: usage for key, path in paths.items() if (usage := one(groups, path)) is not None}


def runnable(groups: Cgroups, paths: Mapping[str, str]) -> Mapping[str, int]:
    """How many threads of each run or wait for a CPU. Blocks for a moment."""
    return {
        key: sum(state(_stat(thread)) == b"R" for thread in groups.threads(path))
        for key, path in paths.items()
    }


def _unified(groups: Cgroups, path: str) -> base.Usage | None:
    assert groups.unified is not None
    folder = groups.unified / path[1:]
    stat = cgroups.text(folder / "memory.stat")
    if not stat:
        return None
    events = cgroups.text(folder / "memory.events")
    return parse_unified(
        stat,
        swap=cgroups.text(folder / "memory.swap.current"),
        events=events,
        pids=cgroups.text(folder / "pids.events"),
        peak=groups.peak(path) if cgroups.oom_kills(events) else None,
    )


def _legacy(groups: Cgroups, path: str) -> base.Usage | None:
    memory = groups.legacy["memory"] / path[1:]
    stat = cgroups.text(memory / "memory.stat")
    if not stat:
        return None
    control = cgroups.text(memory / "memory.oom_control")
    return parse_legacy(
        stat,
        control=control,
        pids=cgroups.text(groups.legacy["pids"] / path[1:] / "pids.events"),
        peak=groups.peak(path) if cgroups.oom_kills(control) else None,
    )


def parse_unified(stat: str, *, swap: str, events: str, pids: str, peak: int | None) -> base.Usage:
    """Version 2's memory.stat, memory.swap.current, memory.events and pids.events; what this kernel has not
    is empty."""
    memory = pairs(stat)
    # what came back from swap and still has its place there is counted in both
    twice = memory.get("swapcached", 0)
    return base.Usage(
        rss=memory["anon"],
        cache=memory["file"],
        shared=memory["shmem"],
        swap=max(0, int(swap or 0) - twice),
        oom_kills=cgroups.oom_kills(events),
        peak=peak,
        forks_refused=pairs(pids).get("max", 0),
    )


def parse_legacy(stat: str, *, control: str, pids: str, peak: int | None) -> base.Usage:
    """Version 1's memory.stat, memory.oom_control and pids.events."""
    memory = pairs(stat)
    return base.Usage(
        rss=memory["total_rss"],
        cache=memory["total_cache"],
        shared=memory["total_shmem"],
        swap=memory.get("total_swap", 0),
        pgpgin=memory["total_pgpgin"],
        pgpgout=memory["total_pgpgout"],
        oom_kills=cgroups.oom_kills(control),
        peak=peak,
        forks_refused=pairs(pids).get("max", 0),
    )


def pairs(text: str) -> dict[str, int]:
    """Lines of a word and a number."""
    return {key: int(value) for key, value in (line.split(" ") for line in text.splitlines())}


def state(stat: bytes) -> bytes:
    """The letter in /proc/…/stat; empty for a thread that is gone."""
    # the name in brackets may hold blanks and brackets of its own
    return stat.rpartition(b")")[2][1:2]


def _stat(thread: int) -> bytes:
    # Without Python's files: there may be thousands of threads, and this takes half as long.
    try:
        file = os.open(f"/proc/{thread}/stat", os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return os.read(file, 512)
    except ProcessLookupError:
        return b""
    finally:
        os.close(file)

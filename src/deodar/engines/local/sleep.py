"""Makes a container's processes stand still, and pushes what they remember out of RAM, by their cgroup, of
version 1 or 2; when, and whose, others decide."""

import asyncio
import errno
import os
from pathlib import Path

from deodar.engines.local import cgroups, commands
from deodar.engines.local.cgroups import Cgroups
from deodar.kit import subprocess
from deodar.model import errors

STILL_TIMEOUT = 5.0  #: seconds for the last process to stand still
LOOK = 0.001  #: seconds between looks whether it does
RECLAIM_TIMEOUT = 60.0  #: seconds; a GB takes about one with zram, longer with a slow disk


async def freeze(groups: Cgroups, path: str) -> None:
    """Returns when all in it stand still, or somebody thawed it."""
    try:
        async with asyncio.timeout(STILL_TIMEOUT):
            # Version 1 counts who stands still only when it is asked, and asks again those who do not.
            write(file(groups, path), frozen_word(groups))
            while coming_to_a_stand(groups, path):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(LOOK)
    except TimeoutError as error:
        thaw(groups, path)
        raise errors.EngineFailed(
            f"Cannot freeze the dyno: a process of it does not stand still within {STILL_TIMEOUT:g} s. "
            "It waits for a disk, or for a file system that does not answer."
        ) from error
    except BaseException:
        thaw(groups, path)
        raise


def thaw(groups: Cgroups, path: str) -> None:
    """One small write. Nothing if it is gone."""
    write(file(groups, path), "0" if groups.unified is not None else "THAWED")


def is_frozen(groups: Cgroups, path: str) -> bool:
    """Whether it is, or was on its way to be: it needs a thaw to go on."""
    if not can_freeze(groups):
        return False
    return wished(cgroups.text(file(groups, path)))


async def reclaim(groups: Cgroups, path: str) -> None:
    """As much of its memory as can be. To be cancelled when it is to wake: the kernel would go on to
    push out what it takes back."""
    if groups.unified is not None:
        folder = groups.unified / path[1:]
        target, word = folder / "memory.reclaim", cgroups.text(folder / "memory.current").strip()
    else:
        target, word = groups.legacy["memory"] / path[1:] / "memory.force_empty", "0"
    # A process of its own, since the kernel does not come back before it is done unless it is killed. Its
    # status says that not everything could be pushed out, which is as often as not.
    await subprocess.run_unchecked(*commands.write(target, word or "0"), timeout=RECLAIM_TIMEOUT)


def can_freeze(groups: Cgroups) -> bool:
    return groups.unified is not None or "freezer" in groups.legacy


def file(groups: Cgroups, path: str) -> Path:
    """What a container is frozen and thawed by."""
    if groups.unified is not None:
        return groups.unified / path[1:] / "cgroup.freeze"
    return groups.legacy["freezer"] / path[1:] / "freezer.state"


def frozen_word(groups: Cgroups) -> str:
    return "1" if groups.unified is not None else "FROZEN"


def coming_to_a_stand(groups: Cgroups, path: str) -> bool:
    if groups.unified is not None:
        folder = groups.unified / path[1:]
        return wished(cgroups.text(folder / "cgroup.freeze")) and not still(
            cgroups.text(folder / "cgroup.events")
        )
    return cgroups.text(file(groups, path)).strip() == "FREEZING"


def wished(text: str) -> bool:
    """Of cgroup.freeze or freezer.state: whether somebody wants it frozen."""
    return text.strip() in ("1", "FROZEN", "FREEZING")


def still(events: str) -> bool:
    """Of version 2's cgroup.events: whether all of it stands still."""
    return "frozen 1" in events.splitlines()


def write(target: Path, word: str) -> None:
    """Nothing if the cgroup is gone."""
    try:
        # without Python's files, which take longer than the kernel does: a request waits for a thaw
        opened = os.open(target, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(opened, word.encode())
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise

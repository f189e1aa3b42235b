"""How a container ends for certain, and how nothing is left of it, however far its making had come."""

import asyncio
import errno
import os
import re
import signal as signals
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deodar.engines.local import cgroups, commands
from deodar.engines.local.ground import Ground
from deodar.kit import subprocess
from deodar.model import errors

KILL_TIMEOUT = 10.0  #: seconds until a killed container must be gone


class Ending:
    """Everything in it may be repeated."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def erase_half_made(self, container_id: str) -> None:
        """Of one whose making was cut short, the makers may still be at it."""
        folder = os.fsencode(self._ground.records.folder(container_id))
        async with _killing():
            while makers := _processes_naming(folder):
                for pid in makers:
                    cgroups.send(pid, signals.SIGKILL)
                await asyncio.sleep(0.002)
        await self.erase(container_id)

    async def erase(self, container_id: str) -> None:
        """All of a container but its network slot. May be repeated."""
        cgroup = self._ground.cgroup_of(container_id)
        await self.empty(cgroup)
        # one that was never made is no error
        await subprocess.run_unchecked(
            *self._ground.namespace.inside(*commands.delete(container_id, self._ground.runtime))
        )
        await self.remove_cgroup(cgroup)
        (self._ground.short / "sockets" / container_id).unlink(missing_ok=True)
        await asyncio.to_thread(self._ground.records.erase, container_id)

    async def empty(self, cgroup: str) -> None:
        """Kill all in it, for certain: a process may fork between the list and the signal."""
        async with _killing():
            while self._ground.cgroups.processes(cgroup):
                self._ground.cgroups.kill(cgroup)
                await asyncio.sleep(0.002)

    async def remove_cgroup(self, cgroup: str) -> None:
        async with _killing():
            while True:
                try:
                    self._ground.cgroups.remove(cgroup)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                else:
                    return
                await asyncio.sleep(0.002)


@asynccontextmanager
async def _killing() -> AsyncIterator[None]:
    """What waits for the killed to be gone does not wait for ever."""
    try:
        async with asyncio.timeout(KILL_TIMEOUT):
            yield
    except TimeoutError as error:
        raise errors.EngineFailed(
            f"A process of the dyno is still there {KILL_TIMEOUT:g} s after SIGKILL."
        ) from error


def _processes_naming(word: bytes) -> list[int]:
    """Processes with `word`, or a path below it, in their command lines."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                line = Path(entry.path, "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if re.search(rb"[\0=]" + re.escape(word) + rb"[\0/]", line):
                found.append(int(entry.name))
    return found

"""Our own mount namespace, in which containers are made and slugs are mounted; leaves what to mount to others.

crun refuses hybrid cgroups, so they must be hidden from it, and only from it. The namespace is kept
alive by a file, not by a process. What is mounted in it shows nowhere else on the machine and goes
with it; what the machine mounts or unmounts reaches it where the machine's mounts are shared.
"""

import asyncio
import ctypes
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deodar.engines.local import commands
from deodar.kit import subprocess

READ_ONLY, NO_SUID, NO_DEV = 0x1, 0x2, 0x4
_BIND, _PRIVATE, _DETACH = 0x1000, 1 << 18, 0x2
_NEW_FS, _NEW_NS = 0x200, 0x20000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo."""

    point: str
    kind: str
    options: tuple[str, ...]  #: of the super block


def parse(mountinfo: str) -> Iterator[Mount]:
    """The mounts of a /proc/…/mountinfo, in its order."""
    for line in mountinfo.splitlines():
        place, _, device = line.partition(" - ")
        kind, _, options = device.split(" ", 2)
        yield Mount(_plain(place.split(" ")[4]), kind, tuple(options.split(",")))


def _plain(text: str) -> str:
    """mountinfo writes blanks and backslashes as octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def of_the_machine() -> str:
    return Path("/proc/self/mountinfo").read_text()


class Namespace:
    """The namespace that `file` stands for. Mounting is done by a thread which lives in it.

    OSError and CommandFailed pass through: who mounts can say what for.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._thread: ThreadPoolExecutor | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)

    async def open(self, *, hide: Sequence[Path]) -> None:
        """Make it if it is not there; `hide` are unmounted in it. May be repeated."""
        points = {mount.point for mount in parse(of_the_machine())}
        if str(self.file) not in points:
            folder = self.file.parent
            folder.mkdir(parents=True, exist_ok=True)
            if str(folder) not in points:
                self._mount(str(folder), folder, None, _BIND, None)
            # the kernel keeps no mount namespace on a mount that others share
            self._mount(None, folder, None, _PRIVATE, None)
            self.file.touch()
            await subprocess.run(*commands.namespace(self.file, hide))
        self._thread = ThreadPoolExecutor(1, "deodar-mounts", initializer=self._enter)

    def inside(self, *argv: str) -> tuple[str, ...]:
        """The command that runs `argv` in it."""
        return commands.inside(self.file, argv)

    async def mount(self, source: Path, target: Path, kind: str, flags: int) -> None:
        await self._do(lambda: self._mount(str(source), target, kind, flags, None))

    async def unmount(self, target: Path) -> None:
        """Lazily: whoever has it mounted elsewhere, or holds a file of it, keeps it."""
        await self._do(lambda: self._unmount(target))

    async def points(self) -> set[str]:
        """Where something is mounted in it."""
        text = await self._do(lambda: Path("/proc/thread-self/mountinfo").read_text())
        return {mount.point for mount in parse(text)}

    async def open_file(self, path: Path) -> int:
        """A descriptor of what is at `path` in it, for the caller to close."""
        return await self._do(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def destroy(self) -> None:
        """Unmount all that is mounted in it and nowhere else. May be repeated."""
        self.close()
        points = {mount.point for mount in parse(of_the_machine())}
        for point in (self.file, self.file.parent):
            if str(point) in points:
                self._unmount(point)

    async def _do(self, call: Callable[[], T]) -> T:
        assert self._thread is not None, "the namespace is not open"
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _enter(self) -> None:
        # a thread may have mounts of its own once it shares no working directory with the others
        self._check(self._libc.unshare(_NEW_FS), "unshare")
        file = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._check(self._libc.setns(file, _NEW_NS), str(self.file))
        finally:
            os.close(file)

    def _mount(
        self, source: str | None, target: Path, kind: str | None, flags: int, data: str | None
    ) -> None:
        encoded = [None if text is None else os.fsencode(text) for text in (source, kind, data)]
        result = self._libc.mount(
            encoded[0], os.fsencode(target), encoded[1], ctypes.c_ulong(flags), encoded[2]
        )
        self._check(result, str(target))

    def _unmount(self, target: Path) -> None:
        self._check(self._libc.umount2(os.fsencode(target), _DETACH), str(target))

    def _check(self, result: int, name: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), name)

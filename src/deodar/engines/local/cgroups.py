"""The containers' cgroups, of version 1, 2 or both at once: who is in them, kill, remove; limits are crun's."""

import errno
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deodar.engines.local import mounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroups:
    """Where this machine's hierarchies are mounted. Paths below them begin with `/`, as OCI's."""

    unified: Path | None  #: version 2's, where it rules alone
    legacy: Mapping[str, Path]  #: version 1's by controller; empty where version 2 rules alone
    hybrid: Path | None  #: version 2's beside version 1: crun refuses to see it

    @property
    def suffice(self) -> bool:
        """Whether a dyno's memory and processes can be limited."""
        return self.unified is not None or {"memory", "pids"} <= self.legacy.keys()

    @property
    def swap_counts(self) -> bool:
        if self.unified is not None:
            return True  # memory.swap.max exists below the root whenever there is swap
        return (self.legacy["memory"] / "memory.memsw.limit_in_bytes").exists()

    def processes(self, path: str) -> set[int]:
        """Process ids in it, whichever hierarchy knows them; none if it is gone.

        In all of them, since one whose making was cut short is in some only.
        """
        found: set[int] = set()
        for root in self._roots():
            found.update(int(word) for word in text(root / path[1:] / "cgroup.procs").split())
        return found

    def oom_killed(self, path: str) -> bool:
        """Whether the kernel ended a process of it for its memory."""
        file = (
            self.unified / path[1:] / "memory.events"
            if self.unified is not None
            else self.legacy["memory"] / path[1:] / "memory.oom_control"
        )
        try:
            return oom_kills(file.read_text()) > 0
        except FileNotFoundError:
            return False

    def peak(self, path: str) -> int | None:
        """Most bytes of memory it had at once; None where the kernel does not tell."""
        if self.unified is not None:
            names, folder = ["memory.peak"], self.unified / path[1:]
        else:
            # the first has swap in it, and is there where swap counts
            names = ["memory.memsw.max_usage_in_bytes", "memory.max_usage_in_bytes"]
            folder = self.legacy["memory"] / path[1:]
        told = next(filter(None, (text(folder / name) for name in names)), "")
        return int(told) if told else None

    def threads(self, path: str) -> list[int]:
        """Thread ids in it; none if it is gone."""
        root, name = (
            (self.unified, "cgroup.threads")
            if self.unified is not None
            else (self.legacy["pids"], "tasks")
        )
        return [int(word) for word in text(root / path[1:] / name).split()]

    def kill(self, path: str) -> None:
        """SIGKILL for all in it, frozen ones too. Some may be new afterwards on version 1: repeat."""
        if self.unified is not None and self._write(self.unified / path[1:] / "cgroup.kill", "1"):
            return
        for pid in self.processes(path):
            send(pid, signal.SIGKILL)
        # a frozen process dies when it is thawed
        if "freezer" in self.legacy:
            self._write(self.legacy["freezer"] / path[1:] / "freezer.state", "THAWED")

    def wake(self) -> None:
        """Spare the next move into a cgroup its wait for an RCU grace period, some 10 ms when there was
        no move for a while: by moving ourselves to where we are. It blocks for as long."""
        controller = "" if self.unified is not None else "pids"
        own = own_path(Path("/proc/self/cgroup").read_text(), controller)
        if own is not None:
            root = self.unified or self.legacy[controller]
            self._write(root / own[1:] / "cgroup.procs", "0")

    def children(self, path: str) -> set[str]:
        """Names of the cgroups in it."""
        names: set[str] = set()
        for root in self._roots():
            folder = root / path[1:]
            if folder.is_dir():
                names.update(entry.name for entry in os.scandir(folder) if entry.is_dir())
        return names

    def remove(self, path: str) -> None:
        """Remove it from every hierarchy. May be repeated; EBUSY while a process is in it, and a little
        longer."""
        for root in self._roots():
            try:
                (root / path[1:]).rmdir()
            except FileNotFoundError:
                continue

    def _roots(self) -> Iterable[Path]:
        return [self.unified] if self.unified is not None else dict.fromkeys(self.legacy.values())

    def _write(self, file: Path, text: str) -> bool:
        """False when there is no such file; cgroups cannot have files made in them."""
        try:
            file.write_text(text)
        except (FileNotFoundError, PermissionError):
            return False
        return True


def detect(mountinfo: str) -> Cgroups:
    """What /proc/self/mountinfo says of cgroups."""
    legacy: dict[str, Path] = {}
    unified: Path | None = None
    for mount in mounts.parse(mountinfo):
        if mount.kind == "cgroup2":
            unified = unified or Path(mount.point)
        elif mount.kind == "cgroup":
            for option in mount.options:
                if option not in ("rw", "ro", "xattr") and "release_agent" not in option:
                    legacy.setdefault(option.removeprefix("name="), Path(mount.point))
    if legacy:
        return Cgroups(unified=None, legacy=legacy, hybrid=unified)
    return Cgroups(unified=unified, legacy={}, hybrid=None)


def own_path(text: str, controller: str) -> str | None:
    """Where a process is in one hierarchy, by its /proc/…/cgroup; version 2's has no controller."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


def oom_kills(text: str) -> int:
    """The counter `oom_kill` of memory.events or memory.oom_control."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0


def text(file: Path) -> str:
    """What a file of a cgroup says; empty if the cgroup is gone, or this kernel has no such file."""
    try:
        return file.read_text()
    except OSError as error:
        # ENODEV: removed between open and read
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return ""
        raise


def send(pid: int, number: int) -> None:
    """A signal for a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return

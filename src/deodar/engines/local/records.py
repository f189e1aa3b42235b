"""What is written down of each container, so that an engine which starts anew finds it; decides nothing."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One container. It is half made while it has no supervisor."""

    id: str
    app_id: str
    name: str
    build: bool
    boot: str  #: the machine's boot in which it was made
    slot: int  #: of the network
    terminal: bool
    kept: bool  #: its output goes into the log
    supervisor: int | None = None  #: conmon's process id
    born: int | None = None  #: when that began; with it the id is unique
    init: int | None = None  #: process id of PID 1, seen from outside
    started: bool = False


class Records:
    """A folder per container: `record.json`, OCI's `config.json`, `log`, `exit`, `upper`, …"""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, container_id: str) -> Path:
        return self._folder / container_id

    def ids(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self._folder))

    def read(self, container_id: str) -> Record | None:
        """None if the container was never made far enough to have a record."""
        try:
            data = (self.folder(container_id) / "record.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=Record)

    def write(self, record: Record) -> None:
        file = self.folder(record.id) / "record.json"
        draft = file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(record))
        draft.rename(file)

    def exit_status(self, container_id: str) -> int | None:
        """What conmon wrote when the container ended; None before, and if conmon itself was killed."""
        try:
            return int((self.folder(container_id) / "exit" / container_id).read_text())
        except FileNotFoundError:
            return None

    def erase(self, container_id: str) -> None:
        """Blocks for as long as deleting the dyno's files takes."""
        if self.folder(container_id).exists():
            shutil.rmtree(self.folder(container_id))


def boot_id() -> str:
    """Another one after each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def born(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None if there is no such process or it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name in brackets may hold blanks and brackets of its own
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])

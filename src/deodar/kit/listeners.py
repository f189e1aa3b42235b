"""Which process listens on a TCP port of this machine, read from /proc; whether it may is the asker's."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LISTENING = "0A"  #: the kernel's number for the state


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens. Another user's is seen only by root: then all of it is unknown."""

    pid: int | None
    name: str = ""
    command: str = ""  #: its arguments, joined by spaces

    def __str__(self) -> str:
        return "another process" if self.pid is None else f"{self.name} (pid {self.pid})"


def holders(ports: frozenset[int], proc: Path = Path("/proc")) -> dict[int, Holder]:
    """Who listens on each of `ports`, on whatever address; ports that are free are left out."""
    sockets: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        file = proc / "net" / table
        if file.exists():
            sockets |= parse(file.read_text(), ports)
    found = {port: Holder(None) for port in sockets.values()}
    if not sockets:
        return found
    for process in proc.iterdir():
        if process.name.isdigit():
            for port in _open_sockets(process, sockets):
                found[port] = _describe(process)
    return found


def parse(table: str, ports: frozenset[int]) -> dict[str, int]:
    """Inode → port for the sockets of a /proc/net/tcp table that listen on one of `ports`."""
    found = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        port = int(fields[1].rpartition(":")[2], 16)
        if fields[3] == LISTENING and port in ports:
            found[fields[9]] = port
    return found


def _open_sockets(process: Path, sockets: dict[str, int]) -> list[int]:
    links = []
    # A process may end, and a file be closed, between one look and the next; some are not ours to see.
    with suppress(OSError):
        for file in (process / "fd").iterdir():
            with suppress(OSError):
                links.append(os.readlink(file))
    inodes = (link[8:-1] for link in links if link.startswith("socket:["))
    return [sockets[inode] for inode in inodes if inode in sockets]


def _describe(process: Path) -> Holder:
    try:
        name = (process / "comm").read_text().strip()
        command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return Holder(None)
    return Holder(int(process.name), name, command.strip())

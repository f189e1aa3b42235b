"""Who holds a TCP port of this machine, for a message that says what to do; asks only /proc."""

import errno
import os
import re
import socket
from pathlib import Path

from deodar.model import errors

LISTENING = "0A"
SOCKET = re.compile(r"socket:\[(\d+)\]")


def check_free(address: str, port: int) -> None:
    """Raises RouterFailed naming the port, who holds it, and what to do, unless it can be bound.

    HAProxy itself would not notice: it binds with SO_REUSEPORT and would share the port.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise errors.RouterFailed(_explain(address, port, error)) from error


def _explain(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        pid = holder(port)
        who = f"{_command(pid)} (pid {pid})" if pid else "another process"
        return (
            f"The router cannot listen on port {port}: {who} does already. Stop it, or choose "
            "other ports with DEODAR_HTTP_PORT and DEODAR_HTTPS_PORT."
        )
    if error.errno == errno.EACCES:
        return (
            f"The router may not listen on port {port}: ports below 1024 need root. Choose others "
            "with DEODAR_HTTP_PORT and DEODAR_HTTPS_PORT."
        )
    return f"The router cannot listen on {address}, port {port}: {error.strerror}."


def holder(port: int) -> int | None:
    """The pid of a process that listens on this port; None when it cannot be seen."""
    inodes = {
        inode
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if os.path.exists(table)
        for inode in listeners(Path(table).read_text(), port)
    }
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and inodes & _sockets(entry):
            return int(entry.name)
    return None


def listeners(table: str, port: int) -> list[str]:
    """The inodes of the sockets that listen on `port`, from the text of /proc/net/tcp."""
    rows = (line.split() for line in table.splitlines()[1:])
    return [
        row[9] for row in rows if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port
    ]


def _sockets(process: Path) -> set[str]:
    found = set()
    try:
        for descriptor in (process / "fd").iterdir():
            if match := SOCKET.match(os.readlink(descriptor)):
                found.add(match[1])
    except OSError:
        return found  # it ended meanwhile, or is somebody else's
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process"

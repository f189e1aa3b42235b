"""Runs one more process in a container by the OCI runtime's exec; in which container, and what for, others know.

The runtime stays beside the process, as its parent, and ends with its status. A terminal's end comes
from it through a socket, so that no byte passes through the runtime.
"""

import asyncio
import errno
import fcntl
import os
import shutil
import signal as signals
import socket
import struct
import tempfile
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from deodar.engines import base
from deodar.engines.local import cgroups, commands, mounts
from deodar.kit import subprocess
from deodar.model import errors

BLOCK = 64 * 1024
GRACE = 2.0  #: seconds that a process has after it was hung up
LOOK = 0.002  #: seconds between looks whether the runtime has begun


def process(
    config: Mapping[str, Any],
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    terminal: tuple[int, int] | None,
) -> dict[str, Any]:
    """OCI's description of a process that is as confined as the container's own, whose `config` it is."""
    own: dict[str, Any] = config["process"]
    given = dict(pair.split("=", 1) for pair in own["env"])
    changed = own | {
        "args": list(argv),
        "env": [f"{key}={value}" for key, value in (given | dict(env)).items()],
        "terminal": terminal is not None,
    }
    if terminal is not None:
        rows, columns = terminal
        changed["consoleSize"] = {"height": rows, "width": columns}
    return changed


@asynccontextmanager
async def run(
    container_id: str,
    argv: Sequence[str],
    *,
    config: Path,
    env: Mapping[str, str],
    terminal: tuple[int, int] | None,
    runtime: commands.Runtime,
    namespace: mounts.Namespace,
    folder: Path,
) -> AsyncIterator[base.Process]:
    """The process while the block lasts; `config` is the container's. Below `folder`, whose path must
    be short, a folder is made for as long. Raises EngineFailed when it cannot be run."""
    async with AsyncExitStack() as exits:
        try:
            own = Path(tempfile.mkdtemp(dir=folder))
            exits.callback(shutil.rmtree, own)
            container = msgspec.json.decode(config.read_bytes())
            described = process(container, argv, env=env, terminal=terminal)
            (own / "process.json").write_bytes(msgspec.json.encode(described))
            command = namespace.inside(
                *commands.execute(
                    container_id,
                    runtime,
                    folder=own,
                    terminal=terminal is not None,
                    oom_score=described["oomScoreAdj"],
                )
            )
            start = _with_pipes if terminal is None else _with_terminal
            made = await start(command, own, exits)
            exits.push_async_callback(made.end)
            await made.begin()
        except (subprocess.CommandFailed, OSError) as error:
            raise errors.EngineFailed(f"Cannot run a command in the dyno: {error}") from error
        yield made


async def _with_pipes(command: commands.Argv, own: Path, exits: AsyncExitStack) -> "Piped":
    """Pipes of our own: asyncio's would have `wait` wait for all who hold them."""
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    ours_err, theirs_err = os.pipe()
    try:
        running = subprocess.talking(
            *command, stdin=theirs_in, stdout=theirs_out, stderr=theirs_err
        )
        parent = await exits.enter_async_context(running)
    except BaseException:
        for file in (ours_in, ours_out, ours_err):
            os.close(file)
        raise
    finally:
        for file in (theirs_in, theirs_out, theirs_err):
            os.close(file)
    for file in (ours_in, ours_out, ours_err):
        os.set_blocking(file, False)
    return Piped(parent, own / "pid", stdin=ours_in, stdout=ours_out, stderr=ours_err)


async def _with_terminal(command: commands.Argv, own: Path, exits: AsyncExitStack) -> "Terminal":
    console = exits.enter_context(_listen(own / "console"))
    parent = await exits.enter_async_context(subprocess.talking(*command))
    return Terminal(parent, own / "pid", await _receive(console, parent))


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.setblocking(False)
        listening.bind(str(path))
        listening.listen(1)
    except BaseException:
        listening.close()
        raise
    return listening


async def _receive(console: socket.socket, parent: asyncio.subprocess.Process) -> int:
    """The terminal's end, unless the runtime ends before it sends one."""
    loop = asyncio.get_running_loop()
    sent = asyncio.ensure_future(loop.sock_accept(console))
    ended = asyncio.ensure_future(parent.wait())
    try:
        await asyncio.wait({sent, ended}, return_when=asyncio.FIRST_COMPLETED)
        if sent.done():
            with sent.result()[0] as connection:
                await _ready(connection.fileno(), write=False)
                files = socket.recv_fds(connection, BLOCK, 1)[1]
            if files:
                os.set_blocking(files[0], False)
                return files[0]
    finally:
        sent.cancel()
        ended.cancel()
    assert parent.stderr is not None
    reason = (await parent.stderr.read()).decode(errors="replace").strip()
    raise errors.EngineFailed(f"Cannot run a command in the dyno: {reason}")


class _Running:
    """What a process with a terminal and one with pipes have in common."""

    def __init__(self, parent: asyncio.subprocess.Process, pid_file: Path) -> None:
        self._parent = parent
        self._pid_file = pid_file
        self._pid: int | None = None  #: None if it never ran

    async def begin(self) -> None:
        """Until the runtime has told the process id, or why there is none."""
        while self._pid is None and self._parent.returncode is None:
            with suppress(FileNotFoundError, ValueError):  # not there yet, or half written
                self._pid = int(self._pid_file.read_text())
                return
            await asyncio.sleep(LOOK)

    async def signal(self, signal: int) -> None:
        # While its parent, the runtime, is there, the process id is nobody else's.
        if self._pid is not None and self._parent.returncode is None:
            cgroups.send(self._pid, signal)

    async def wait(self) -> int:
        return await self._parent.wait()

    async def end(self) -> None:
        """Hang up, wait a little, kill; the runtime, and who else shares its pipes, the caller kills."""
        for signal in (signals.SIGHUP, signals.SIGKILL):
            await self.signal(signal)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await self._parent.wait()
                    return


class Piped(_Running):
    """Keeps base.Process's promise with pipes, of which the files are our ends."""

    def __init__(
        self,
        parent: asyncio.subprocess.Process,
        pid_file: Path,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> None:
        super().__init__(parent, pid_file)
        self._stdin: int | None = stdin
        self._stdout = stdout
        self._stderr = stderr

    async def read(self) -> bytes:
        return await _read(self._stdout)

    async def read_errors(self) -> bytes:
        return await _read(self._stderr)

    async def write(self, data: bytes) -> None:
        if self._stdin is not None:
            await _write(self._stdin, data)

    async def close_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    async def resize(self, rows: int, columns: int) -> None:
        return

    async def end(self) -> None:
        await self.close_stdin()
        os.close(self._stdout)
        os.close(self._stderr)
        await super().end()


class Terminal(_Running):
    """Keeps base.Process's promise with a terminal, of which `file` is our end."""

    def __init__(self, parent: asyncio.subprocess.Process, pid_file: Path, file: int) -> None:
        super().__init__(parent, pid_file)
        self._file = file

    async def read(self) -> bytes:
        return await _read(self._file)

    async def read_errors(self) -> bytes:
        return b""

    async def write(self, data: bytes) -> None:
        await _write(self._file, data)

    async def close_stdin(self) -> None:
        return

    async def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def end(self) -> None:
        os.close(self._file)
        await super().end()


async def _read(file: int) -> bytes:
    while True:
        try:
            return os.read(file, BLOCK)
        except BlockingIOError:
            await _ready(file, write=False)
        except OSError as error:
            if error.errno == errno.EIO:  # nobody holds the terminal's other end any more
                return b""
            raise


async def _write(file: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(file, data) :]
        except BlockingIOError:
            await _ready(file, write=True)
        except OSError as error:
            if error.errno in (errno.EIO, errno.EPIPE):  # nobody holds the other end any more
                return
            raise


async def _ready(file: int, *, write: bool) -> None:
    """Returns when `file` can be read from, or written to."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    if write:
        loop.add_writer(file, on_ready)
    else:
        loop.add_reader(file, on_ready)
    try:
        await ready
    finally:
        if write:
            loop.remove_writer(file)
        else:
            loop.remove_reader(file)

"""Leads people into running dynos: an SSH server, as `heroku ps:exec`, `ps:copy` and `ps:forward` want it.

Knows SSH. Who may enter which dyno was decided when the grant was signed that a client's user name is;
how a process is run in a dyno, or a connection made there, is the engine's. Nothing here reaches the
machine itself: shells, files and connections are all the dyno's own.
"""

import asyncio
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import asyncssh
import structlog

from deodar.engines.base import Engine, Process
from deodar.kit.clock import Clock
from deodar.kit.signing import Signer
from deodar.loops.manifold import boot, files
from deodar.model import errors, grant
from deodar.model.dyno import Dyno
from deodar.model.grant import Grant
from deodar.store import dynos
from deodar.store.db import Database

log = structlog.get_logger("deodar")

KEY_BITS = 3072
LOGIN = 30  #: seconds that a client has to show its key
ALIVE = 30  #: seconds of silence after which a client is asked whether it is there; thrice
AGAIN = 30  #: seconds until another try to listen
LAST_WORDS = 0.5  #: seconds in which nothing more may come of a process that has ended
BACKLOG = (
    1024 * 1024
)  #: bytes of input kept for a process that does not read; then the client waits
SHELL = "bash"
SIGNALS = {each.name.removeprefix("SIG"): each for each in signal.Signals}

#: the dyno's own python3 serves its files
SFTP = ("/usr/bin/python3", "-I", "-S", "-c", Path(files.__file__).read_text())


def new_host_key() -> bytes:
    return asyncssh.generate_private_key("ssh-rsa", key_size=KEY_BITS).export_private_key()


def public_key(host_key: bytes) -> str:
    """`ssh-rsa AAAAB3Nza…`"""
    key = asyncssh.import_private_key(host_key)
    return key.export_public_key("openssh").decode().strip()


class Tunnel:
    """The SSH server; `serve` runs it."""

    def __init__(self, engine: Engine, db: Database, clock: Clock, signer: Signer) -> None:
        self.engine = engine
        self._db = db
        self._clock = clock
        self._signer = signer  #: a user name's text is a Grant
        self.connections: set[asyncssh.SSHServerConnection] = set()

    async def serve(self, host: str, port: int, host_key: bytes) -> None:
        """Until cancelled. Where the address is another's, waits for it to become free: the platform
        does without."""
        while True:
            try:
                with alone_at(host, port):
                    server = await self.listen(host, port, host_key)
                    try:
                        await asyncio.Event().wait()
                    finally:
                        server.close()
                        for connection in list(self.connections):
                            connection.abort()
            except OSError as error:
                log.warning(
                    "Cannot listen for ps:exec; set DEODAR_EXEC_LISTEN",
                    address=f"{host}:{port}",
                    error=str(error),
                    retry_in=AGAIN,
                )
            await asyncio.sleep(AGAIN)

    async def listen(self, host: str, port: int, host_key: bytes) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            host,
            port,
            # the router may listen on the same port of all addresses
            reuse_port=True,
            server_factory=lambda: Visitor(self),
            server_host_keys=[asyncssh.import_private_key(host_key)],
            server_version="Deodar",
            password_auth=False,
            kbdint_auth=False,
            gss_host=None,
            agent_forwarding=False,
            x11_forwarding=False,
            line_editor=False,
            encoding=None,
            login_timeout=LOGIN,
            keepalive_interval=ALIVE,
        )

    async def admit(self, user: str, key: bytes) -> Dyno | None:
        """The dyno that the holder of `key` may enter under that name; None if there is none."""
        text = self._signer.open(user, now=self._clock())
        if text is None:
            return None
        granted = Grant.parse(text)
        if granted.fingerprint != grant.fingerprint(key):
            return None
        async with self._db.read() as tx:
            dyno = await dynos.get(tx, granted.dyno_id)
        return dyno if dyno is not None and dyno.runs else None


@contextmanager
def alone_at(host: str, port: int) -> Iterator[None]:
    """Raises OSError where another platform leads into its dynos at that address.

    Two that reuse a port would share it, and each would get the other's clients. The name of an
    abstract socket is held by one process at most, and is free when that has ended.
    """
    with socket.socket(socket.AF_UNIX) as guard:
        guard.bind(f"\0deodar-exec-{host}:{port}")
        yield


class Visitor(asyncssh.SSHServer):
    """One client's connection."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._connection: asyncssh.SSHServerConnection | None = None
        self._dyno: Dyno | None = None  #: that the key which it showed last is good for

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._tunnel.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._tunnel.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._dyno = await self._tunnel.admit(username, key.public_data)
        return self._dyno is not None

    def auth_completed(self) -> None:
        assert self._connection is not None
        assert self._dyno is not None
        log.info(
            "dyno.entered",
            app=self._dyno.app_id,
            dyno=self._dyno.name,
            id=self._dyno.id,
            by=self._connection.get_extra_info("peername")[0],
        )

    def session_requested(self) -> "Session":
        assert self._connection is not None
        assert self._dyno is not None
        return Session(self._tunnel.engine, self._dyno, self._connection)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Awaitable[asyncssh.SSHTCPSession[bytes]]:
        assert self._dyno is not None
        return self._forward(self._dyno, dest_host, dest_port)

    async def _forward(self, dyno: Dyno, host: str, port: int) -> asyncssh.SSHTCPSession[bytes]:
        try:
            connection = await self._tunnel.engine.dial(dyno.id, host, port)
        except errors.EngineFailed as error:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, error.message) from error
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(asyncssh.SSHForwarder, sock=connection)
        # it behaves as a session without being declared one
        return cast("asyncssh.SSHTCPSession[bytes]", asyncssh.SSHForwarder(peer))


class Session(asyncssh.SSHServerSession[bytes]):
    """A shell, a command or the files of a dyno, on one channel of a connection."""

    def __init__(
        self, engine: Engine, dyno: Dyno, connection: asyncssh.SSHServerConnection
    ) -> None:
        self._engine = engine
        self._dyno = dyno
        self._connection = connection
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._work: asyncio.Task[None] | None = None
        self._argv: tuple[str, ...] = ()
        self._terminal: tuple[int, int] | None = None
        self._env: Mapping[str, str] = {}
        #: what the client did and the process has not heard yet
        self._deeds: deque[Callable[[Process], Awaitable[None]]] = deque()
        self._new_deed = asyncio.Event()
        self._waiting = 0  #: bytes of input among them
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._over = False  #: the process has ended

    # What the client asks for.

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        columns, rows = term_size[:2]
        self._terminal = (rows or 24, columns or 80)
        self._env = {"TERM": term_type} if term_type else {}
        return True

    def shell_requested(self) -> bool:
        self._argv = boot.argv(SHELL)
        return True

    def exec_requested(self, command: str) -> bool:
        self._argv = boot.argv(command)
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        self._argv = SFTP
        return subsystem == "sftp"

    def session_started(self) -> None:
        self._work = self._connection.create_task(self._run())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._work is not None:
            self._work.cancel()

    # What the client does meanwhile.

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._waiting += len(data)
        if self._waiting > BACKLOG:
            self._held.pause_reading()

        async def write(process: Process) -> None:
            await process.write(data)
            self._waiting -= len(data)
            if self._waiting <= BACKLOG:
                self._held.resume_reading()

        self._do(write)

    def eof_received(self) -> bool:
        self._do(lambda process: process.close_stdin())
        return True  # it still listens

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        self._do(lambda process: process.resize(height, width))

    def signal_received(self, signal: str) -> None:
        number = SIGNALS.get(signal)
        if number is not None:
            self._do(lambda process: process.signal(number))

    def pause_writing(self) -> None:
        if not self._over:
            self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _do(self, deed: Callable[[Process], Awaitable[None]]) -> None:
        self._deeds.append(deed)
        self._new_deed.set()

    # The process.

    async def _run(self) -> None:
        try:
            async with self._engine.exec(
                self._dyno.id, self._argv, env=self._env, terminal=self._terminal
            ) as process:
                status = await self._attend(process)
        except errors.EngineFailed as error:
            self._write_stderr(f"{error.message}\r\n".encode())
            status = 1
        self._held.exit(status)

    async def _attend(self, process: Process) -> int:
        """From its start to its end, and all that it said."""
        async with asyncio.TaskGroup() as group:
            shown = (
                group.create_task(self._show(process.read, self._write)),
                group.create_task(self._show(process.read_errors, self._write_stderr)),
            )
            told = group.create_task(self._tell(process))
            status = await process.wait()
            # What it left behind is little, and need not wait for the client to read. A child of it
            # may hold its output open for longer than anybody cares.
            self._over = True
            self._may_write.set()
            await asyncio.wait(shown, timeout=LAST_WORDS)
            for task in (*shown, told):
                task.cancel()
        return status

    async def _show(
        self, read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], None]
    ) -> None:
        while data := await read():
            write(data)
            await self._may_write.wait()

    async def _tell(self, process: Process) -> None:
        while True:
            await self._new_deed.wait()
            self._new_deed.clear()
            while self._deeds:
                await self._deeds.popleft()(process)

    def _write(self, data: bytes) -> None:
        if not self._held.is_closing():
            self._held.write(data)

    def _write_stderr(self, data: bytes) -> None:
        if not self._held.is_closing():
            self._held.write_stderr(data)

    @property
    def _held(self) -> asyncssh.SSHServerChannel[bytes]:
        assert self._channel is not None
        return self._channel

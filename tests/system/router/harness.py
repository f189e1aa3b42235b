"""One real router with dynos that follow a script, byte by byte; no platform around it.

HAProxy runs as the platform runs it, its log becomes the apps' logs, its questions for a sleeping app
are answered as the test says. Knows nothing of what should be answered: that is the tests' part.
"""

import asyncio
import csv
import itertools
import re
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from deodar.adapters import ca
from deodar.adapters.haproxy import Haproxy, runtime
from deodar.adapters.haproxy.table import Server, Table, Tuning
from deodar.loops.routing.requests import Requests
from deodar.loops.routing.waker import Waker
from deodar.settings import Paths, Ports, Settings
from deodar.store.logs import Logs
from tests.web import free_ports

T = TypeVar("T")
PATIENCE = 60.0  #: seconds for anything to happen on a busy machine


@dataclass
class Connection:
    """One connection of the router's to a dyno, from the dyno's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray

    async def head(self) -> bytes:
        return await self._keep(self.reader.readuntil(b"\r\n\r\n"))

    async def exactly(self, count: int) -> bytes:
        return await self._keep(self.reader.readexactly(count))

    async def some(self) -> bytes:
        return await self._keep(self.reader.read(65536))

    async def body(self, head: bytes) -> bytes:
        """What the head says will follow, still chunked where it is."""
        if re.search(rb"\r\ntransfer-encoding: chunked\r\n", head, re.IGNORECASE):
            body = b""
            while (size := await self._keep(self.reader.readuntil(b"\r\n"))).strip() != b"0":
                body += size + await self.exactly(int(size.partition(b";")[0], 16) + 2)
            body += size
            while not body.endswith(b"\r\n\r\n"):  # trailers
                body += await self._keep(self.reader.readuntil(b"\r\n"))
            return body
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head, re.IGNORECASE)
        return await self.exactly(int(length[1])) if length else b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def _keep(self, read: Coroutine[Any, Any, bytes]) -> bytes:
        try:
            data = await read
        except asyncio.IncompleteReadError as error:
            self.received += error.partial
            raise
        self.received += data
        return data


Script = Callable[[Connection], Awaitable[None]]


async def hello(connection: Connection) -> None:
    """Answers each request with a word."""
    while True:
        await connection.body(await connection.head())
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def saying(answer: bytes, *, close: bool = True) -> Script:
    """Reads one request, answers with these bytes, and hangs up unless told not to."""

    async def script(connection: Connection) -> None:
        await connection.body(await connection.head())
        await connection.send(answer)
        if not close:
            await connection.some()

    return script


@dataclass
class Dyno:
    """A server that follows a script and keeps every byte that it was sent, by connection."""

    name: str
    script: Script
    received: list[bytearray] = field(default_factory=list)
    server: asyncio.Server | None = None

    @property
    def sent(self) -> bytes:
        return b"".join(self.received)

    @property
    def head(self) -> bytes:
        """The only request's head."""
        return self.sent.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    @property
    def headers(self) -> dict[str, str]:
        """The only request's headers; values of one name joined by ` & `, so that two are seen."""
        found: dict[str, str] = {}
        for line in self.head.decode("latin-1").strip().split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            found[name] = f"{found[name]} & {value}" if name in found else value
        return found

    async def start(self, port: int = 0) -> Server:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=2000)
        port = self.server.sockets[0].getsockname()[1]
        return Server(name=self.name, address="127.0.0.1", port=port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = bytearray()
        self.received.append(received)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self.script(Connection(reader, writer, received))
        writer.close()


class Router:
    """A router of its own, with an event loop of its own in a thread, so that tests may block."""

    def __init__(self, folder: Path, *, connections: int | None = None) -> None:
        http, https = free_ports(2)
        self.settings = Settings(
            paths=Paths(data=folder),
            ports=Ports(http=http, https=https),
            connections=connections,
        )
        self.logs = Logs(self.settings.paths.logs)
        self.authority = ca.Authority(self.settings.paths.ca)
        self.haproxy = Haproxy(self.settings)
        self.answers: dict[int, str] = {}  #: what a held request of the slot is told at once
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._waker = Waker(self.haproxy.layout.wake, self._wake)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._thread.start()
        self.call(self._start())

    def stop(self) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        pem = self.authority.leaf("localhost").path.read_text()
        await self.haproxy.start(Table(certificates={"localhost": pem}))
        requests = Requests(
            self.haproxy.layout.requests, self.logs, app_name, saw=lambda app, at: None
        )
        self._tasks = [
            asyncio.create_task(requests.serve()),
            asyncio.create_task(self._waker.serve()),
        ]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.haproxy.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.logs.close()

    def _wake(self, slot: int) -> None:
        if slot in self.answers:
            self._loop.call_soon(self._waker.tell, slot, self.answers[slot])

    def app(self, *scripts: Script, tuning: Tuning | None = None) -> "App":
        """An app with a dyno for each script."""
        slot = next(self._numbers)
        app = App(router=self, slot=slot, host=f"app-{slot}.localhost")
        self.call(app.start(scripts, tuning))
        return app

    def connect(self, *, tls: str | None = None, alpn: tuple[str, ...] = ()) -> socket.socket:
        """A connection as of a client; over TLS if a host is named."""
        port = self.settings.ports.http if tls is None else self.settings.ports.https
        plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        if tls is None:
            return plain
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # whose certificate is served is others' to test
        context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(plain, server_hostname=tls)

    def say(self, raw: bytes) -> bytes:
        """Sends these bytes and no more, and reads until the router has closed."""
        with self.connect() as client:
            with suppress(OSError):  # it may have refused the beginning already
                client.sendall(raw)
                client.shutdown(socket.SHUT_WR)
            return drain(client)

    @property
    def worker(self) -> int:
        return self.call(self.haproxy.runtime.pid())


@dataclass
class App:
    """One app as the router knows it."""

    router: Router
    slot: int
    host: str
    dynos: list[Dyno] = field(default_factory=list)

    async def start(self, scripts: tuple[Script, ...], tuning: Tuning | None) -> None:
        change = self.router.haproxy.runtime
        if tuning is not None:
            await change.tune(self.slot, tuning)
        await change.set_host(self.host, self.slot)
        for number, script in enumerate(scripts, 1):
            dyno = Dyno(f"web.{number}-{self.slot:04x}{number:04x}", script)
            self.dynos.append(dyno)
            await change.add(self.slot, await dyno.start())

    @property
    def dyno(self) -> Dyno:
        (only,) = self.dynos
        return only

    def ask(
        self,
        start: str = "GET / HTTP/1.1",
        *headers: str,
        body: bytes = b"",
    ) -> "Answer":
        """One request over a connection of its own."""
        head = "\r\n".join((start, f"Host: {self.host}", *headers)) + "\r\n\r\n"
        return Answer.parse(self.router.say(head.encode("latin-1") + body))

    def raw(self, text: bytes) -> bytes:
        """These bytes, with the app's host where they say HOST."""
        return self.router.say(text.replace(b"HOST", self.host.encode()))

    def lines(self) -> list[str]:
        lines, _ = self.router.call(self.router.logs.last(app_name(self.slot), 100))
        return [line.text for line in lines]

    def line(self) -> str:
        """The router's first line in the app's log, once it is there."""
        return self.await_lines(1)[0]

    def await_lines(self, count: int) -> list[str]:
        """The router's lines in the app's log, once there are so many."""
        self.until(lambda: len(self.lines()) >= count)
        return self.lines()

    def await_queue(self, count: int) -> None:
        """Returns when so many requests wait for a dyno."""
        self.until(lambda: self._figure("qcur") == count)

    def await_sessions(self, count: int) -> None:
        """Returns when so many requests run or wait."""
        self.until(lambda: self._figure("scur") == count)

    def recover(self, server: Server, script: Script) -> None:
        """The dyno of this server begins to listen."""
        dyno = Dyno(server.name, script)
        self.dynos.append(dyno)
        self.router.call(dyno.start(server.port))

    def until(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not met():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _figure(self, column: str) -> int:
        """Of HAProxy's statistics, over all the app's backends."""
        admin = self.router.haproxy.layout.admin
        text = self.router.call(runtime.ask(admin, "show stat -1 2 -1"))
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return sum(int(row[column]) for row in rows if row["pxname"].endswith(f"_{self.slot:04d}"))


@dataclass
class Answer:
    """What a client read, until the router closed."""

    raw: bytes
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Answer":
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        _, status, reason = (first + "  ").split(" ", 2)
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        return cls(raw, int(status or 0), reason.strip(), headers, body)


def app_name(slot: int) -> str:
    return f"app-{slot}"


def drain(client: socket.socket) -> bytes:
    """Everything until the other side has closed."""
    data = b""
    with suppress(ConnectionResetError):
        while more := client.recv(65536):
            data += more
    return data


@contextmanager
def running(*, connections: int | None = None) -> Iterator[Router]:
    # A short path: sockets lie below it, and HAProxy's workers, who are nobody, must pass.
    folder = Path(tempfile.mkdtemp(prefix="dr"))
    folder.chmod(0o711)
    router = Router(folder, connections=connections)
    try:
        router.start()
        yield router
    finally:
        router.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def router() -> Iterator[Router]:
    with running() as router:
        yield router

"""Joins a person's terminal with an attached dyno: the rendezvous, as `heroku run` speaks it.

Knows sockets, and what each end does when the other goes. When a dyno is plugged in and started is
the manifold's; how its terminal is reached is the engine's.

A client connects over TLS and says its token; it hears `rendezvous` when the dyno is there, then
bytes go both ways until the dyno ends. A client that leaves, or a line that is silent for an hour, is a
hang-up: the dyno gets SIGHUP, and if it will not hear, is condemned (R16). A dyno that nobody comes for
is condemned too (R13).

When this process dies, so does the client's connection: `adopt` treats the dyno as hung up.
"""

import asyncio
import signal
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from deodar.engines.base import Attachment, Engine
from deodar.kit.clock import Clock
from deodar.kit.conversations import Conversations
from deodar.kit.signing import Signer
from deodar.loops.manifold.rendezvous import Client, Pipe, identify, split_marks
from deodar.model import errors
from deodar.model.dyno import Dyno, State
from deodar.model.log import LogLine
from deodar.store import dynos
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

GREETING = b"rendezvous\r\n"
PATIENCE = 30  #: seconds that a dyno waits for its client
LOOK = 0.5  #: seconds between looks whether a dyno that is not plugged in yet will ever be
IDLE = 60 * 60  #: seconds of silence after which the line is closed (devcenter: one-off dynos)
HANG_UPS = 3
HANG_UP_PAUSE = 5  #: seconds
LAST_WORDS = 0.5  #: seconds that news of a dyno's end may take

END_OF_INPUT = b"\x04"

AWAITING = "Awaiting client"
HANG_UP = "Client connection closed. Sending SIGHUP to all processes"
R13 = "Error R13 (Attach error) -> Failed to attach to process"
R16 = (
    "Error R16 (Detached) -> An attached process is not responding to SIGHUP after its external "
    "connection was closed."
)


def terminal_size(dyno: Dyno) -> tuple[int, int] | None:
    """Rows and columns of the client's terminal; it tells them once, in the dyno's environment."""
    rows, columns = dyno.env.get("LINES", ""), dyno.env.get("COLUMNS", "")
    if not (rows.isascii() and rows.isdigit() and columns.isascii() and columns.isdigit()):
        return None
    size = int(rows), int(columns)
    return size if all(0 < each < 1 << 16 for each in size) else None


@dataclass(slots=True, eq=False)
class Line:
    """One attached dyno, plugged in; a client joins it once."""

    dyno: Dyno
    attachment: Attachment
    output: Pipe = field(default_factory=Pipe)
    client: Client | None = None
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    spoke: asyncio.Event = field(default_factory=asyncio.Event)  #: somebody did, of late


class Switchboard:
    """Holds the lines of all attached dynos while `serve` runs."""

    def __init__(
        self, engine: Engine, db: Database, logs: Logs, clock: Clock, signer: Signer
    ) -> None:
        self._engine = engine
        self._db = db
        self._logs = logs
        self._clock = clock
        self._signer = signer  #: a token's text is the dyno's id
        self._lines: dict[str, Line] = {}
        self._plugged = asyncio.Condition()
        self._held: set[str] = set()  #: dynos whose end some task sees to
        self._group: asyncio.TaskGroup | None = None
        self._serves = asyncio.Event()

    async def serve(self, listen: str, port: int, context: ssl.SSLContext) -> None:
        """Answers clients until it is cancelled; then lets go of all lines, and the dynos run on."""
        async with Conversations("rendezvous", self._meet) as clients:
            server = await asyncio.start_server(clients.begin, listen, port, ssl=context)
            async with server, asyncio.TaskGroup() as group:
                self._group = group
                self._serves.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self._serves.clear()
                    self._group = None

    async def plug(self, dyno: Dyno) -> None:
        """Takes the dyno's terminal, between the engine's `create` and `start`; may be repeated.

        Raises EngineFailed when it cannot be taken.
        """
        await self._serves.wait()
        if dyno.id in self._held:
            return
        attachment = await self._engine.attach(dyno.id)
        size = terminal_size(dyno)
        if dyno.tty and size is not None:
            await attachment.resize(*size)
        line = Line(dyno, attachment)
        async with self._plugged:
            self._lines[dyno.id] = line
            self._plugged.notify_all()
        self._tell(dyno, AWAITING)
        self._hold(dyno, self._attend(line))

    async def adopt(self, dyno: Dyno) -> None:
        """An attached dyno runs: sees that somebody holds its line, and if not, that it ends.

        Without a line it is of the time before our last start: its client lost the connection then,
        and cannot come again. May be repeated.
        """
        await self._serves.wait()
        if dyno.id not in self._held:
            self._hold(dyno, self._outlive(dyno))

    def _hold(self, dyno: Dyno, work: Coroutine[None, None, None]) -> None:
        assert self._group is not None
        self._held.add(dyno.id)
        self._group.create_task(self._guard(dyno, work), name=f"attach:{dyno.name}")

    async def _guard(self, dyno: Dyno, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except errors.Unavailable as error:
            # The line is lost, the dyno is not: it is adopted at the manifold's next look.
            log.warning("Cannot hold a line", app=dyno.app_id, dyno=dyno.name, error=str(error))
        finally:
            self._held.discard(dyno.id)

    # The dyno's side.

    async def _attend(self, line: Line) -> None:
        """From plugging it in to the dyno's end, and the client's."""
        try:
            async with asyncio.TaskGroup() as group:
                ended = group.create_task(self._pump(line))
                if await self._is_joined(line):
                    await self._converse(line, ended, group)
                elif not ended.done():
                    self._tell(line.dyno, R13)
                    await self._condemn(line.dyno)
                    await self._engine.wait(line.dyno.id)
                    ended.cancel()  # it may wait for somebody to take its output
        finally:
            del self._lines[line.dyno.id]
            line.over.set()
            await line.attachment.close()

    async def _pump(self, line: Line) -> None:
        """All of the dyno's output, from the first byte: before there is a client, too."""
        async with asyncio.TaskGroup() as group:
            pumping = group.create_task(self._read_out(line))
            # A process may close its output and run on; it may end and leave a child that holds it.
            await self._engine.wait(line.dyno.id)
            await asyncio.wait({pumping}, timeout=LAST_WORDS)
            pumping.cancel()
        await line.output.close()

    async def _read_out(self, line: Line) -> None:
        while data := await line.attachment.read():
            await line.output.put(data)

    async def _is_joined(self, line: Line) -> bool:
        """A dyno that is quicker than its client waits for it too, with what it had to say."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await line.joined.wait()
        return line.joined.is_set()

    async def _converse(
        self, line: Line, ended: asyncio.Task[None], group: asyncio.TaskGroup
    ) -> None:
        client = line.client
        assert client is not None
        await client.send(GREETING)
        shown = group.create_task(self._show(line, client))
        left = group.create_task(self._listen(line, client))
        silent = group.create_task(self._silence(line))
        await asyncio.wait({shown, left, silent}, return_when=asyncio.FIRST_COMPLETED)
        if not shown.done():
            await self._hang_up(line.dyno, ended)
        left.cancel()
        silent.cancel()
        await client.close()

    async def _show(self, line: Line, client: Client) -> None:
        kept = b""
        while data := await line.output.get():
            line.spoke.set()
            chunks, kept = split_marks(kept + data)
            for chunk in chunks:
                await client.send(chunk)
        for chunk in split_marks(kept, last=True)[0]:
            await client.send(chunk)

    async def _listen(self, line: Line, client: Client) -> None:
        """Until the client leaves. Its end of input is a byte, which only a terminal understands."""
        while data := await client.receive():
            line.spoke.set()
            if line.dyno.tty:
                await line.attachment.write(data)
                continue
            await line.attachment.write(data.removesuffix(END_OF_INPUT))
            if data.endswith(END_OF_INPUT):
                await line.attachment.close_stdin()

    async def _silence(self, line: Line) -> None:
        """Until nothing was said for an hour: a forgotten terminal is one that was left."""
        with suppress(TimeoutError):
            while True:
                line.spoke.clear()
                async with asyncio.timeout(IDLE):
                    await line.spoke.wait()

    async def _outlive(self, dyno: Dyno) -> None:
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(self._engine.wait(dyno.id))
            await self._hang_up(dyno, ended)

    async def _hang_up(self, dyno: Dyno, ended: asyncio.Task[None]) -> None:
        """What a client's leaving means to a dyno (devcenter: R16)."""
        await asyncio.wait({ended}, timeout=LAST_WORDS)  # it may have left since the dyno ended
        for _ in range(HANG_UPS):
            if ended.done():
                return
            self._tell(dyno, HANG_UP)
            await self._engine.signal(dyno.id, signal.SIGHUP)
            await asyncio.wait({ended}, timeout=HANG_UP_PAUSE)
        if not ended.done():
            self._tell(dyno, R16)
            await self._condemn(dyno)
            await asyncio.wait({ended})

    async def _condemn(self, dyno: Dyno) -> None:
        async with self._db.write() as tx:
            await dynos.condemn(tx, dyno.id, "stop")
            tx.ring(dyno.app_id)

    def _tell(self, dyno: Dyno, text: str) -> None:
        line = LogLine(at=self._clock(), source="heroku", dyno=dyno.name, text=text)
        self._logs.append(dyno.app_id, [line])

    # The client's side.

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        try:
            dyno_id = await identify(client, self._signer, self._clock)
            line = await self._find(dyno_id) if dyno_id else None
            if line is not None and line.client is None:
                line.client = client
                line.joined.set()
                await line.over.wait()
        finally:
            await client.close()

    async def _find(self, dyno_id: str) -> Line | None:
        """The dyno's line, waiting while it may yet be plugged in."""
        while self._group is not None:
            if (line := self._lines.get(dyno_id)) is not None:
                return line
            async with self._db.read() as tx:
                dyno = await dynos.get(tx, dyno_id)
            if dyno is None or dyno.state is not State.PROVISIONING:
                return self._lines.get(dyno_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK), self._plugged:
                    await self._plugged.wait_for(lambda: dyno_id in self._lines)
        return None

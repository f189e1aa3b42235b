"""The rendezvous, met over real TLS by clients that see single records, as the official CLI does."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from deodar.adapters.ca import Authority
from deodar.engines.base import Spec
from deodar.kit.signing import Signer
from deodar.loops.manifold import attach
from deodar.loops.manifold.attach import Switchboard, terminal_size
from deodar.loops.manifold.rendezvous import MARK_LIMIT, split_marks
from deodar.model.app import ConfigVars
from deodar.model.dyno import Dyno, Event, Kind
from deodar.model.formation import size_of
from deodar.store import dynos
from deodar.store import releases as ledger
from tests.loops.conftest import SHOP, START, World

SIGNER = Signer(b"key", "rendezvous")
MARKER = "\uffff heroku-command-exit-status: 7\n".encode()
HANG_UP = f"run.1234: {attach.HANG_UP}"


class Client:
    """A TLS client that reads a record at a time."""

    def __init__(self, address: int, authority: Path) -> None:
        context = ssl.create_default_context(cafile=authority)
        plain = socket.create_connection(("127.0.0.1", address), timeout=5)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")

    async def send(self, data: bytes) -> None:
        await asyncio.to_thread(self._socket.sendall, data)

    async def record(self) -> bytes:
        """The next record; b"" when the server has closed."""
        try:
            return await asyncio.to_thread(self._socket.recv, 16384)
        except (ConnectionError, ssl.SSLError):
            return b""

    async def rest(self) -> bytes:
        data = b""
        while more := await self.record():
            data += more
        return data

    def close(self) -> None:
        self._socket.close()


class Board:
    """A switchboard that serves, and what a test does with it."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.rang = asyncio.Event()
        world.bell.listen(lambda _: self.rang.set())
        self.switchboard = Switchboard(world.engine, world.db, world.logs, world.clock, SIGNER)
        self._authority = Authority(folder / "ca")
        self._authority.ensure()
        certificate, key = self._authority.server_certificate(("localhost",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.port = free_port()
        self.serving = asyncio.create_task(self.switchboard.serve("127.0.0.1", self.port, context))

    async def wish(self, *, tty: bool = True, **env: str) -> Dyno:
        """A one-off that somebody wants to be attached to."""
        async with self.world.db.read() as tx:
            release = await ledger.current(tx, SHOP.id)
        assert release is not None
        dyno = Dyno(
            id="dyno-id",
            app_id=SHOP.id,
            type="run",
            number=1234,
            kind=Kind.ONE_OFF,
            size="Basic",
            command="bash",
            release_id=release.id,
            release_version=1,
            slug_id=None,
            state_since=START,
            created_at=START,
            attached=True,
            tty=tty,
            env=ConfigVars(env),
        )
        async with self.world.db.write() as tx:
            await dynos.insert_dyno(tx, dyno)
        return dyno

    async def create(self, dyno: Dyno) -> None:
        await self.world.engine.create(
            Spec(
                id=dyno.id,
                app_id=dyno.app_id,
                name=dyno.name,
                uid=20_000,
                argv=("bash",),
                env=dyno.env,
                stack="deodar-12",
                size=size_of(dyno.size),
                terminal=dyno.tty,
                stdin=True,
                keep_output=False,
            )
        )

    async def launch(self, *, tty: bool = True, **env: str) -> Dyno:
        """As the manifold does it."""
        dyno = await self.wish(tty=tty, **env)
        await self.create(dyno)
        await self.switchboard.plug(dyno)
        await self.world.engine.start(dyno.id)
        up = dyno.on(Event.LAUNCHED, START).on(Event.BOUND, START)
        async with self.world.db.write() as tx:
            await dynos.update_dyno(tx, up)
        self.rang.clear()
        return up

    async def connect(self) -> Client:
        return await asyncio.to_thread(Client, self.port, self._authority.certificate)

    async def join(self, line: bytes | None = None) -> Client:
        """A client that has said its token."""
        client = await self.connect()
        await client.send(self.token() + b"\r\n" if line is None else line)
        return client

    def token(self) -> bytes:
        return SIGNER.sign("dyno-id", now=self.world.now, lasts=timedelta(minutes=10)).encode()

    async def said(self) -> list[str]:
        return await self.world.said()

    async def condemned(self) -> str | None:
        return (await self.world.dyno("run.1234")).condemned


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def board(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Board]:
    monkeypatch.setattr(attach, "HANG_UP_PAUSE", 0.02)
    monkeypatch.setattr(attach, "LAST_WORDS", 0.05)
    made = Board(world, tmp_path)
    yield made
    made.serving.cancel()
    await asyncio.gather(made.serving, return_exceptions=True)


# the conversation


async def test_the_greeting_comes_alone_and_then_bytes_go_both_ways(board: Board) -> None:
    dyno = await board.launch()
    client = await board.join()

    greeting = await client.record()
    board.world.engine.say(dyno.id, "$ ")
    prompt = await client.record()
    await client.send(b"ls\r")
    board.world.engine.say(dyno.id, "Procfile")
    listing = await client.record()
    board.world.engine.exit(dyno.id, 0)

    assert [greeting, prompt, listing] == [b"rendezvous\r\n", b"$ \r\n", b"Procfile\r\n"]
    assert await client.rest() == b""
    assert board.world.engine.hear(dyno.id) == b"ls\r"


async def test_nothing_of_the_output_is_missed_though_the_dyno_is_over_before_its_client_comes(
    board: Board,
) -> None:
    dyno = await board.launch()
    board.world.engine.say(dyno.id, "quick")
    board.world.engine.exit(dyno.id, 0)

    client = await board.join()

    assert await client.rest() == b"rendezvous\r\nquick\r\n"
    assert await board.said() == ["run.1234: Awaiting client"]


async def test_a_client_waits_for_a_dyno_that_is_wished(board: Board) -> None:
    dyno = await board.wish()
    client = await board.join()
    hears = asyncio.create_task(client.record())

    await board.create(dyno)
    await board.switchboard.plug(dyno)

    assert await hears == b"rendezvous\r\n"


@pytest.mark.parametrize("tail", [b"\r\n", b"?x=1\r\n", b"\n", b""])
async def test_the_token_is_taken_as_every_client_writes_it(board: Board, tail: bytes) -> None:
    await board.launch()

    client = await board.join(board.token() + tail)

    assert await client.record() == b"rendezvous\r\n"


async def test_a_token_may_come_in_pieces(board: Board) -> None:
    dyno = await board.launch()
    client = await board.connect()
    token = board.token()
    for piece in (token[:5], token[5:], b"\r\n"):
        await client.send(piece)

    await client.record()
    await client.send(b"x")
    board.world.engine.say(dyno.id, "done")
    await client.record()

    assert board.world.engine.hear(dyno.id) == b"x"


@pytest.mark.parametrize("line", [b"made.up\r\n", b"\r\n", b"\xff\xfe\r\n", b"a" * 5000])
async def test_a_token_that_is_made_up_is_shown_the_door(board: Board, line: bytes) -> None:
    await board.launch()

    client = await board.join(line)

    assert await client.record() == b""


async def test_a_second_client_of_the_same_dyno_is_shown_the_door(board: Board) -> None:
    await board.launch()
    first = await board.join()
    await first.record()

    second = await board.join()

    assert await second.record() == b""


async def test_the_exit_status_is_a_record_of_its_own_however_it_was_printed(board: Board) -> None:
    dyno = await board.launch(tty=False)
    client = await board.join()
    await client.record()
    peer = board.world.machine.containers[dyno.id].peer
    assert peer is not None
    for piece in (b"x" * 20_000 + MARKER[:2], MARKER[2:20], MARKER[20:] + b"more"):
        peer.told.put_nowait(piece)
    board.world.engine.exit(dyno.id, 7)

    records = []
    while record := await client.record():
        records.append(record)

    assert MARKER in records
    assert b"".join(records) == b"x" * 20_000 + MARKER + b"more"


async def test_without_a_terminal_the_clients_last_byte_is_the_end_of_input(board: Board) -> None:
    dyno = await board.launch(tty=False)
    client = await board.join()
    await client.record()

    await client.send(b"some \x04 input\x04")
    container = board.world.machine.containers[dyno.id]
    async with asyncio.timeout(5):
        while not container.input_ended:
            await asyncio.to_thread(lambda: None)

    assert bytes(container.heard) == b"some \x04 input"


async def test_a_terminal_gets_that_byte_itself(board: Board) -> None:
    dyno = await board.launch()
    client = await board.join()
    await client.record()

    await client.send(b"\x04")
    async with asyncio.timeout(5):
        while not board.world.engine.hear(dyno.id):
            await asyncio.to_thread(lambda: None)

    assert board.world.engine.hear(dyno.id) == b"\x04"
    assert not board.world.machine.containers[dyno.id].input_ended


async def test_the_terminal_is_as_large_as_the_clients(board: Board) -> None:
    dyno = await board.launch(COLUMNS="132", LINES="43")

    assert board.world.machine.containers[dyno.id].size == (43, 132)


# who leaves


async def test_a_client_that_leaves_hangs_up_the_dyno(board: Board) -> None:
    dyno = await board.launch()
    client = await board.join()
    await client.record()

    client.close()
    await board.world.engine.wait(dyno.id)

    container = board.world.machine.containers[dyno.id]
    assert container.exit_status == 129
    assert await board.said() == ["run.1234: Awaiting client", HANG_UP]
    assert await board.condemned() is None


async def test_a_line_on_which_nothing_is_said_is_closed(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "IDLE", 0.05)
    await board.launch()
    client = await board.join()

    assert await client.rest() == b"rendezvous\r\n"
    assert await board.said() == ["run.1234: Awaiting client", HANG_UP]


async def test_a_dyno_that_does_not_hear_it_is_condemned(board: Board) -> None:
    dyno = await board.launch()
    board.world.engine.deafen(dyno.id)
    client = await board.join()
    await client.record()

    client.close()
    await until_condemned(board)

    assert await board.said() == [
        "run.1234: Awaiting client",
        *[HANG_UP] * 3,
        "run.1234: Error R16 (Detached) -> An attached process is not responding to SIGHUP after "
        "its external connection was closed.",
    ]


async def test_a_dyno_that_nobody_comes_for_is_condemned(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "PATIENCE", 0.02)
    dyno = await board.launch()

    await until_condemned(board)
    await board.switchboard.adopt(dyno)  # the manifold looks: there is nobody to hang up

    assert await board.said() == [
        "run.1234: Awaiting client",
        "run.1234: Error R13 (Attach error) -> Failed to attach to process",
    ]


async def test_a_dyno_whose_client_was_lost_with_the_control_plane_is_hung_up(
    board: Board,
) -> None:
    dyno = await board.wish()
    await board.create(dyno)
    await board.world.engine.start(dyno.id)

    await board.switchboard.adopt(dyno)
    await board.switchboard.adopt(dyno)
    await board.world.engine.wait(dyno.id)

    assert await board.said() == [HANG_UP]


async def test_a_dyno_that_is_attended_to_is_not_adopted(board: Board) -> None:
    dyno = await board.launch()

    await board.switchboard.adopt(dyno)
    client = await board.join()

    assert await client.record() == b"rendezvous\r\n"


async def test_a_dyno_that_could_not_be_started_lets_its_client_go(board: Board) -> None:
    dyno = await board.wish()
    await board.create(dyno)
    await board.switchboard.plug(dyno)
    client = await board.join()
    await client.record()

    await board.world.engine.remove(dyno.id)

    assert await client.record() == b""


async def test_the_lines_are_let_go_when_the_switchboard_stops_and_dynos_run_on(
    board: Board,
) -> None:
    dyno = await board.launch()
    client = await board.join()
    await client.record()

    board.serving.cancel()
    await asyncio.gather(board.serving, return_exceptions=True)

    assert await client.record() == b""
    assert (await board.world.engine.sightings())[dyno.id].running


async def until_condemned(board: Board) -> None:
    async with asyncio.timeout(5):
        await board.rang.wait()
    assert await board.condemned() == "stop"


# decisions


@pytest.mark.parametrize(
    ("data", "last", "chunks", "kept"),
    [
        (b"", False, [], b""),
        (b"plain", False, [b"plain"], b""),
        (MARKER, False, [MARKER], b""),
        (b"a" + MARKER + b"b", False, [b"a", MARKER, b"b"], b""),
        (MARKER + MARKER, False, [MARKER, MARKER], b""),
        (b"a" + MARKER[:1], False, [b"a"], MARKER[:1]),
        (b"a" + MARKER[:2], False, [b"a"], MARKER[:2]),
        (b"a" + MARKER[:9], False, [b"a"], MARKER[:9]),
        (b"a" + MARKER[:9], True, [b"a", MARKER[:9]], b""),
        (b"a" + MARKER[:2], True, [b"a" + MARKER[:2]], b""),
        (b"\xef\xbb\xbf", False, [b"\xef\xbb\xbf"], b""),
        (MARKER[:3] + b"x" * MARK_LIMIT, False, [MARKER[:3] + b"x" * MARK_LIMIT], b""),
    ],
)
def test_output_is_cut_around_marks(
    data: bytes, last: bool, chunks: list[bytes], kept: bytes
) -> None:
    assert split_marks(data, last=last) == (chunks, kept)


@pytest.mark.parametrize(
    ("env", "size"),
    [
        ({"LINES": "24", "COLUMNS": "80"}, (24, 80)),
        ({"COLUMNS": "80"}, None),
        ({"LINES": "-1", "COLUMNS": "80"}, None),
        ({"LINES": "0", "COLUMNS": "80"}, None),
        ({"LINES": "24", "COLUMNS": "65536"}, None),
        ({}, None),
    ],
)
def test_a_terminals_size_is_believed_only_if_it_is_one(
    env: dict[str, str], size: tuple[int, int] | None
) -> None:
    dyno = Dyno(
        id="id",
        app_id=SHOP.id,
        type="run",
        number=1,
        kind=Kind.ONE_OFF,
        size="Basic",
        command="bash",
        release_id="release",
        release_version=1,
        slug_id=None,
        state_since=START,
        created_at=START,
    )

    assert terminal_size(replace(dyno, env=ConfigVars(env))) == size

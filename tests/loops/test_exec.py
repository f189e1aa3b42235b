"""Into dynos by real SSH: the server, met by asyncssh's own client, with processes of the memory engine."""

import asyncio
import errno
import io
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from deodar.engines.memory import MemoryEngine, MemoryProcess
from deodar.kit.signing import Signer
from deodar.loops.manifold import boot, files
from deodar.loops.manifold import exec as tunnels
from deodar.loops.manifold.exec import Tunnel
from deodar.model import grant
from deodar.model.dyno import Event
from deodar.model.grant import Grant
from deodar.store import dynos
from tests.loops.conftest import World

SIGNER = Signer(b"key", "exec")
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
OUR_KEY = asyncssh.generate_private_key("ssh-ed25519")
PATIENCE = 10.0


class Gate:
    """A tunnel that listens, before a dyno that runs; what is started in it waits to be played."""

    def __init__(self, world: World, dyno_id: str) -> None:
        self.world = world
        self.dyno_id = dyno_id
        self.started: asyncio.Queue[MemoryProcess] = asyncio.Queue()
        self.play: Callable[[MemoryProcess], None] = self.started.put_nowait
        self.engine = MemoryEngine(world.machine, on_exec=lambda process: self.play(process))
        self.tunnel = Tunnel(self.engine, world.db, world.clock, SIGNER)
        self.port = 0

    def user(self, key: asyncssh.SSHKey = OUR_KEY) -> str:
        text = str(Grant(self.dyno_id, grant.fingerprint(key.public_data)))
        return SIGNER.sign(text, now=self.world.now, lasts=timedelta(hours=24))

    @asynccontextmanager
    async def entered(self, **options: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
        wishes = {"username": self.user(), "client_keys": [OUR_KEY]} | options
        host_key = asyncssh.import_public_key(tunnels.public_key(HOST_KEY))
        async with (
            asyncio.timeout(PATIENCE),
            asyncssh.connect(
                "127.0.0.1", self.port, known_hosts=([host_key], [], []), config=None, **wishes
            ) as connection,
        ):
            yield connection


@pytest.fixture
async def gate(world: World) -> AsyncIterator[Gate]:
    await world.deploy(web=1)
    await world.settle()
    made = Gate(world, (await world.dyno("web.1")).id)
    async with await made.tunnel.listen("127.0.0.1", 0, HOST_KEY) as server:
        made.port = server.get_port()
        yield made


# commands and shells


async def test_a_command_is_run_as_the_dynos_own_is_and_its_end_is_told(gate: Gate) -> None:
    async with gate.entered() as connection:
        client = await connection.create_process("ls /app")
        process = await gate.started.get()
        process.say(b"Procfile\n")
        process.say(b"no such file\n", stream="stderr")
        process.exit(3)
        done = await client.wait()

    assert (process.argv, process.size) == (boot.argv("ls /app"), None)
    assert (done.stdout, done.stderr, done.exit_status) == ("Procfile\n", "no such file\n", 3)


async def test_a_shell_has_the_clients_terminal_and_hears_every_byte(gate: Gate) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    async with gate.entered() as connection:
        client = await connection.create_process(
            term_type="xterm", term_size=(111, 33), encoding=None
        )
        process = await gate.started.get()
        process.on_input = heard.put_nowait
        sizes = [process.size]
        client.stdin.write(b"\x03\x04ls\r")
        typed = await heard.get()
        client.change_terminal_size(99, 44)
        client.stdin.write(b"q")
        typed += await heard.get()
        sizes.append(process.size)
        process.exit(0)
        await client.wait()

    assert (process.argv, process.env["TERM"]) == (boot.argv("bash"), "xterm")
    assert (typed, sizes) == (b"\x03\x04ls\rq", [(33, 111), (44, 99)])


async def test_the_end_of_a_clients_input_is_the_end_of_the_commands(gate: Gate) -> None:
    async with gate.entered() as connection:
        client = await connection.create_process("wc")
        process = await gate.started.get()
        client.stdin.write("one\n")
        client.stdin.write_eof()
        await process.input_ended.wait()
        process.exit(0)
        await client.wait()

    assert bytes(process.heard) == b"one\n"


async def test_a_signal_reaches_the_command(gate: Gate) -> None:
    async with gate.entered() as connection:
        client = await connection.create_process("sleep 1000")
        await gate.started.get()
        client.send_signal("TERM")

        assert (await client.wait()).exit_status == 143


async def test_all_output_is_told_however_late_the_client_reads_it(gate: Gate) -> None:
    text = b"x" * 5_000_000
    async with gate.entered() as connection:
        client = await connection.create_process("cat large", encoding=None)
        process = await gate.started.get()
        for start in range(0, len(text), 65536):
            process.say(text[start : start + 65536])
        process.exit(0)
        await process.wait()
        said = await client.stdout.read()

    assert said == text


async def test_a_client_that_leaves_hangs_up_what_it_ran(gate: Gate) -> None:
    async with gate.entered() as connection:
        await connection.create_process("sleep 1000")
        process = await gate.started.get()

    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 129


async def test_what_runs_ends_with_its_dyno(gate: Gate) -> None:
    async with gate.entered() as connection:
        client = await connection.create_process("sleep 1000")
        await gate.started.get()
        gate.engine.exit(gate.dyno_id, 0)

        assert (await client.wait()).exit_status == 137


async def test_what_cannot_be_run_is_told_why(gate: Gate) -> None:
    async with gate.entered() as connection:
        gate.engine.exit(gate.dyno_id, 0)
        done = await connection.run("ls")

    assert (done.exit_status, done.stderr) == (1, "The dyno does not run.\r\n")


# who may


async def test_nobody_else_may_enter(gate: Gate) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    rendezvous = Signer(b"key", "rendezvous")
    text = str(Grant(gate.dyno_id, grant.fingerprint(OUR_KEY.public_data)))
    soon = timedelta(minutes=1)
    for options in (
        {"client_keys": [other]},
        {"username": gate.user(other)},
        {"username": "web.1"},
        {"username": gate.dyno_id},
        {"username": rendezvous.sign(text, now=gate.world.now, lasts=soon)},
        {"username": SIGNER.sign(text, now=gate.world.now - timedelta(hours=1), lasts=soon)},
        {"username": SIGNER.sign(text.replace("-", ""), now=gate.world.now, lasts=soon)},
        {"client_keys": None, "password": "secret"},
    ):
        with pytest.raises(asyncssh.PermissionDenied):
            async with gate.entered(**options):
                pass


async def test_nobody_enters_a_dyno_that_is_over(gate: Gate) -> None:
    dyno = await gate.world.dyno("web.1")
    over = replace(dyno.on(Event.EXITED, gate.world.now), exit_status=1)
    async with gate.world.db.write() as tx:
        await dynos.update_dyno(tx, over)

    with pytest.raises(asyncssh.PermissionDenied):
        async with gate.entered():
            pass


# connections


async def test_a_connection_is_made_from_inside_the_dyno(gate: Gate) -> None:
    async with gate.entered() as connection:
        reader, writer = await connection.open_connection("0.0.0.0", boot.PORT)
        [caller] = gate.world.machine.containers[gate.dyno_id].callers
        caller.setblocking(False)
        inside, answering = await asyncio.open_connection(sock=caller)
        writer.write(b"GET /\r\n")
        asked = await inside.readline()
        answering.write(b"hello")
        answering.close()
        told = await reader.read()

    assert (asked, told) == (b"GET /\r\n", b"hello")


async def test_a_port_that_nobody_listens_on_is_refused_and_the_client_may_go_on(
    gate: Gate,
) -> None:
    async with gate.entered() as connection:
        with pytest.raises(asyncssh.ChannelOpenError, match="connection refused"):
            await connection.open_connection("localhost", 1)
        await connection.open_connection("localhost", boot.PORT)


async def test_nobody_listens_on_the_machine_for_a_client(gate: Gate) -> None:
    async with gate.entered() as connection:
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)


# files


def serve_files(process: MemoryProcess) -> None:
    """What the dyno's python3 does with `files`, in this process."""
    assert process.argv[0] == "/usr/bin/python3"
    server, received = files.Server(), bytearray()

    def on_input(data: bytes) -> None:
        received.extend(data)
        if not data:
            process.exit(0)
        while len(received) >= 4:
            (length,) = struct.unpack_from(">I", received)
            if len(received) < 4 + length:
                return
            answer = server.answer(bytes(received[4 : 4 + length]))
            del received[: 4 + length]
            process.say(struct.pack(">I", len(answer)) + answer)

    process.on_input = on_input


@asynccontextmanager
async def sftp(gate: Gate) -> AsyncIterator[asyncssh.SFTPClient]:
    gate.play = serve_files
    async with gate.entered() as connection, connection.start_sftp_client() as client:
        yield client


async def test_files_are_copied_out_and_in(gate: Gate, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "there").write_bytes(data)
    async with sftp(gate) as client:
        await client.get(str(tmp_path / "there"), str(tmp_path / "here"))
        await client.put(str(tmp_path / "here"), str(tmp_path / "again"))

    assert [(tmp_path / name).read_bytes() == data for name in ("here", "again")] == [True, True]


async def test_folders_are_listed_and_changed(gate: Gate, tmp_path: Path) -> None:
    for number in range(250):
        (tmp_path / str(number)).touch()
    async with sftp(gate) as client:
        listed = await client.readdir(str(tmp_path))
        names = {str(each.filename) for each in listed if str(each.filename).isdigit()}
        lines = [str(each.longname) for each in listed if each.filename == "7"]
        for name in ("folder", "other"):
            await client.mkdir(str(tmp_path / name))
        await client.rmdir(str(tmp_path / "other"))
        await client.rename(str(tmp_path / "0"), str(tmp_path / "folder" / "zero"))
        await client.remove(str(tmp_path / "1"))

    assert names == {str(number) for number in range(250)}
    assert re.fullmatch(r"-rw-r--r-- +1 +\d+ +\d+ +0 \w{3} \d\d \d{4} \d\d:\d\d 7", lines[0])
    assert (tmp_path / "folder" / "zero").exists()
    assert not any((tmp_path / name).exists() for name in ("0", "1", "other"))


async def test_what_is_not_there_or_not_allowed_is_told_so(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    async with sftp(gate) as client:
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await client.get(str(tmp_path / "none"), str(tmp_path / "x"))
        with pytest.raises(asyncssh.SFTPFailure):
            await client.open(str(tmp_path), "rb")
        with pytest.raises(asyncssh.SFTPOpUnsupported):
            await client.symlink("a", str(tmp_path / "b"))

        assert await client.readlink(str(tmp_path / "link")) == "nowhere"
        assert (await client.lstat(str(tmp_path / "link"))).type == asyncssh.FILEXFER_TYPE_SYMLINK


def test_a_file_server_ends_at_what_is_no_packet() -> None:
    answers = io.BytesIO()
    hello = struct.pack(">IBI", 5, files.INIT, 3)

    files.serve(io.BytesIO(hello + b"GET / HTTP/1.1\r\n"), answers)

    assert answers.getvalue() == struct.pack(">IBI", 5, files.VERSION, 3)


def test_a_packet_that_is_cut_off_is_answered_as_bad() -> None:
    answer = files.Server().answer(struct.pack(">BII", 17, 7, 1000) + b"short")

    kind, number, code = struct.unpack_from(">BII", answer)
    assert (kind, number, code) == (files.STATUS, 7, files.BAD_MESSAGE)


# the server's own life


async def test_all_are_hung_up_when_the_server_ends(gate: Gate) -> None:
    serving = asyncio.create_task(gate.tunnel.serve("127.0.0.79", free_port(), HOST_KEY))
    async with gate.entered() as connection:
        client = await connection.create_process("sleep 1000")
        process = await gate.started.get()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

        assert await process.wait() == 129
        assert (await client.wait()).exit_status is None
    assert gate.tunnel.connections == set()


async def test_an_address_that_is_taken_is_waited_for(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels, "AGAIN", 0.01)
    port = free_port()
    with tunnels.alone_at("127.0.0.1", port):
        serving = asyncio.create_task(gate.tunnel.serve("127.0.0.1", port, HOST_KEY))
        await asyncio.sleep(0)  # it tries, in vain
    gate.port = port
    async with asyncio.timeout(PATIENCE):
        while not await entered(gate):  # noqa: ASYNC110 - nothing tells that it listens
            await asyncio.sleep(0.01)

    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def entered(gate: Gate) -> bool:
    try:
        async with gate.entered():
            return True
    except ConnectionRefusedError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_two_platforms_do_not_share_an_address() -> None:
    with tunnels.alone_at("127.0.0.80", 1):
        with pytest.raises(OSError) as refused, tunnels.alone_at("127.0.0.80", 1):
            pass
        with tunnels.alone_at("127.0.0.81", 1):
            pass
    with tunnels.alone_at("127.0.0.80", 1):
        pass

    assert refused.value.errno == errno.EADDRINUSE

"""What every engine promises (engines/base.py), asked of each of them.

A Stage is one engine with puppets: containers that do what a test says. In memory a test says it to the
engine; elsewhere the container runs PUPPET, which takes its orders from a fifo. A new kind of engine
joins by its Stage.
"""

import asyncio
import hashlib
import json
import os
import random
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

import pytest
import pytest_asyncio

from deodar import settings
from deodar.engines import base
from deodar.engines.local.engine import LocalEngine
from deodar.engines.memory import Machine, MemoryEngine, MemoryProcess
from deodar.model import errors
from deodar.model.app import ConfigVars
from deodar.model.formation import size_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE = 30.0  #: seconds for anything real to happen on a busy machine
PORT = 5000
EATEN = 64 * 1024 * 1024
KEPT = 16 * 1024 * 1024
PUPPET = """
import json, os, signal, socket, sys, threading
def obey(order, argument):
    match order:
        case "say": print(argument, flush=True)
        case "complain": print(argument, file=sys.stderr, flush=True)
        case "accept": servers.append(socket.create_server(("", argument)))
        case "deafen": signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "exit": os._exit(argument)
        case "eat": eaten.append(b"x" * argument)
        case "keep": open("/dev/shm/kept", "wb").write(b"x" * argument)
        case "spin": threading.Thread(target=spin, daemon=True).start()
def spin():
    while True: pass
def listen():
    while data := os.read(0, 4096):
        with open("/tmp/strings/heard", "ab") as file: file.write(data)
    open("/tmp/strings/deaf", "w").close()
servers, eaten = [], []
threading.Thread(target=listen, daemon=True).start()
with open(os.open("/tmp/strings/orders", os.O_RDWR)) as orders, open("/tmp/strings/done", "a") as done:
    for line in iter(orders.readline, ""):
        obey(*json.loads(line))
        print(line, end="", file=done, flush=True)
"""


class Stage(Protocol):
    """An engine with containers that obey."""

    @property
    def engine(self) -> base.Engine: ...

    @property
    def root(self) -> Path:
        """What all of its containers have as their root."""

    def spec(self, **changes: Any) -> base.Spec: ...

    def reopen(self) -> Any:
        """`async with`: another engine on the same machine, after the first was let go of."""

    async def say(self, container_id: str, text: str) -> None: ...

    async def accept(self, container_id: str, port: int) -> None: ...

    async def deafen(self, container_id: str) -> None: ...

    async def exit(self, container_id: str, status: int) -> None: ...

    async def eat(self, container_id: str, count: int) -> None:
        """It takes so many bytes of memory."""

    async def keep(self, container_id: str, count: int) -> None:
        """It keeps so many bytes in files that are memory."""

    async def spin(self, container_id: str) -> None:
        """A thread of it wants a CPU from now on."""

    def heard(self, container_id: str) -> bytes: ...

    def input_ended(self, container_id: str) -> bool: ...


def puppet(**changes: Any) -> base.Spec:
    spec = base.Spec(
        id=str(uuid.uuid4()),
        app_id="app",
        name="web.1",
        uid=20_001,
        argv=("python3", "-c", PUPPET),
        env=ConfigVars(PATH="/usr/bin:/bin", HOME="/app"),
        stack="deodar-12",
        size=size_of("Basic"),
    )
    return replace(spec, **changes)


SPEAK = "echo out; echo oops >&2; exit 3"
LEAVE = "sleep 1000 & echo gone"
MEASURE = "stty size; read _; stty size"


def play(process: MemoryProcess) -> None:
    """In memory, what the programs of these tests do."""
    match process.argv:
        case ("cat",):
            process.on_input = lambda data: process.say(data) if data else process.exit(0)
        case ("sh", "-c", script) if script == SPEAK:
            process.say(b"out\n")
            process.say(b"oops\n", stream="stderr")
            process.exit(3)
        case ("sh", "-c", script) if script == LEAVE:
            process.say(b"gone\n")
            process.exit(0)
        case ("sh", "-c", script) if script == MEASURE:

            def measure(_: bytes = b"") -> None:
                process.say("{} {}\r\n".format(*(process.size or ())).encode())

            measure()
            process.on_input = measure
        case ("printenv", *names):
            process.say("".join(f"{process.env[name]}\n" for name in names).encode())
            process.exit(0)


class MemoryStage:
    def __init__(self) -> None:
        self.engine: MemoryEngine = MemoryEngine(Machine(swap=4 * EATEN), on_exec=play)
        self.root = Path("/")

    def spec(self, **changes: Any) -> base.Spec:
        return puppet(**changes)

    @asynccontextmanager
    async def reopen(self) -> AsyncIterator[None]:
        await self.engine.close()
        self.engine = MemoryEngine(self.engine.machine, on_exec=play)
        await self.engine.prepare()
        yield

    async def say(self, container_id: str, text: str) -> None:
        self.engine.say(container_id, text)

    async def accept(self, container_id: str, port: int) -> None:
        self.engine.accept(container_id, port)

    async def deafen(self, container_id: str) -> None:
        self.engine.deafen(container_id)

    async def exit(self, container_id: str, status: int) -> None:
        self.engine.exit(container_id, status)

    async def eat(self, container_id: str, count: int) -> None:
        self.engine.take(container_id, rss=count)

    async def keep(self, container_id: str, count: int) -> None:
        self.engine.take(container_id, shared=count, cache=count)

    async def spin(self, container_id: str) -> None:
        self.engine.want_cpu(container_id, 1)

    def heard(self, container_id: str) -> bytes:
        return self.engine.hear(container_id)

    def input_ended(self, container_id: str) -> bool:
        return self.engine.machine.containers[container_id].input_ended


class LocalStage:
    def __init__(self, folder: Path, stack: Path) -> None:
        self._strings = folder / "strings"
        self._fifos: dict[str, IO[bytes]] = {}
        self._paths = settings.Paths(data=folder / "data")
        run = self._paths.stacks / "deodar-12" / "run"
        run.parent.mkdir(parents=True)
        run.symlink_to(stack)
        self.root = run
        subnet = f"10.{random.randrange(200, 250)}.{random.randrange(256)}.0/24"
        self.engine: LocalEngine = LocalEngine(paths=self._paths, subnet=subnet)
        self._subnet = subnet

    def spec(self, **changes: Any) -> base.Spec:
        spec = puppet(**changes)
        strings = self._strings / spec.id
        strings.mkdir(parents=True)
        os.mkfifo(strings / "orders")
        for path in (strings, strings / "orders"):
            os.chown(path, spec.uid, spec.uid)
        # r+: a fifo keeps what is written to it before its reader comes only while it is open
        self._fifos[spec.id] = (strings / "orders").open("r+b", buffering=0)
        volume = base.Volume(source=strings, target="/tmp/strings", writable=True)
        return replace(spec, volumes=(volume,))

    @asynccontextmanager
    async def reopen(self) -> AsyncIterator[None]:
        await self.engine.close()
        self.engine = LocalEngine(paths=self._paths, subnet=self._subnet)
        await self.engine.prepare()
        yield

    async def say(self, container_id: str, text: str) -> None:
        await self._order(container_id, "say", text)

    async def accept(self, container_id: str, port: int) -> None:
        await self._order(container_id, "accept", port)

    async def deafen(self, container_id: str) -> None:
        await self._order(container_id, "deafen", None)

    async def exit(self, container_id: str, status: int) -> None:
        self._send(container_id, "exit", status)

    async def eat(self, container_id: str, count: int) -> None:
        await self._order(container_id, "eat", count)

    async def keep(self, container_id: str, count: int) -> None:
        await self._order(container_id, "keep", count)

    async def spin(self, container_id: str) -> None:
        await self._order(container_id, "spin", None)

    def heard(self, container_id: str) -> bytes:
        file = self._strings / container_id / "heard"
        return file.read_bytes() if file.exists() else b""

    def input_ended(self, container_id: str) -> bool:
        return (self._strings / container_id / "deaf").exists()

    def close(self) -> None:
        for fifo in self._fifos.values():
            fifo.close()

    async def _order(self, container_id: str, order: str, argument: object) -> None:
        done = self._strings / container_id / "done"
        line = self._send(container_id, order, argument)
        await until(lambda: done.exists() and done.read_text().endswith(line))

    def _send(self, container_id: str, order: str, argument: object) -> str:
        line = json.dumps([order, argument]) + "\n"
        self._fifos[container_id].write(line.encode())
        return line


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["memory", "local"])
async def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    if os.geteuid() != 0:
        pytest.skip("the local engine needs root")
    root = request.getfixturevalue("stack_root")
    local = LocalStage(tmp_path_factory.mktemp("engine"), root)
    await local.engine.prepare()
    try:
        yield local
    finally:
        async with local.reopen():
            await local.engine.teardown()
        await local.engine.close()
        local.close()


async def until(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return condition()

    await until_async(asked)


async def until_async(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await condition():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.005)


async def run(stage: Stage, **changes: Any) -> str:
    """A puppet that runs."""
    spec = stage.spec(**changes)
    await stage.engine.create(spec)
    await stage.engine.start(spec.id)
    return spec.id


async def ended(stage: Stage, container_id: str) -> None:
    async with asyncio.timeout(DEADLINE):
        await stage.engine.wait(container_id)


async def sighting(stage: Stage, container_id: str) -> base.Sighting | None:
    """What is seen of it; its address is as the engine pleases."""
    seen = (await stage.engine.sightings()).get(container_id)
    return None if seen is None else replace(seen, address=None)


def seen(container_id: str, **changes: Any) -> base.Sighting:
    return replace(
        base.Sighting(id=container_id, app_id="app", name="web.1", running=True, address=None),
        **changes,
    )


async def text(stage: Stage, container_id: str, *, offset: int = 0) -> list[str]:
    return [piece.data.decode() for piece in await stage.engine.output(container_id, offset)]


# life


async def test_a_made_container_does_not_run_until_it_is_started(stage: Stage) -> None:
    spec = stage.spec()
    await stage.engine.create(spec)
    before = await sighting(stage, spec.id)

    await stage.engine.start(spec.id)

    assert [before, await sighting(stage, spec.id)] == [
        seen(spec.id, running=False),
        seen(spec.id),
    ]


async def test_making_and_starting_twice_is_as_good_as_once(stage: Stage) -> None:
    spec = stage.spec()
    made = [await stage.engine.create(spec), await stage.engine.create(spec)]
    started = [await stage.engine.start(spec.id), await stage.engine.start(spec.id)]

    assert (made[0], started[0]) == (made[1], started[1])


async def test_an_exit_status_is_seen_after_waiting(stage: Stage) -> None:
    container = await run(stage)
    await stage.exit(container, 3)

    await ended(stage, container)

    assert await sighting(stage, container) == seen(container, running=False, exit_status=3)


async def test_starting_what_has_ended_starts_nothing(stage: Stage) -> None:
    container = await run(stage)
    await stage.exit(container, 0)
    await ended(stage, container)

    await stage.engine.start(container)

    assert await sighting(stage, container) == seen(container, running=False, exit_status=0)


async def test_sigterm_ends_a_process_that_does_not_handle_it_with_143(stage: Stage) -> None:
    container = await run(stage)
    await stage.say(container, "up")

    await stage.engine.signal(container, signal.SIGTERM)
    await ended(stage, container)

    assert await sighting(stage, container) == seen(container, running=False, exit_status=143)


async def test_sigkill_ends_a_process_that_is_deaf_to_sigterm(stage: Stage) -> None:
    container = await run(stage)
    await stage.deafen(container)
    await stage.engine.signal(container, signal.SIGTERM)
    await stage.say(container, "still here")
    before = await sighting(stage, container)

    await stage.engine.signal(container, signal.SIGKILL)
    await ended(stage, container)

    assert [before, await sighting(stage, container)] == [
        seen(container),
        seen(container, running=False, exit_status=137),
    ]


async def test_a_container_that_was_never_started_can_be_killed(stage: Stage) -> None:
    spec = stage.spec()
    await stage.engine.create(spec)

    await stage.engine.signal(spec.id, signal.SIGKILL)
    await ended(stage, spec.id)

    assert await sighting(stage, spec.id) == seen(spec.id, running=False, exit_status=137)


async def test_a_removed_container_is_unknown_whether_it_ran_or_not(stage: Stage) -> None:
    containers = [await run(stage), await run(stage)]
    await stage.exit(containers[1], 0)
    await ended(stage, containers[1])

    for container in containers:
        await stage.engine.remove(container)

    assert [await sighting(stage, each) for each in containers] == [None, None]


async def test_removing_wakes_whoever_waits(stage: Stage) -> None:
    container = await run(stage)
    waiting = asyncio.create_task(stage.engine.wait(container))
    await asyncio.sleep(0)

    await stage.engine.remove(container)

    async with asyncio.timeout(DEADLINE):
        await waiting


async def test_what_is_unknown_can_be_removed_signalled_waited_for_and_read(stage: Stage) -> None:
    await stage.engine.remove("nobody")
    await stage.engine.signal("nobody", signal.SIGTERM)
    await stage.engine.wait("nobody")
    await stage.engine.discard_output("nobody", 10)

    assert (
        await stage.engine.output("nobody", 0),
        await stage.engine.ready("nobody", PORT),
    ) == ([], False)


async def test_what_is_unknown_cannot_be_started_or_attached_to(stage: Stage) -> None:
    for call in (stage.engine.start, stage.engine.attach):
        with pytest.raises(errors.EngineFailed):
            await call("nobody")


async def test_an_id_can_be_used_again_after_removal(stage: Stage) -> None:
    spec = stage.spec()
    await stage.engine.create(spec)
    await stage.engine.remove(spec.id)

    await stage.engine.create(spec)
    await stage.engine.start(spec.id)
    await stage.say(spec.id, "again")

    assert await sighting(stage, spec.id) == seen(spec.id)


async def test_a_build_is_known_as_one(stage: Stage) -> None:
    spec = stage.spec(build=True)
    if isinstance(stage, LocalStage):
        spec = replace(spec, build=False)  # its stack has no build variant
    await stage.engine.create(spec)

    assert await sighting(stage, spec.id) == seen(spec.id, running=False, build=spec.build)


async def test_a_stack_that_is_not_there_is_told_in_a_sentence(stage: Stage) -> None:
    if isinstance(stage, MemoryStage):
        pytest.skip("in memory there are all stacks")
    with pytest.raises(errors.EngineFailed, match="The stack deodar-99 is not on this machine"):
        await stage.engine.create(stage.spec(stack="deodar-99"))


async def test_a_root_is_used_while_a_container_is_on_it(stage: Stage) -> None:
    container_id = await run(stage)
    for other in (await stage.engine.sightings()).keys() - {container_id}:
        await stage.engine.remove(other)
    while_it_runs = await stage.engine.uses(stage.root)
    await stage.engine.remove(container_id)

    assert (while_it_runs, await stage.engine.uses(stage.root)) == (True, False)


# ports


async def test_it_is_ready_once_it_accepts_connections_and_until_it_ends(stage: Stage) -> None:
    container = await run(stage)
    answers = [await stage.engine.ready(container, PORT)]
    await stage.accept(container, PORT)
    answers.append(await stage.engine.ready(container, PORT))
    await stage.exit(container, 0)
    await ended(stage, container)
    answers.append(await stage.engine.ready(container, PORT))

    assert answers == [False, True, False]


async def test_containers_have_an_address_each(stage: Stage) -> None:
    sights = [await stage.engine.create(stage.spec()) for _ in range(3)]

    assert len({each.address for each in sights} - {None}) == 3


# output


async def test_output_is_read_on_from_where_it_was_left(stage: Stage) -> None:
    container = await run(stage)
    await stage.say(container, "one")
    await until_async(lambda: _has(stage, container, 1))
    first = await stage.engine.output(container, 0)
    await stage.say(container, "two")
    await until_async(lambda: _has(stage, container, 2))

    rest = await stage.engine.output(container, first[-1].offset)

    assert [(p.stream, p.data, p.partial) for p in [*first, *rest]] == [
        ("stdout", b"one", False),
        ("stdout", b"two", False),
    ]


async def test_discarded_output_is_gone_and_the_rest_stays_where_it_was(stage: Stage) -> None:
    container = await run(stage)
    for word in ("one", "two", "three"):
        await stage.say(container, word)
    await until_async(lambda: _has(stage, container, 3))
    pieces = await stage.engine.output(container, 0)

    await stage.engine.discard_output(container, pieces[1].offset)

    assert await stage.engine.output(container, pieces[1].offset) == pieces[2:]


async def test_output_outlives_the_process(stage: Stage) -> None:
    container = await run(stage)
    await stage.say(container, "last words")
    await stage.exit(container, 1)
    await ended(stage, container)

    assert await text(stage, container) == ["last words"]


async def test_whoever_waits_is_told_that_something_was_printed(stage: Stage) -> None:
    container = await run(stage)
    await stage.say(container, "one")

    async with asyncio.timeout(DEADLINE):
        while container not in await stage.engine.output_grew():
            pass


async def test_too_much_output_can_be_begun_later_at_a_lines_beginning(stage: Stage) -> None:
    container = await run(stage)
    for word in ("one", "two", "three"):
        await stage.say(container, word)
    await until_async(lambda: _has(stage, container, 3))
    _, two, three = await stage.engine.output(container, 0)

    all_of_it = await stage.engine.output_start(container, 0, at_most=10_000)
    only_three = await stage.engine.output_start(
        container, 0, at_most=three.offset - two.offset + 1
    )

    assert (all_of_it, only_three) == (0, two.offset)
    assert await stage.engine.output_start("nobody", 10, at_most=0) == 10


async def _has(stage: Stage, container_id: str, count: int) -> bool:
    return len(await stage.engine.output(container_id, 0)) >= count


# attaching


async def test_an_attached_peer_misses_nothing_and_what_it_types_is_heard(stage: Stage) -> None:
    spec = stage.spec(stdin=True, keep_output=False)
    await stage.engine.create(spec)
    peer = await stage.engine.attach(spec.id)
    await stage.engine.start(spec.id)
    await stage.say(spec.id, "hello")
    told = await heard_from(peer, b"hello\n")
    await peer.write(b"to you\n")
    await until(lambda: stage.heard(spec.id) == b"to you\n")

    await stage.exit(spec.id, 0)

    assert (told, await peer.read(), await text(stage, spec.id)) == (b"hello\n", b"", [])
    await peer.close()


async def test_a_pipe_can_be_told_that_there_is_no_more_input(stage: Stage) -> None:
    spec = stage.spec(stdin=True)
    await stage.engine.create(spec)
    peer = await stage.engine.attach(spec.id)
    await stage.engine.start(spec.id)
    await peer.write(b"all\n")

    await peer.close_stdin()
    await until(lambda: stage.input_ended(spec.id))
    await stage.say(spec.id, "still talking")

    told = await heard_from(peer, b"still talking\n")
    assert (stage.heard(spec.id), told) == (b"all\n", b"still talking\n")
    await peer.close()


async def test_a_container_runs_on_when_its_peer_lets_go(stage: Stage) -> None:
    spec = stage.spec(terminal=True)
    await stage.engine.create(spec)
    peer = await stage.engine.attach(spec.id)
    await stage.engine.start(spec.id)
    await stage.say(spec.id, "first")
    first = await heard_from(peer, b"first\r\n")
    await peer.close()

    again = await stage.engine.attach(spec.id)
    await stage.say(spec.id, "second")

    assert (first, await heard_from(again, b"second\r\n")) == (b"first\r\n", b"second\r\n")
    await again.close()


async def test_a_closed_peer_that_was_reading_reads_the_end(stage: Stage) -> None:
    container = await run(stage, stdin=True)
    peer = await stage.engine.attach(container)
    reading = asyncio.create_task(peer.read())
    await asyncio.sleep(0)

    await peer.close()

    async with asyncio.timeout(DEADLINE):
        assert await reading == b""


async def heard_from(peer: base.Attachment | base.Process, last: bytes) -> bytes:
    """All that it says up to `last`, in however many pieces."""
    heard = b""
    async with asyncio.timeout(DEADLINE):
        while not heard.endswith(last) and (data := await peer.read()):
            heard += data
    return heard


# processes beside its own


async def test_a_second_process_has_streams_and_a_status_of_its_own(stage: Stage) -> None:
    container = await run(stage)

    async with stage.engine.exec(container, ("sh", "-c", SPEAK), env={}) as process:
        said = await heard_from(process, b"\n"), await process.read_errors()
        status = await process.wait()

    assert (said, status) == ((b"out\n", b"oops\n"), 3)
    assert await text(stage, container) == []
    assert await sighting(stage, container) == seen(container)


async def test_a_second_process_hears_input_and_its_end(stage: Stage) -> None:
    container = await run(stage)

    async with stage.engine.exec(container, ("cat",), env={}) as process:
        await process.write(b"to you\n")
        echo = await heard_from(process, b"to you\n")
        await process.close_stdin()
        rest = await process.read()
        status = await process.wait()

    assert (echo, rest, status) == (b"to you\n", b"", 0)


async def test_a_second_process_has_a_terminal_of_the_size_that_is_wished(stage: Stage) -> None:
    container = await run(stage)
    command = ("sh", "-c", MEASURE)

    async with stage.engine.exec(container, command, env={}, terminal=(33, 111)) as process:
        first = await heard_from(process, b"33 111\r\n")
        await process.resize(44, 99)
        await process.write(b"\n")
        second = await heard_from(process, b"44 99\r\n")

    assert (first, second.lstrip(b"\r\n")) == (b"33 111\r\n", b"44 99\r\n")


async def test_a_second_process_has_the_environment_of_the_first_and_what_is_added(
    stage: Stage,
) -> None:
    container = await run(stage)
    command = ("printenv", "HOME", "TERM")

    async with stage.engine.exec(container, command, env={"TERM": "vt100"}) as process:
        said = await heard_from(process, b"vt100\n")

    assert said == b"/app\nvt100\n"


@pytest.mark.parametrize("terminal", [None, (24, 80)])
async def test_a_second_process_ends_with_the_block_and_the_first_runs_on(
    stage: Stage, terminal: tuple[int, int] | None
) -> None:
    container = await run(stage)

    async with stage.engine.exec(
        container, ("sleep", "1000"), env={}, terminal=terminal
    ) as process:
        pass

    assert await process.wait() == 128 + signal.SIGHUP
    assert await sighting(stage, container) == seen(container)


async def test_a_second_process_hears_signals_that_the_first_does_not(stage: Stage) -> None:
    container = await run(stage)

    async with stage.engine.exec(container, ("sleep", "1000"), env={}) as process:
        await process.signal(signal.SIGUSR1)
        async with asyncio.timeout(DEADLINE):
            status = await process.wait()

    assert status == 128 + signal.SIGUSR1
    assert await sighting(stage, container) == seen(container)


async def test_a_second_process_ends_with_its_container(stage: Stage) -> None:
    container = await run(stage)

    async with stage.engine.exec(container, ("sleep", "1000"), env={}) as process:
        await stage.exit(container, 0)
        async with asyncio.timeout(DEADLINE):
            status = await process.wait()

    assert status == 128 + signal.SIGKILL


async def test_a_second_process_has_ended_though_a_child_of_it_goes_on(stage: Stage) -> None:
    container = await run(stage)

    async with stage.engine.exec(container, ("sh", "-c", LEAVE), env={}) as process:
        said = await heard_from(process, b"gone\n")
        async with asyncio.timeout(DEADLINE):
            status = await process.wait()

    assert (said, status) == (b"gone\n", 0)


async def test_nothing_runs_in_and_nobody_reaches_what_has_ended(stage: Stage) -> None:
    container = await run(stage)
    await stage.exit(container, 0)
    await ended(stage, container)

    for unreachable in (container, "nobody"):
        with pytest.raises(errors.EngineFailed):
            async with stage.engine.exec(unreachable, ("true",), env={}):
                pass
        with pytest.raises(errors.EngineFailed):
            await stage.engine.dial(unreachable, "localhost", PORT)


async def test_a_port_that_is_listened_on_can_be_dialled_and_no_other(stage: Stage) -> None:
    container = await run(stage)
    await stage.accept(container, PORT)

    for host in ("localhost", "0.0.0.0"):
        with await stage.engine.dial(container, host, PORT) as connection:
            assert connection.getblocking() is False
        with pytest.raises(errors.EngineFailed, match=f"Cannot connect to {host}:{PORT + 1}"):
            await stage.engine.dial(container, host, PORT + 1)


# what they take


async def test_the_memory_that_a_container_takes_is_seen(stage: Stage) -> None:
    container = await run(stage)
    await stage.say(container, "ready")
    before = (await stage.engine.usage([container]))[container]
    await stage.eat(container, EATEN)
    await stage.keep(container, KEPT)
    after = (await stage.engine.usage([container]))[container]

    # An interpreter takes and gives back some by itself.
    assert (after.rss - before.rss) / EATEN == pytest.approx(1, abs=0.1)
    assert (after.shared - before.shared) / KEPT == pytest.approx(1, abs=0.1)
    assert after.cache >= after.shared
    assert (after.swap, after.oom_kills, after.forks_refused) == (0, 0, 0)


async def test_a_thread_that_wants_a_cpu_is_seen(stage: Stage) -> None:
    busy, idle = await run(stage), await run(stage)
    for each in (busy, idle):
        await stage.say(each, "ready")
    await stage.spin(busy)

    async def seen() -> bool:
        return await stage.engine.runnable([busy, idle]) == {busy: 1, idle: 0}

    await until_async(seen)


async def test_what_does_not_run_takes_nothing(stage: Stage) -> None:
    over = await run(stage)
    await stage.exit(over, 0)
    await ended(stage, over)
    made = stage.spec()
    await stage.engine.create(made)

    asked = [over, made.id, "nobody"]
    assert await stage.engine.usage(asked) == {}
    assert await stage.engine.runnable(asked) == {}


# standing still


async def test_a_frozen_container_is_seen_as_running_and_frozen_until_it_is_thawed(
    stage: Stage,
) -> None:
    container = await run(stage)
    seen_then = []
    for act in (stage.engine.freeze, stage.engine.thaw):
        for _ in range(2):
            await act(container)
            seen_then.append(await sighting(stage, container))

    assert seen_then == [seen(container, frozen=True)] * 2 + [seen(container)] * 2


async def test_a_frozen_container_does_nothing_until_it_is_thawed(stage: Stage) -> None:
    container, other = await run(stage), await run(stage)
    for each in (container, other):
        await stage.say(each, "up")
    await stage.spin(container)
    await stage.engine.freeze(container)
    saying = asyncio.create_task(stage.say(container, "thawed"))
    await stage.say(other, "meanwhile")
    await until_async(lambda: _has(stage, other, 2))
    before = await text(stage, container), await stage.engine.runnable([container])

    await stage.engine.thaw(container)
    await saying
    await until_async(lambda: _has(stage, container, 2))

    assert before == (["up"], {container: 0})
    assert await text(stage, container) == ["up", "thawed"]


async def test_what_was_printed_before_freezing_can_be_read(stage: Stage) -> None:
    container = await run(stage)
    for number in range(100):
        await stage.say(container, f"{number}")

    await stage.engine.freeze(container)
    await until_async(lambda: _has(stage, container, 100))

    assert await text(stage, container) == [f"{number}" for number in range(100)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_that_ends_a_container_ends_a_frozen_one(
    stage: Stage, number: signal.Signals
) -> None:
    container = await run(stage)
    await stage.say(container, "up")
    await stage.engine.freeze(container)

    await stage.engine.signal(container, number)
    await ended(stage, container)

    assert await sighting(stage, container) == seen(
        container, running=False, exit_status=128 + number
    )


async def test_a_frozen_container_can_be_removed(stage: Stage) -> None:
    container = await run(stage)
    await stage.engine.freeze(container)

    await stage.engine.remove(container)

    assert await sighting(stage, container) is None


async def test_what_does_not_run_is_neither_frozen_nor_thawed(stage: Stage) -> None:
    over = await run(stage)
    await stage.exit(over, 0)
    await ended(stage, over)
    made = stage.spec()
    await stage.engine.create(made)

    for container in (over, made.id, "nobody"):
        await stage.engine.freeze(container)
        await stage.engine.reclaim(container)
        await stage.engine.thaw(container)

    assert [await sighting(stage, each) for each in (over, made.id, "nobody")] == [
        seen(over, running=False, exit_status=0),
        seen(made.id, running=False),
        None,
    ]
    await stage.engine.start(made.id)
    await stage.say(made.id, "up")


async def test_nobody_runs_a_command_in_a_frozen_container_nor_freezes_one_under_it(
    stage: Stage,
) -> None:
    container = await run(stage)
    async with stage.engine.exec(container, ("cat",), env={}):
        with pytest.raises(errors.EngineFailed, match="somebody runs a command in it"):
            await stage.engine.freeze(container)
    assert await sighting(stage, container) == seen(container)

    await stage.engine.freeze(container)

    with pytest.raises(errors.EngineFailed, match="it is frozen"):
        async with stage.engine.exec(container, ("cat",), env={}):
            pass


async def test_a_frozen_container_accepts_connections_and_peers(stage: Stage) -> None:
    container = await run(stage, stdin=True)
    await stage.accept(container, PORT)
    await stage.engine.freeze(container)

    async with asyncio.timeout(DEADLINE):
        ready = await stage.engine.ready(container, PORT)
        (await stage.engine.dial(container, "localhost", PORT)).close()
        peer = await stage.engine.attach(container)
        await peer.write(b"typed\n")
    await stage.engine.thaw(container)

    assert ready
    await until(lambda: stage.heard(container) == b"typed\n")
    await peer.close()


async def test_reclaiming_pushes_out_what_there_is_room_for_and_the_sum_stays(stage: Stage) -> None:
    container = await run(stage)
    await stage.eat(container, EATEN)
    awake = (await stage.engine.usage([container]))[container]
    await stage.engine.reclaim(container)
    still_awake = (await stage.engine.usage([container]))[container]
    await stage.engine.freeze(container)
    room = await stage.engine.room_for_reclaim()

    await stage.engine.reclaim(container)
    asleep = (await stage.engine.usage([container]))[container]
    await stage.engine.thaw(container)
    await stage.say(container, "I am back")

    assert still_awake.swap == 0
    assert (asleep.rss + asleep.swap) / (awake.rss + awake.swap) == pytest.approx(1, abs=0.1)
    assert asleep.swap <= room
    if room > 2 * EATEN:
        assert asleep.rss < awake.rss / 10


# slugs


async def test_a_slug_is_packed_kept_and_forgotten(stage: Stage, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    checksum = f"SHA256:{hashlib.sha256(b'kept').hexdigest()}"
    await stage.engine.keep_slug(
        await stage.engine.pack_slug(tree, uid=20_001), checksum=checksum, uid=20_001
    )
    spec = stage.spec(slug=checksum)
    await stage.engine.create(spec)
    await stage.engine.remove(spec.id)

    await stage.engine.forget_slug(checksum)
    await stage.engine.forget_slug(checksum)

    if isinstance(stage, LocalStage):
        with pytest.raises(errors.EngineFailed, match="is not on this machine"):
            await stage.engine.create(stage.spec(slug=checksum))


# a new engine


async def test_a_new_engine_finds_what_the_old_one_left(stage: Stage) -> None:
    running, over = await run(stage), await run(stage)
    frozen = await run(stage)
    await stage.engine.freeze(frozen)
    await stage.say(over, "unread")
    await stage.exit(over, 7)
    await ended(stage, over)

    async with stage.reopen():
        assert [await sighting(stage, each) for each in (running, frozen, over)] == [
            seen(running),
            seen(frozen, frozen=True),
            seen(over, running=False, exit_status=7),
        ]
        assert await text(stage, over) == ["unread"]
        await stage.engine.thaw(frozen)
        await stage.say(frozen, "thawed")
        await stage.say(running, "alive")
        await stage.exit(running, 0)
        await ended(stage, running)
        assert await text(stage, running) == ["alive"]


@pytest.fixture(autouse=True, scope="module")
def _no_mounts_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield
    assert str(tmp_path_factory.getbasetemp()) not in Path("/proc/self/mountinfo").read_text()

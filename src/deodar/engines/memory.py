"""An engine whose containers are records: for tests, which say what happens inside, and for the curious.

It keeps base.Engine's promise and runs nothing. What a process would do, a test does in its place:
`accept`, `say`, `exit`, `hear`. Signals end a container as they would a process that does not handle
them, unless it is `deaf`. A Machine outlives its engines, as a real one does.
"""

import asyncio
import signal as signals
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path

from deodar.engines import base
from deodar.kit import clock
from deodar.model import errors

FIRST_ADDRESS = IPv4Address("10.0.0.0")
LOGGED = 49  #: bytes of a log line beside its text, so that offsets grow as they do elsewhere


@dataclass(slots=True)
class Container:
    """One container as a Machine knows it."""

    spec: base.Spec
    address: str
    started: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    exit_status: int | None = None
    oom_killed: bool = False
    frozen: bool = False
    standing: list[Callable[[], None]] = field(default_factory=list)  #: what it does when thawed
    deaf: bool = False  #: ignores every signal but SIGKILL
    ports: set[int] = field(default_factory=set)
    log: list[base.Output] = field(default_factory=list)
    length: int = 0  #: of the log in bytes
    discarded: int = 0
    usage: base.Usage = field(default_factory=base.Usage)
    runnable: int = 0  #: threads that want a CPU
    written: int = 0  #: bytes on its own disk
    peer: "MemoryAttachment | None" = None
    heard: bytearray = field(default_factory=bytearray)  #: input that it was given
    input_ended: bool = False
    size: tuple[int, int] | None = None  #: of its terminal
    processes: "list[MemoryProcess]" = field(default_factory=list)  #: beside its own
    callers: list[socket.socket] = field(default_factory=list)  #: who dialled, for it to answer


@dataclass(slots=True)
class Machine:
    """What is there whether or not an engine looks: containers by id, packed slugs by checksum."""

    containers: dict[str, Container] = field(default_factory=dict)
    slugs: dict[str, Path] = field(default_factory=dict)
    made: int = 0  #: containers so far; the next one's address comes of it
    swap: int = 0  #: bytes that it has of it


class MemoryEngine:
    """Keeps base.Engine's promise in memory.

    `on_start` is what every container's process does first; without it those with a port accept
    connections on it at once. `on_exec` is what every process beside it does.
    """

    def __init__(
        self,
        machine: Machine | None = None,
        *,
        now: clock.Clock = clock.wall,
        on_start: Callable[["MemoryEngine", base.Spec], None] | None = None,
        on_exec: Callable[["MemoryProcess"], None] | None = None,
    ) -> None:
        self.machine = machine if machine is not None else Machine()
        self._now = now
        self._on_start = on_start or _accept
        self._on_exec = on_exec
        self._refusal: str | None = None
        self._grown: set[str] = set()
        self._growth = asyncio.Event()

    # the promise

    async def prepare(self) -> None:
        return

    async def close(self) -> None:
        return

    async def pack_slug(self, tree: Path, *, uid: int) -> Path:
        packed = tree.with_name(f"{tree.name}.packed")
        packed.touch()
        return packed

    async def keep_slug(self, packed: Path, *, checksum: str, uid: int) -> None:
        packed.unlink()
        self.machine.slugs[checksum] = packed

    async def forget_slug(self, checksum: str) -> None:
        self.machine.slugs.pop(checksum, None)

    async def packed_slugs(self) -> frozenset[str]:
        return frozenset(self.machine.slugs)

    async def create(self, spec: base.Spec) -> base.Sighting:
        if spec.id not in self.machine.containers:
            if self._refusal is not None:
                raise errors.EngineFailed(self._refusal)
            self.machine.made += 1
            self.machine.containers[spec.id] = Container(
                spec, str(FIRST_ADDRESS + self.machine.made)
            )
        return _sight(self.machine.containers[spec.id])

    async def start(self, container_id: str) -> base.Sighting:
        container = self._known(container_id)
        if not container.started and not container.ended.is_set():
            container.started = True
            self._on_start(self, container.spec)
        return _sight(container)

    async def ready(self, container_id: str, port: int) -> bool:
        container = self.machine.containers.get(container_id)
        return container is not None and not container.ended.is_set() and port in container.ports

    async def signal(self, container_id: str, signal: int) -> None:
        container = self.machine.containers.get(container_id)
        if container is None or container.ended.is_set():
            return
        await self.thaw(container_id)
        if signal == signals.SIGKILL or (container.started and not container.deaf):
            self.exit(container_id, 128 + signal)

    async def freeze(self, container_id: str) -> None:
        for _, container in self._of([container_id]):
            if any(process.status is None for process in container.processes):
                raise errors.EngineFailed("Cannot freeze the dyno: somebody runs a command in it.")
            container.frozen = True

    async def thaw(self, container_id: str) -> None:
        for _, container in self._of([container_id]):
            container.frozen = False
            while container.standing:
                container.standing.pop(0)()

    async def reclaim(self, container_id: str) -> None:
        for _, container in self._of([container_id]):
            if container.frozen:
                used = container.usage
                moved = min(used.rss, await self.room_for_reclaim())
                container.usage = replace(
                    used, rss=used.rss - moved, cache=used.shared, swap=used.swap + moved
                )

    async def room_for_reclaim(self) -> int:
        taken = sum(container.usage.swap for container in self.machine.containers.values())
        return max(0, self.machine.swap - taken)

    async def wait(self, container_id: str) -> None:
        container = self.machine.containers.get(container_id)
        if container is not None:
            await container.ended.wait()

    async def sightings(self, app_id: str | None = None) -> Mapping[str, base.Sighting]:
        return {
            key: _sight(container)
            for key, container in self.machine.containers.items()
            if app_id in (None, container.spec.app_id)
        }

    async def uses(self, root: Path) -> bool:
        """In memory they have no files: any container may have any."""
        return bool(self.machine.containers)

    async def written(self) -> Mapping[str, int]:
        return {key: container.written for key, container in self.machine.containers.items()}

    async def usage(self, container_ids: Collection[str]) -> Mapping[str, base.Usage]:
        return {key: container.usage for key, container in self._of(container_ids)}

    async def runnable(self, container_ids: Collection[str]) -> Mapping[str, int]:
        return {
            key: 0 if container.frozen else container.runnable
            for key, container in self._of(container_ids)
        }

    async def output(self, container_id: str, offset: int) -> list[base.Output]:
        container = self.machine.containers.get(container_id)
        if container is None:
            return []
        start = max(offset, container.discarded)
        return [piece for piece in container.log if piece.offset > start]

    async def output_start(self, container_id: str, offset: int, *, at_most: int) -> int:
        container = self.machine.containers.get(container_id)
        if container is None or container.length - offset <= at_most:
            return offset
        ends = [piece.offset for piece in container.log]
        return next((end for end in ends if container.length - end <= at_most), offset)

    async def output_grew(self) -> frozenset[str]:
        await self._growth.wait()
        self._growth.clear()
        grown = frozenset(self._grown)
        self._grown.clear()
        return grown

    async def discard_output(self, container_id: str, offset: int) -> None:
        container = self.machine.containers.get(container_id)
        if container is not None:
            container.discarded = max(container.discarded, offset)
            container.log = [piece for piece in container.log if piece.offset > offset]

    async def attach(self, container_id: str) -> base.Attachment:
        container = self._known(container_id)
        if container.ended.is_set():
            raise errors.EngineFailed("Cannot attach to the dyno, it has ended.")
        container.peer = MemoryAttachment(container)
        return container.peer

    @asynccontextmanager
    async def exec(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        terminal: tuple[int, int] | None = None,
    ) -> AsyncIterator[base.Process]:
        container = self._running(container_id)
        if container.frozen:
            raise errors.EngineFailed("Cannot run a command in the dyno: it is frozen.")
        process = MemoryProcess(tuple(argv), container.spec.env | dict(env), terminal)
        container.processes.append(process)
        if self._on_exec is not None:
            self._on_exec(process)
        try:
            yield process
        finally:
            process.exit(128 + signals.SIGHUP)

    async def dial(self, container_id: str, host: str, port: int) -> socket.socket:
        container = self._running(container_id)
        if port not in container.ports:
            raise errors.EngineFailed(f"Cannot connect to {host}:{port}: connection refused")
        ours, theirs = socket.socketpair()
        container.callers.append(theirs)
        ours.setblocking(False)
        return ours

    async def remove(self, container_id: str) -> None:
        container = self.machine.containers.get(container_id)
        if container is not None:
            if not container.ended.is_set():
                self.exit(container_id, 128 + signals.SIGKILL)
            del self.machine.containers[container_id]

    # what happens inside, and to the machine

    def accept(self, container_id: str, port: int) -> None:
        """It listens on `port` from now on."""
        self._known(container_id).ports.add(port)

    def say(
        self, container_id: str, text: str, *, stream: str = "stdout", at: datetime | None = None
    ) -> None:
        """It prints `text` and a newline; a frozen one when it is thawed."""
        container = self._known(container_id)
        if container.frozen:
            container.standing.append(lambda: self.say(container_id, text, stream=stream, at=at))
            return
        data = text.encode()
        if container.spec.keep_output:
            container.length += LOGGED + len(data)
            moment = (at or self._now()).timestamp()
            container.log.append(base.Output(moment, stream, data, False, container.length))
            self._grown.add(container_id)
            self._growth.set()
        if container.peer is not None:
            container.peer.told.put_nowait(data + (b"\r\n" if container.spec.terminal else b"\n"))

    def write(self, container_id: str, count: int) -> None:
        """It writes so many bytes to its own disk."""
        self._known(container_id).written += count

    def take(self, container_id: str, **numbers: int) -> None:
        """Its usage has those numbers from now on."""
        container = self._known(container_id)
        container.usage = replace(container.usage, **numbers)

    def want_cpu(self, container_id: str, threads: int) -> None:
        """So many threads of it want a CPU from now on."""
        self._known(container_id).runnable = threads

    def hear(self, container_id: str) -> bytes:
        """All input that it was given so far."""
        return bytes(self._known(container_id).heard)

    def exit(self, container_id: str, status: int | None = 0, *, oom_killed: bool = False) -> None:
        """It ends, frozen or not; None for one whose supervisor was lost with it."""
        container = self._known(container_id)
        if container.ended.is_set():
            return
        container.exit_status = status
        container.oom_killed = oom_killed
        container.ports.clear()
        container.ended.set()
        for process in container.processes:
            process.exit(128 + signals.SIGKILL)
        if container.peer is not None:
            container.peer.told.put_nowait(b"")

    def deafen(self, container_id: str) -> None:
        """It ignores every signal but SIGKILL from now on."""
        self._known(container_id).deaf = True

    def refuse(self, message: str | None) -> None:
        """Containers cannot be made, for that reason; None: they can again."""
        self._refusal = message

    def reboot(self) -> None:
        """The machine starts anew: nothing runs, and nobody knows how it ended."""
        for container_id in self.machine.containers:
            self.exit(container_id, None)

    def _of(self, container_ids: Collection[str]) -> Iterator[tuple[str, Container]]:
        """Those of them that run."""
        for key in container_ids:
            container = self.machine.containers.get(key)
            if container is not None and _sight(container).running:
                yield key, container

    def _running(self, container_id: str) -> Container:
        container = self._known(container_id)
        if not container.started or container.ended.is_set():
            raise errors.EngineFailed("The dyno does not run.")
        return container

    def _known(self, container_id: str) -> Container:
        container = self.machine.containers.get(container_id)
        if container is None:
            raise errors.EngineFailed(f"There is no container {container_id} on this machine.")
        return container


class MemoryProcess:
    """Keeps base.Process's promise; what it does, a test does in its place: `say`, `exit`."""

    def __init__(
        self, argv: tuple[str, ...], env: Mapping[str, str], size: tuple[int, int] | None
    ) -> None:
        self.argv = argv
        self.env = env
        self.size = size  #: of its terminal
        self.heard = bytearray()
        self.input_ended = asyncio.Event()
        self.on_input: Callable[[bytes], None] = lambda _: None
        self.status: int | None = None
        self._terminal = size is not None
        self._ended = asyncio.Event()
        self._told: asyncio.Queue[bytes] = asyncio.Queue()
        self._complained: asyncio.Queue[bytes] = asyncio.Queue()

    def say(self, data: bytes, *, stream: str = "stdout") -> None:
        queue = self._told if self._terminal or stream == "stdout" else self._complained
        queue.put_nowait(data)

    def exit(self, status: int) -> None:
        if self.status is None:
            self.status = status
            self._ended.set()
            for queue in (self._told, self._complained):
                queue.put_nowait(b"")

    async def read(self) -> bytes:
        return await _take(self._told)

    async def read_errors(self) -> bytes:
        return b"" if self._terminal else await _take(self._complained)

    async def write(self, data: bytes) -> None:
        if self.status is None:
            self.heard += data
            self.on_input(data)

    async def close_stdin(self) -> None:
        if not self._terminal:
            self.input_ended.set()
            self.on_input(b"")

    async def resize(self, rows: int, columns: int) -> None:
        if self._terminal:
            self.size = (rows, columns)

    async def signal(self, signal: int) -> None:
        self.exit(128 + signal)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.status is not None
        return self.status


async def _take(queue: asyncio.Queue[bytes]) -> bytes:
    """The next; b"" is the last, and stays."""
    data = await queue.get()
    if data == b"":
        queue.put_nowait(b"")
    return data


class MemoryAttachment:
    """Keeps base.Attachment's promise for a Container."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self.told: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await _take(self.told)

    async def write(self, data: bytes) -> None:
        if not self._container.ended.is_set():
            self._container.heard += data

    async def close_stdin(self) -> None:
        self._container.input_ended = True

    async def resize(self, rows: int, columns: int) -> None:
        if self._container.spec.terminal:
            self._container.size = (rows, columns)

    async def close(self) -> None:
        if self._container.peer is self:
            self._container.peer = None
        self.told.put_nowait(b"")


def _accept(engine: MemoryEngine, spec: base.Spec) -> None:
    if spec.port is not None:
        engine.accept(spec.id, spec.port)


def _sight(container: Container) -> base.Sighting:
    return base.Sighting(
        id=container.spec.id,
        app_id=container.spec.app_id,
        running=container.started and not container.ended.is_set(),
        address=container.address,
        exit_status=container.exit_status,
        oom_killed=container.oom_killed,
        peak=container.usage.peak if container.oom_killed else None,
        build=container.spec.build,
        frozen=container.frozen and not container.ended.is_set(),
        name=container.spec.name,
    )

"""The Engine promise: run one container per dyno id, tell how it fares, and forget it.

Knows nothing of formations, releases or restarts: it is told what to run and says what became of it.
Every call may be repeated: starting what runs and stopping what is gone are no errors. Containers
outlive the control plane; a new Engine on the same data directory finds them again.
"""

import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from deodar.model.app import ConfigVars
from deodar.model.formation import DynoSize


@dataclass(frozen=True, slots=True)
class Volume:
    """A host folder or file that the container sees; for builds."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All that an engine needs to run one container."""

    id: str  #: the dyno's or the build's id, unique for ever
    app_id: str
    name: str  #: `web.1`; becomes the host name, `web-1`
    uid: int  #: user and group inside
    argv: tuple[str, ...]  #: what the init process runs, cwd /app
    env: ConfigVars  #: the whole environment
    stack: str  #: such as `deodar-12`
    build: bool = False  #: use the stack's build variant
    slug: str | None = None  #: checksum `SHA256:…` of the slug at /app, under an ephemeral layer
    volumes: tuple[Volume, ...] = ()
    size: DynoSize
    port: int | None = None  #: `ready` probes it
    terminal: bool = False  #: a pty is its stdin, stdout and stderr
    stdin: bool = False  #: stdin stays open for `attach`; otherwise it is empty
    keep_output: bool = True  #: False: output goes to an attached peer only, not into the log
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What an engine knows of one container."""

    id: str
    app_id: str
    name: str  #: as its Spec said
    running: bool
    address: str | None  #: IP address to reach its ports at
    exit_status: int | None = None  #: 0-255, 128+n for signal n; None while running or if lost
    oom_killed: bool = False
    peak: int | None = None  #: most bytes of memory it had, if it was and if the kernel tells
    build: bool = False  #: as its Spec said
    frozen: bool = False  #: it runs, and stands still


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one container takes of this machine, in bytes and pages."""

    rss: int = 0  #: its processes' own memory
    cache: int = 0  #: files that are kept in memory, `shared` among them
    shared: int = 0  #: /tmp, /dev/shm and shared memory: not given back while somebody wants them
    swap: int = 0
    pgpgin: int | None = None  #: None where the kernel does not count them for a container
    pgpgout: int | None = None
    oom_kills: int = 0  #: processes that the kernel ended for its memory, so far
    peak: int | None = None  #: most memory it had, if that was so and if the kernel tells
    forks_refused: int = 0  #: how often it had as many processes as it may have


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of a container's output. `offset` is where the next piece starts."""

    at: float  #: seconds since the epoch, as the supervisor saw it
    stream: str  #: `stdout` or `stderr`
    data: bytes  #: without the newline
    partial: bool  #: the line goes on in the next piece
    offset: int


class Attachment(Protocol):
    """Both directions of a container's terminal or pipes."""

    async def read(self) -> bytes:
        """The next output, b"" once the container ended or its output closed."""

    async def write(self, data: bytes) -> None:
        """Input for the container; dropped if it does not read any more."""

    async def close_stdin(self) -> None:
        """No more input: end of file for pipes."""

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; nothing without a terminal."""

    async def close(self) -> None:
        """Let go; the container runs on."""


class Process(Protocol):
    """One more process in a container, beside its own."""

    async def read(self) -> bytes:
        """Its next output, b"" at the end; with a terminal its errors too."""

    async def read_errors(self) -> bytes:
        """What it writes to stderr next, b"" at the end; with a terminal at once."""

    async def write(self, data: bytes) -> None:
        """Input for it; dropped if it does not read any more."""

    async def close_stdin(self) -> None:
        """No more input: end of file for pipes, nothing for a terminal."""

    async def resize(self, rows: int, columns: int) -> None:
        """Set its terminal's size; nothing without a terminal."""

    async def signal(self, signal: int) -> None:
        """Send it a signal, and to no other process; nothing once it has ended."""

    async def wait(self) -> int:
        """Its exit status when it has ended, 128+n for signal n. Others may hold its output longer."""


class Engine(Protocol):
    """Where dynos run. Raises errors.EngineFailed when the machine below fails it: a sentence that the
    app's owner can read, since it ends as the reason of a crash. R17's begins with `Error R17`."""

    async def prepare(self) -> None:
        """Once before use: bridge, firewall, cgroups, mounts of a machine that may have rebooted."""

    async def close(self) -> None:
        """Let go of tasks and files of this process; containers run on."""

    async def pack_slug(self, tree: Path, *, uid: int) -> Path:
        """From a compiled tree, the form in which this engine runs a slug, in a temporary file; so
        that `create` need not unpack the archive of a slug which was built on this machine."""

    async def keep_slug(self, packed: Path, *, checksum: str, uid: int) -> None:
        """What `pack_slug` made is the slug with that checksum."""

    async def forget_slug(self, checksum: str) -> None:
        """Nothing will run that slug any more: unmount it and delete its packed form. May be repeated."""

    async def packed_slugs(self) -> frozenset[str]:
        """The checksums of the slugs that `forget_slug` would find something of."""

    async def create(self, spec: Spec) -> Sighting:
        """Make the container, all but running: so that `attach` misses nothing. May be repeated."""

    async def start(self, container_id: str) -> Sighting:
        """Run what `create` made. May be repeated."""

    async def ready(self, container_id: str, port: int) -> bool:
        """Whether something accepts TCP connections on `port` right now."""

    async def signal(self, container_id: str, signal: int) -> None:
        """Send a signal to every process of it; SIGKILL ends it for certain. A frozen one is thawed."""

    async def freeze(self, container_id: str) -> None:
        """Its processes stand still, in the midst of whatever they do; memory and connections stay, and the
        kernel goes on accepting connections for it. May be repeated; nothing for what does not run.
        Refused while a process of `exec` is in it."""

    async def thaw(self, container_id: str) -> None:
        """It goes on where it stood. Quick; may be repeated; nothing for what does not run."""

    async def reclaim(self, container_id: str) -> None:
        """Push a frozen container's memory out of RAM, as far as there is swap; what the machine cannot
        take stays. Returns when done; `thaw` cuts it short. Nothing for what is not frozen."""

    async def room_for_reclaim(self) -> int:
        """Bytes of swap that are free; 0 without swap."""

    async def wait(self, container_id: str) -> None:
        """Returns when it has ended, or is unknown."""

    async def sightings(self, app_id: str | None = None) -> Mapping[str, Sighting]:
        """Every container there is, or the app's, running or ended and not yet removed, by id. Cheap."""

    async def uses(self, root: Path) -> bool:
        """Whether a container has that folder, an edition of a stack, as its root file system, or is
        being made on it. Cheap."""

    async def written(self) -> Mapping[str, int]:
        """Bytes that each container has on the disk of its own, by id. Reads every file's size: ask once
        a minute, not once a second."""

    async def usage(self, container_ids: Collection[str]) -> Mapping[str, Usage]:
        """What those of them take that run; others are left out. Some small reads each."""

    async def runnable(self, container_ids: Collection[str]) -> Mapping[str, int]:
        """How many threads of those that run want a CPU at this moment. A small read each thread."""

    async def output(self, container_id: str, offset: int) -> list[Output]:
        """Its kept output from `offset` on, up to about 1 MB; [] when there is no more for now."""

    async def output_start(self, container_id: str, offset: int, *, at_most: int) -> int:
        """Where a line begins after which there are at most that many bytes of kept output: `offset`,
        or a later one. Costs the same however much there is."""

    async def output_grew(self) -> frozenset[str]:
        """Waits until something is printed; answers the ids of the containers that have kept output
        since the last call. At most some 20 times a second. One caller only."""

    async def discard_output(self, container_id: str, offset: int) -> None:
        """Output before `offset` is stored elsewhere: give its disk space back."""

    async def attach(self, container_id: str) -> Attachment:
        """Join its terminal or pipes; one at a time. Between `create` and its end."""

    def exec(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        terminal: tuple[int, int] | None = None,
    ) -> AbstractAsyncContextManager[Process]:
        """One more process in a container that runs: as the same user, with no more rights, in /app,
        with `env` over the environment that the Spec gave. `terminal` is its rows and columns. Not in a
        frozen one: thaw it first.

        At the end of the block a process that still runs is hung up, and soon killed. It ends with its
        container, too.
        """

    async def dial(self, container_id: str, host: str, port: int) -> socket.socket:
        """A connection from inside the container's network, where `localhost` is the container itself:
        connected, not blocking, the caller's to close."""

    async def remove(self, container_id: str) -> None:
        """Kill it if it runs and leave nothing of it: processes, mounts, network, cgroups, files."""

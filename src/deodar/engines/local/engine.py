"""The engine of one machine: keeps base.Engine's promise with conmon and crun; each part is a neighbour's.

What is on disk is the truth, what is in memory a copy: a new engine on the same data directory finds
every container, its status and its unread output. Each container's parent is conmon, which outlives
us; when conmon goes, the container has ended.
"""

import asyncio
import os
import shutil
import signal as signals
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from deodar import settings
from deodar.engines import base
from deodar.engines.local import (
    attachment,
    cgroups,
    commands,
    dialing,
    ending,
    execution,
    ground,
    making,
    mounts,
    oci,
    output,
    records,
    sleep,
    swap,
    usage,
    watch,
)
from deodar.kit import disk, subprocess
from deodar.model import errors
from deodar.model.swap import free

RUNTIMES = ("crun", "runc")  #: crun starts in half the time
AT_ONCE = 4  #: containers made at the same time; more only get into each other's way
PROBE_TIMEOUT = 1.0  #: seconds for a connection to a dyno


class _Container:
    """A container of which this process knows, and how it ended."""

    def __init__(self, record: records.Record) -> None:
        self.record = record
        self.ended = asyncio.Event()
        self.exit_status: int | None = None
        self.oom_killed = False
        self.peak: int | None = None
        self.pidfd: int | None = None
        self.frozen = False
        self.reclaiming: asyncio.Timeout | None = None  #: to be cut short
        self.guests = 0  #: processes of `exec` in it


class LocalEngine:
    """Keeps base.Engine's promise on this machine."""

    def __init__(self, *, paths: settings.Paths, subnet: str, zram: int | None = None) -> None:
        """`zram` is the size of a swap device in RAM, for a machine without swap."""
        self._ground = ground.Ground(paths, subnet=subnet)
        self._name = self._ground.name
        self._short = self._ground.short
        self._records = self._ground.records
        self._namespace = self._ground.namespace
        self._network = self._ground.network
        self._images = self._ground.images
        self._ending = ending.Ending(self._ground)
        self._making = making.Making(self._ground, self._ending)
        self._zram = swap.Zram(paths.run / "zram", size=zram)
        self._outputs = watch.Watch()
        self._containers: dict[str, _Container] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    # life of the engine

    async def prepare(self) -> None:
        self._check_tools()
        await self.find()
        with _failing("Cannot make swap in RAM (zram)"):
            await self._zram.prepare()
        with _failing("Cannot give dynos a network"):
            here = [
                c.record.slot for c in self._containers.values() if self._ground.is_here(c.record)
            ]
            await self._network.prepare(here)

    async def find(self) -> None:
        """Know what is here of ours; `prepare` does it first, and for `teardown` it is enough."""
        with _failing("Cannot prepare this machine for dynos"):
            if (self._short / "exec").exists():  # we were killed while somebody ran a command
                shutil.rmtree(self._short / "exec")
            for name in ("oci", "sockets", "exec"):
                (self._short / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._records.prepare()
            self._ground.boot = records.boot_id()
            self._ground.cgroups = cgroups.detect(mounts.of_the_machine())
            if not self._ground.cgroups.suffice:
                raise errors.EngineFailed(
                    "This machine cannot limit a dyno's memory and processes: mount cgroup2 at "
                    "/sys/fs/cgroup, or version 1's memory and pids."
                )
            hybrid = self._ground.cgroups.hybrid
            await self._namespace.open(hide=[] if hybrid is None else [hybrid])
            await self._images.prepare()
            self._outputs.open()
            await self._adopt()

    async def close(self) -> None:
        await self._network.close()
        self._outputs.close()
        for container in self._containers.values():
            self._unwatch(container)
        self._containers.clear()
        self._namespace.close()

    async def teardown(self) -> None:
        """Leave nothing of ours on this machine but what is below the data directory. After it only
        `close` may follow."""
        with _failing("Cannot remove the dynos from this machine"):
            async with asyncio.TaskGroup() as group:
                for container_id in list(self._containers):
                    group.create_task(self.remove(container_id))
            await self._zram.destroy()
            await self._images.destroy()
            await self._network.destroy()
            await self._ending.remove_cgroup(self._ground.cgroup)
            self._namespace.destroy()
            await asyncio.to_thread(shutil.rmtree, self._short)

    # slugs

    async def pack_slug(self, tree: Path, *, uid: int) -> Path:
        with _failing("Cannot pack the slug"):
            return await self._images.pack(tree, uid=uid)

    async def keep_slug(self, packed: Path, *, checksum: str, uid: int) -> None:
        with _failing("Cannot keep the slug"):
            await self._images.keep(packed, checksum=checksum, uid=uid)

    async def forget_slug(self, checksum: str) -> None:
        with _failing("Cannot delete the slug"):
            await self._images.forget(checksum)

    async def packed_slugs(self) -> frozenset[str]:
        return self._images.packed()

    # containers

    async def create(self, spec: base.Spec) -> base.Sighting:
        container = self._containers.get(spec.id)
        if container is None:
            with _failing(f"Cannot make {spec.name}"):
                async with self._room:
                    container = self._know(await self._making.create(spec))
        return self._sight(container)

    async def start(self, container_id: str) -> base.Sighting:
        container = self._known(container_id)
        if not container.record.started and not container.ended.is_set():
            with _failing("Cannot start the dyno"):
                container.record = await self._making.start(container.record)
        return self._sight(container)

    async def ready(self, container_id: str, port: int) -> bool:
        container = self._containers.get(container_id)
        if container is None or container.ended.is_set():
            return False
        address = self._network.slot(container.record.slot).address
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                _, writer = await asyncio.open_connection(address, port)
        except OSError:  # refused, unreachable or, by its subclass TimeoutError, too slow
            return False
        writer.close()
        return True

    async def signal(self, container_id: str, signal: int) -> None:
        container = self._containers.get(container_id)
        if container is None or container.ended.is_set():
            return
        if signal == signals.SIGKILL:
            await self._kill(container)
            return
        await self.thaw(container_id)
        # not to tini while there is anybody else: it would pass it on, and they would get it twice
        everybody = self._ground.cgroups.processes(self._ground.cgroup_of(container_id))
        for pid in [p for p in everybody if p != container.record.init] or everybody:
            cgroups.send(pid, signal)

    async def freeze(self, container_id: str) -> None:
        container = self._awake_or_frozen(container_id)
        if container is None:
            return
        if container.guests:
            raise errors.EngineFailed("Cannot freeze the dyno: somebody runs a command in it.")
        if not sleep.can_freeze(self._ground.cgroups):
            raise errors.EngineFailed("This machine's cgroups cannot freeze a dyno.")
        container.frozen = True
        try:
            with _failing("Cannot freeze the dyno"):
                await sleep.freeze(self._ground.cgroups, self._ground.cgroup_of(container_id))
        except BaseException:
            container.frozen = False
            raise

    async def thaw(self, container_id: str) -> None:
        container = self._awake_or_frozen(container_id)
        if container is not None and container.frozen:
            with _failing("Cannot thaw the dyno"):
                sleep.thaw(self._ground.cgroups, self._ground.cgroup_of(container_id))
            container.frozen = False
            self._cut_reclaim(container)

    async def reclaim(self, container_id: str) -> None:
        container = self._awake_or_frozen(container_id)
        if container is None or not container.frozen or container.reclaiming is not None:
            return
        try:
            async with asyncio.timeout(None) as container.reclaiming:
                with _failing("Cannot push the dyno's memory out of RAM"):
                    await sleep.reclaim(self._ground.cgroups, self._ground.cgroup_of(container_id))
        except TimeoutError:
            return  # cut short: it is wanted again, or has ended
        finally:
            container.reclaiming = None

    async def room_for_reclaim(self) -> int:
        return free(swap.active())

    async def wait(self, container_id: str) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            await container.ended.wait()

    async def sightings(self, app_id: str | None = None) -> Mapping[str, base.Sighting]:
        return {
            key: self._sight(container)
            for key, container in self._containers.items()
            if app_id in (None, container.record.app_id)
        }

    async def uses(self, root: Path) -> bool:
        inits = [
            container.record.init
            for container in self._containers.values()
            if not container.ended.is_set() and self._ground.is_here(container.record)
        ]
        return self._making.is_under_way_on(root) or any(making.runs_on(i, root) for i in inits)

    async def written(self) -> Mapping[str, int]:
        folders = {
            container_id: [self._records.folder(container_id) / name for name in ("upper", "tmp")]
            for container_id in self._containers
        }
        with _failing("Cannot measure what dynos have written"):
            taken = await disk.taken(*(path for pair in folders.values() for path in pair))
        return {
            container_id: sum(taken.get(path, 0) for path in pair)
            for container_id, pair in folders.items()
        }

    async def usage(self, container_ids: Collection[str]) -> Mapping[str, base.Usage]:
        with _failing("Cannot see what dynos use"):
            return await asyncio.to_thread(
                usage.read, self._ground.cgroups, self._paths_of(container_ids)
            )

    async def runnable(self, container_ids: Collection[str]) -> Mapping[str, int]:
        with _failing("Cannot see what dynos do"):
            return await asyncio.to_thread(
                usage.runnable, self._ground.cgroups, self._paths_of(container_ids)
            )

    async def output(self, container_id: str, offset: int) -> list[base.Output]:
        return output.read(self._ground.log_of(container_id), offset)

    async def output_start(self, container_id: str, offset: int, *, at_most: int) -> int:
        return output.start(self._ground.log_of(container_id), offset, at_most=at_most)

    async def output_grew(self) -> frozenset[str]:
        return await self._outputs.grown()

    async def discard_output(self, container_id: str, offset: int) -> None:
        with _failing("Cannot give back the disk space of the dyno's output"):
            # in a thread: giving back much that is on its way to the disk may take a tenth of a second
            await asyncio.to_thread(output.discard, self._ground.log_of(container_id), offset)

    async def attach(self, container_id: str) -> base.Attachment:
        container = self._known(container_id)
        folder = self._records.folder(container_id)
        with _failing("Cannot attach to the dyno, it has probably ended"):
            return await attachment.connect(
                self._short / "sockets" / container_id / "attach",
                folder / "ctl",
                terminal=container.record.terminal,
            )

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
        if container.frozen:  # what joins a frozen cgroup never begins
            raise errors.EngineFailed("Cannot run a command in the dyno: it is frozen.")
        container.guests += 1
        try:
            async with execution.run(
                container_id,
                argv,
                config=self._records.folder(container_id) / "config.json",
                env=env,
                terminal=terminal,
                runtime=self._ground.runtime,
                namespace=self._namespace,
                folder=self._short / "exec",
            ) as process:
                yield process
        finally:
            container.guests -= 1

    async def dial(self, container_id: str, host: str, port: int) -> socket.socket:
        record = self._running(container_id).record
        slot = self._network.slot(record.slot)
        if host == oci.hostname(record.name):
            host = slot.address  # the one name that only the dyno itself knows
        with _failing(f"Cannot connect to {host}:{port}"):
            netns = await self._namespace.open_file(slot.netns)
            try:
                return await dialing.connect(netns, host, port)
            finally:
                os.close(netns)

    async def remove(self, container_id: str) -> None:
        container = self._containers.get(container_id)
        if container is None:
            return
        with _failing("Cannot remove the dyno"):
            await self._kill(container)
            self._unwatch(container)
            await self._ending.erase(container_id)
            if self._ground.is_here(container.record):
                await self._network.release(container.record.slot)
        self._containers.pop(container_id, None)
        container.ended.set()

    # watching

    def _know(self, record: records.Record) -> _Container:
        container = self._containers[record.id] = _Container(record)
        self._watch(container)
        self._watch_output(record)
        return container

    def _watch(self, container: _Container) -> None:
        """Be told when conmon ends. A process id alone may by now be another's."""
        record = container.record
        assert record.supervisor is not None
        try:
            pidfd = os.pidfd_open(record.supervisor)
        except ProcessLookupError:
            self._on_end(container)
            return
        if records.born(record.supervisor) != record.born:
            os.close(pidfd)
            self._on_end(container)
            return
        container.pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._on_end, container)

    def _watch_output(self, record: records.Record) -> None:
        log = self._ground.log_of(record.id)
        if record.kept and log.exists():
            self._outputs.add(record.id, log)

    def _cut_reclaim(self, container: _Container) -> None:
        if container.reclaiming is not None:
            container.reclaiming.reschedule(asyncio.get_running_loop().time())

    def _unwatch(self, container: _Container) -> None:
        if container.pidfd is not None:
            asyncio.get_running_loop().remove_reader(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = None

    def _on_end(self, container: _Container) -> None:
        self._unwatch(container)
        self._cut_reclaim(container)
        container_id = container.record.id
        container.exit_status = self._records.exit_status(container_id)
        if container.exit_status is None:
            # conmon was killed: without it the container is deaf and dumb
            self._ground.cgroups.kill(self._ground.cgroup_of(container_id))
        container.oom_killed = self._ground.cgroups.oom_killed(self._ground.cgroup_of(container_id))
        if container.oom_killed:
            container.peak = self._ground.cgroups.peak(self._ground.cgroup_of(container_id))
        container.ended.set()

    async def _kill(self, container: _Container) -> None:
        if self._ground.is_here(container.record):
            await self._ending.empty(self._ground.cgroup_of(container.record.id))
            await container.ended.wait()

    # finding again

    async def _adopt(self) -> None:
        for container_id in self._records.ids():
            record = self._records.read(container_id)
            if record is None or record.supervisor is None:
                await self._ending.erase_half_made(container_id)
                continue
            container = self._containers[container_id] = _Container(record)
            self._watch_output(record)
            if self._ground.is_here(record):
                self._watch(container)
                container.frozen = sleep.is_frozen(
                    self._ground.cgroups, self._ground.cgroup_of(container_id)
                )
            else:
                container.exit_status = self._records.exit_status(container_id)
                container.ended.set()
        for name in self._ground.cgroups.children(self._ground.cgroup) - self._containers.keys():
            await self._ending.erase_half_made(name)

    # small words

    def _known(self, container_id: str) -> _Container:
        container = self._containers.get(container_id)
        if container is None:
            raise errors.EngineFailed(f"There is no container {container_id} on this machine.")
        return container

    def _running(self, container_id: str) -> _Container:
        container = self._known(container_id)
        if not container.record.started or container.ended.is_set():
            raise errors.EngineFailed("The dyno does not run.")
        return container

    def _awake_or_frozen(self, container_id: str) -> _Container | None:
        """One that runs; None for any other, known or not."""
        container = self._containers.get(container_id)
        if container is None or not container.record.started or container.ended.is_set():
            return None
        return container

    def _sight(self, container: _Container) -> base.Sighting:
        record = container.record
        here = self._ground.is_here(record)
        return base.Sighting(
            id=record.id,
            app_id=record.app_id,
            running=record.started and not container.ended.is_set(),
            address=self._network.slot(record.slot).address if here else None,
            exit_status=container.exit_status,
            oom_killed=container.oom_killed,
            peak=container.peak,
            build=record.build,
            frozen=container.frozen and not container.ended.is_set(),
            name=record.name,
        )

    def _paths_of(self, container_ids: Collection[str]) -> Mapping[str, str]:
        """The cgroups of those that run."""
        return {
            container_id: self._ground.cgroup_of(container_id)
            for container_id in container_ids
            if (container := self._containers.get(container_id)) is not None
            and container.record.started
            and not container.ended.is_set()
        }

    def _check_tools(self) -> None:
        missing = sorted({p for tool, p in commands.PACKAGES.items() if not shutil.which(tool)})
        runtime = next((path for name in RUNTIMES if (path := shutil.which(name))), None)
        if runtime is None:
            missing.append("crun")
        if missing:
            raise errors.EngineFailed(
                f"This machine lacks what dynos need. Run: apt-get install {' '.join(missing)}"
            )
        assert runtime is not None
        self._ground.runtime = replace(self._ground.runtime, path=runtime)


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Errors of the machine below become EngineFailed, with `what` as the sentence's beginning."""
    try:
        yield
    except (subprocess.CommandFailed, OSError) as error:
        raise errors.EngineFailed(f"{what}: {error}") from error

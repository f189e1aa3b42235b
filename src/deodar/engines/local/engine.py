"""The engine of one machine: keeps base.Engine's promise with conmon and crun; each part is a neighbour's.

What is on disk is the truth, what is in memory a copy: a new engine on the same data directory finds
every container, its status and its unread output. Each container's parent is conmon, which outlives
us; when conmon goes, the container has ended.
"""

import asyncio
import errno
import hashlib
import os
import re
import resource
import shutil
import signal as signals
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from deodar import settings
from deodar.engines import base
from deodar.engines.local import (
    attachment,
    cgroups,
    commands,
    dialing,
    execution,
    images,
    mounts,
    network,
    oci,
    output,
    records,
    sleep,
    usage,
    watch,
)
from deodar.kit import disk, subprocess
from deodar.model import errors

RUNTIMES = ("crun", "runc")  #: crun starts in half the time
AT_ONCE = 4  #: containers made at the same time; more only get into each other's way
KILL_TIMEOUT = 10.0  #: seconds until a killed container must be gone
PROBE_TIMEOUT = 1.0  #: seconds for a connection to a dyno
STUB = "127.0.0.53"  #: systemd-resolved's address, which a dyno cannot reach


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

    def __init__(self, *, paths: settings.Paths, subnet: str) -> None:
        # two platforms on one machine share nothing: all that is not below the data directory is
        # named after it
        self._name = f"deodar-{hashlib.sha256(bytes(paths.data)).hexdigest()[:6]}"
        self._paths = paths
        # conmon's sockets are here since the path of a socket has room for 107 bytes only
        self._short = Path("/run") / self._name
        self._records = records.Records(paths.run / "containers")
        self._namespace = mounts.Namespace(paths.run / "ns" / "mnt")
        self._network = network.Network(
            name=self._name,
            subnet=subnet,
            folder=paths.run / "netns",
            namespace=self._namespace,
        )
        self._images = images.Images(
            slugs=paths.slugs, points=paths.run / "slugs", namespace=self._namespace
        )
        self._outputs = watch.Watch()
        self._containers: dict[str, _Container] = {}
        self._making = asyncio.Semaphore(AT_ONCE)
        self._boot = ""
        self._cgroups = cgroups.Cgroups(unified=None, legacy={}, hybrid=None)
        self._runtime = commands.Runtime(path="", root=self._short / "oci")

    # life of the engine

    async def prepare(self) -> None:
        self._check_tools()
        await self.find()
        with _failing("Cannot give dynos a network"):
            here = [c.record.slot for c in self._containers.values() if self._is_here(c.record)]
            await self._network.prepare(here)

    async def find(self) -> None:
        """Know what is here of ours; `prepare` does it first, and for `teardown` it is enough."""
        with _failing("Cannot prepare this machine for dynos"):
            if (self._short / "exec").exists():  # we were killed while somebody ran a command
                shutil.rmtree(self._short / "exec")
            for name in ("oci", "sockets", "exec"):
                (self._short / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._records.prepare()
            self._boot = records.boot_id()
            self._cgroups = cgroups.detect(mounts.of_the_machine())
            if not self._cgroups.suffice:
                raise errors.EngineFailed(
                    "This machine cannot limit a dyno's memory and processes: mount cgroup2 at "
                    "/sys/fs/cgroup, or version 1's memory and pids."
                )
            hybrid = self._cgroups.hybrid
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
            await self._images.destroy()
            await self._network.destroy()
            await self._remove_cgroup(f"/{self._name}")
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
                async with self._making:
                    container = await self._create(spec)
        return self._sight(container)

    async def start(self, container_id: str) -> base.Sighting:
        container = self._known(container_id)
        if not container.record.started and not container.ended.is_set():
            with _failing("Cannot start the dyno"):
                await self._start(container)
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
        everybody = self._cgroups.processes(self._cgroup(container_id))
        for pid in [p for p in everybody if p != container.record.init] or everybody:
            cgroups.send(pid, signal)

    async def freeze(self, container_id: str) -> None:
        container = self._awake_or_frozen(container_id)
        if container is None:
            return
        if container.guests:
            raise errors.EngineFailed("Cannot freeze the dyno: somebody runs a command in it.")
        if not sleep.can_freeze(self._cgroups):
            raise errors.EngineFailed("This machine's cgroups cannot freeze a dyno.")
        container.frozen = True
        try:
            with _failing("Cannot freeze the dyno"):
                await sleep.freeze(self._cgroups, self._cgroup(container_id))
        except BaseException:
            container.frozen = False
            raise

    async def thaw(self, container_id: str) -> None:
        container = self._awake_or_frozen(container_id)
        if container is not None and container.frozen:
            with _failing("Cannot thaw the dyno"):
                sleep.thaw(self._cgroups, self._cgroup(container_id))
            container.frozen = False
            self._cut_reclaim(container)

    async def reclaim(self, container_id: str) -> None:
        container = self._awake_or_frozen(container_id)
        if container is None or not container.frozen or container.reclaiming is not None:
            return
        try:
            async with asyncio.timeout(None) as container.reclaiming:
                with _failing("Cannot push the dyno's memory out of RAM"):
                    await sleep.reclaim(self._cgroups, self._cgroup(container_id))
        except TimeoutError:
            return  # cut short: it is wanted again, or has ended
        finally:
            container.reclaiming = None

    async def room_for_reclaim(self) -> int:
        return sleep.free_swap(_text(Path("/proc/swaps")))

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
            return await asyncio.to_thread(usage.read, self._cgroups, self._paths_of(container_ids))

    async def runnable(self, container_ids: Collection[str]) -> Mapping[str, int]:
        with _failing("Cannot see what dynos do"):
            return await asyncio.to_thread(
                usage.runnable, self._cgroups, self._paths_of(container_ids)
            )

    async def output(self, container_id: str, offset: int) -> list[base.Output]:
        return output.read(self._log(container_id), offset)

    async def output_start(self, container_id: str, offset: int, *, at_most: int) -> int:
        return output.start(self._log(container_id), offset, at_most=at_most)

    async def output_grew(self) -> frozenset[str]:
        return await self._outputs.grown()

    async def discard_output(self, container_id: str, offset: int) -> None:
        with _failing("Cannot give back the disk space of the dyno's output"):
            # in a thread: giving back much that is on its way to the disk may take a tenth of a second
            await asyncio.to_thread(output.discard, self._log(container_id), offset)

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
                runtime=self._runtime,
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
            await self._erase(container_id)
            if self._is_here(container.record):
                await self._network.release(container.record.slot)
        self._containers.pop(container_id, None)
        container.ended.set()

    # making

    async def _create(self, spec: base.Spec) -> _Container:
        folder = self._records.folder(spec.id)
        root = self._paths.stacks / spec.stack / ("build" if spec.build else "run")
        if not root.is_dir():
            raise errors.EngineFailed(
                f"The stack {spec.stack} is not built on this machine. Build it and try again."
            )
        if folder.exists():
            await self._erase_half_made(spec.id)
        slug = None
        if spec.slug is not None:
            slug = await self._images.mount(spec.slug, uid=spec.uid)
        slot = await self._network.take()
        record = records.Record(
            id=spec.id,
            app_id=spec.app_id,
            name=spec.name,
            build=spec.build,
            boot=self._boot,
            slot=slot.number,
            terminal=spec.terminal,
            kept=spec.keep_output,
        )
        waking = asyncio.create_task(asyncio.to_thread(self._cgroups.wake))
        try:
            place = oci.Place(
                root=root.resolve(),
                folder=folder,
                slug=slug,
                netns=slot.netns,
                cgroup=self._cgroup(spec.id),
            )
            self._furnish(spec, place, address=slot.address)
            self._records.write(record)
            record = await self._supervise(spec, record)
            self._records.write(record)
        except BaseException:
            await self._erase_half_made(spec.id)
            await self._network.release(slot.number)
            raise
        finally:
            await waking
        container = self._containers[spec.id] = _Container(record)
        self._watch(container)
        self._watch_output(record)
        return container

    def _furnish(self, spec: base.Spec, place: oci.Place, *, address: str) -> None:
        """The container's folder: small files, a millisecond in all."""
        for name in ("exit", "etc", "upper", "work", "tmp"):
            (place.folder / name).mkdir(parents=True)
        place.folder.chmod(0o700)
        os.chown(place.folder / "upper", spec.uid, spec.uid)
        (place.folder / "tmp").chmod(0o1777)
        etc = place.folder / "etc"
        theirs = place.root / "etc"
        (etc / "passwd").write_text(oci.users(_text(theirs / "passwd"), uid=spec.uid))
        (etc / "group").write_text(oci.groups(_text(theirs / "group"), gid=spec.uid))
        (etc / "hosts").write_text(
            oci.hosts(_text(Path("/etc/hosts")), address=address, name=spec.name)
        )
        config = oci.config(spec, place, self._host())
        (place.folder / "config.json").write_bytes(msgspec.json.encode(config))

    def _host(self) -> oci.Host:
        certificates = Path(oci.CERTIFICATES)
        return oci.Host(
            swap=self._cgroups.swap_counts and _text(Path("/proc/swaps")).count("\n") > 1,
            nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            oom_score=int(Path("/proc/self/oom_score_adj").read_text()),
            resolver=_resolver(),
            certificates=certificates.resolve() if certificates.exists() else None,
        )

    async def _supervise(self, spec: base.Spec, record: records.Record) -> records.Record:
        """Runs conmon, which makes the container and tells its process id, or why there is none."""
        folder = self._records.folder(spec.id)
        argv = commands.supervise(
            spec.id,
            runtime=self._runtime,
            conmon=_which("conmon"),
            folder=folder,
            sockets=self._short / "sockets",
            terminal=spec.terminal,
            stdin=spec.stdin,
            keep_output=spec.keep_output,
        )
        reader, writer = os.pipe()
        try:
            try:
                await subprocess.run(
                    *self._namespace.inside(*argv),
                    env={"PATH": os.environ["PATH"], "_OCI_SYNCPIPE": str(writer)},
                    pass_fds=(writer,),
                )
            finally:
                os.close(writer)
            line = await _read_line(reader)
        finally:
            os.close(reader)
        if not line:
            raise errors.EngineFailed(f"Cannot make {spec.name}: its supervisor ended.")
        told = msgspec.json.decode(line)
        if told["pid"] <= 0:
            reason = str(told.get("message", "")).strip()
            raise errors.EngineFailed(f"Cannot make {spec.name}: {reason}")
        supervisor = int((folder / "supervisor").read_text())
        return replace(
            record, init=told["pid"], supervisor=supervisor, born=records.born(supervisor)
        )

    async def _start(self, container: _Container) -> None:
        record = container.record
        argv = commands.start(record.id, self._runtime)
        try:
            await subprocess.run(*argv)
        except subprocess.CommandFailed:
            # we may have been killed after a start and before it was written down
            if not await self._has_started(record.id):
                raise
        container.record = replace(record, started=True)
        self._records.write(container.record)

    async def _has_started(self, container_id: str) -> bool:
        argv = commands.state(container_id, self._runtime)
        finished = await subprocess.run_unchecked(*argv)
        if finished.status != 0:
            return False
        return msgspec.json.decode(finished.stdout)["status"] in ("running", "stopped", "paused")

    # ending

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
        log = self._log(record.id)
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
            self._cgroups.kill(self._cgroup(container_id))
        container.oom_killed = self._cgroups.oom_killed(self._cgroup(container_id))
        if container.oom_killed:
            container.peak = self._cgroups.peak(self._cgroup(container_id))
        container.ended.set()

    async def _kill(self, container: _Container) -> None:
        if self._is_here(container.record):
            await self._empty(self._cgroup(container.record.id))
            await container.ended.wait()

    async def _erase_half_made(self, container_id: str) -> None:
        """Of one whose making was cut short, the makers may still be at it."""
        folder = os.fsencode(self._records.folder(container_id))
        async with _killing():
            while makers := _processes_naming(folder):
                for pid in makers:
                    cgroups.send(pid, signals.SIGKILL)
                await asyncio.sleep(0.002)
        await self._erase(container_id)

    async def _erase(self, container_id: str) -> None:
        """All of a container but its network slot. May be repeated."""
        cgroup = self._cgroup(container_id)
        await self._empty(cgroup)
        # one that was never made is no error
        await subprocess.run_unchecked(
            *self._namespace.inside(*commands.delete(container_id, self._runtime))
        )
        await self._remove_cgroup(cgroup)
        (self._short / "sockets" / container_id).unlink(missing_ok=True)
        await asyncio.to_thread(self._records.erase, container_id)

    async def _empty(self, cgroup: str) -> None:
        """Kill all in it, for certain: a process may fork between the list and the signal."""
        async with _killing():
            while self._cgroups.processes(cgroup):
                self._cgroups.kill(cgroup)
                await asyncio.sleep(0.002)

    async def _remove_cgroup(self, cgroup: str) -> None:
        async with _killing():
            while True:
                try:
                    self._cgroups.remove(cgroup)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                else:
                    return
                await asyncio.sleep(0.002)

    # finding again

    async def _adopt(self) -> None:
        for container_id in self._records.ids():
            record = self._records.read(container_id)
            if record is None or record.supervisor is None:
                await self._erase_half_made(container_id)
                continue
            container = self._containers[container_id] = _Container(record)
            self._watch_output(record)
            if self._is_here(record):
                self._watch(container)
                container.frozen = sleep.is_frozen(self._cgroups, self._cgroup(container_id))
            else:
                container.exit_status = self._records.exit_status(container_id)
                container.ended.set()
        for name in self._cgroups.children(f"/{self._name}") - self._containers.keys():
            await self._erase_half_made(name)

    def _is_here(self, record: records.Record) -> bool:
        """False after the machine started anew: files are all that is left of it."""
        return record.boot == self._boot

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
        here = self._is_here(record)
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
            container_id: self._cgroup(container_id)
            for container_id in container_ids
            if (container := self._containers.get(container_id)) is not None
            and container.record.started
            and not container.ended.is_set()
        }

    def _cgroup(self, container_id: str) -> str:
        return f"/{self._name}/{container_id}"

    def _log(self, container_id: str) -> Path:
        return self._records.folder(container_id) / "log"

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
        self._runtime = replace(self._runtime, path=runtime)


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Errors of the machine below become EngineFailed, with `what` as the sentence's beginning."""
    try:
        yield
    except (subprocess.CommandFailed, OSError) as error:
        raise errors.EngineFailed(f"{what}: {error}") from error


@asynccontextmanager
async def _killing() -> AsyncIterator[None]:
    """What waits for the killed to be gone does not wait for ever."""
    try:
        async with asyncio.timeout(KILL_TIMEOUT):
            yield
    except TimeoutError as error:
        raise errors.EngineFailed(
            f"A process of the dyno is still there {KILL_TIMEOUT:g} s after SIGKILL."
        ) from error


def _processes_naming(word: bytes) -> list[int]:
    """Processes with `word`, or a path below it, in their command lines."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                line = Path(entry.path, "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if re.search(rb"[\0=]" + re.escape(word) + rb"[\0/]", line):
                found.append(int(entry.name))
    return found


def _which(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise errors.EngineFailed(f"{tool} is no longer on this machine.")
    return path


def _text(file: Path) -> str:
    """A small file's text, empty if there is no such file."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _resolver() -> Path | None:
    """resolv.conf; systemd-resolved's real one where the usual one names its stub."""
    usual = Path("/etc/resolv.conf")
    upstream = Path("/run/systemd/resolve/resolv.conf")
    if STUB in _text(usual) and upstream.exists():
        return upstream
    return usual.resolve() if usual.exists() else None


async def _read_line(file: int) -> bytes:
    """The first line from a pipe, or what came before its end."""
    loop = asyncio.get_running_loop()
    line = bytearray()
    done: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        data = os.read(file, 4096)
        line.extend(data)
        if (not data or b"\n" in data) and not done.done():
            done.set_result(None)

    os.set_blocking(file, False)
    loop.add_reader(file, on_readable)
    try:
        await done
    finally:
        loop.remove_reader(file)
    return bytes(line)

"""How a container comes to be: its folder, its network, its supervisor, its first process; how it fares
afterwards is the engine's matter."""

import asyncio
import os
import resource
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec

from deodar.engines import base
from deodar.engines.local import commands, oci, records
from deodar.engines.local.ending import Ending
from deodar.engines.local.ground import Ground
from deodar.kit import subprocess
from deodar.model import errors

STUB = "127.0.0.53"  #: systemd-resolved's address, which a dyno cannot reach


class Making:
    """Makes containers, and starts them."""

    def __init__(self, ground: Ground, ending: Ending) -> None:
        self._ground = ground
        self._ending = ending
        self._under_way: Counter[Path] = Counter()  #: root → containers that are being made on it

    async def create(self, spec: base.Spec) -> records.Record:
        """All but running. Leaves nothing behind when it fails."""
        root = self._ground.paths.stacks / spec.stack / ("build" if spec.build else "run")
        # Once: another edition may become the stack at any moment, and this one is kept while it is used.
        root = root.resolve()
        if not root.is_dir():
            raise errors.EngineFailed(
                f"The stack {spec.stack} is not on this machine. Bring it back (deodar stacks:import, "
                "deodar stacks:update), or deploy the app on another (heroku stack:set)."
            )
        self._under_way[root] += 1
        try:
            return await self._create(spec, root)
        finally:
            self._under_way[root] -= 1

    def is_under_way_on(self, root: Path) -> bool:
        return self._under_way[root.resolve()] > 0

    async def _create(self, spec: base.Spec, root: Path) -> records.Record:
        folder = self._ground.records.folder(spec.id)
        if folder.exists():
            await self._ending.erase_half_made(spec.id)
        slug = None
        if spec.slug is not None:
            slug = await self._ground.images.mount(spec.slug, uid=spec.uid)
        slot = await self._ground.network.take()
        record = records.Record(
            id=spec.id,
            app_id=spec.app_id,
            name=spec.name,
            build=spec.build,
            boot=self._ground.boot,
            slot=slot.number,
            terminal=spec.terminal,
            kept=spec.keep_output,
        )
        waking = asyncio.create_task(asyncio.to_thread(self._ground.cgroups.wake))
        try:
            place = oci.Place(
                root=root,
                folder=folder,
                slug=slug,
                netns=slot.netns,
                cgroup=self._ground.cgroup_of(spec.id),
            )
            self._furnish(spec, place, address=slot.address)
            self._ground.records.write(record)
            record = await self._supervise(spec, record)
            self._ground.records.write(record)
        except BaseException:
            await self._ending.erase_half_made(spec.id)
            await self._ground.network.release(slot.number)
            raise
        finally:
            await waking
        return record

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
            swap=self._ground.cgroups.swap_counts and _text(Path("/proc/swaps")).count("\n") > 1,
            nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            oom_score=int(Path("/proc/self/oom_score_adj").read_text()),
            resolver=_resolver(),
            certificates=certificates.resolve() if certificates.exists() else None,
        )

    async def _supervise(self, spec: base.Spec, record: records.Record) -> records.Record:
        """Runs conmon, which makes the container and tells its process id, or why there is none."""
        folder = self._ground.records.folder(spec.id)
        argv = commands.supervise(
            spec.id,
            runtime=self._ground.runtime,
            conmon=_which("conmon"),
            folder=folder,
            sockets=self._ground.short / "sockets",
            terminal=spec.terminal,
            stdin=spec.stdin,
            keep_output=spec.keep_output,
        )
        reader, writer = os.pipe()
        try:
            try:
                await subprocess.run(
                    *self._ground.namespace.inside(*argv),
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

    async def start(self, record: records.Record) -> records.Record:
        argv = commands.start(record.id, self._ground.runtime)
        try:
            await subprocess.run(*argv)
        except subprocess.CommandFailed:
            # we may have been killed after a start and before it was written down
            if not await self._has_started(record.id):
                raise
        started = replace(record, started=True)
        self._ground.records.write(started)
        return started

    async def _has_started(self, container_id: str) -> bool:
        argv = commands.state(container_id, self._ground.runtime)
        finished = await subprocess.run_unchecked(*argv)
        if finished.status != 0:
            return False
        return msgspec.json.decode(finished.stdout)["status"] in ("running", "stopped", "paused")


def runs_on(init: int | None, root: Path) -> bool:
    """Whether a process has that folder as its root: the folder itself, by whichever name."""
    try:
        return os.path.samefile(f"/proc/{init}/root", root)
    except (FileNotFoundError, ProcessLookupError):
        return False


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

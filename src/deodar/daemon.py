"""The control plane as a process: builds everything once, runs it in one TaskGroup; nothing imports it.

`run` is the platform in the foreground. When it ends, by signal or by kill -9, dynos and the router go
on without it, and the next `run` finds them. `down` ends those too.
"""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import random
import secrets
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import structlog
import uvicorn
from cryptography.fernet import Fernet
from starlette.applications import Starlette

from deodar import settings as settings_
from deodar.actions import accounts
from deodar.adapters import ca, host, stacks
from deodar.adapters.disk import Disk
from deodar.adapters.git import Repositories
from deodar.adapters.haproxy.process import Haproxy
from deodar.api import exec as exec_door
from deodar.api import git as git_door
from deodar.api import logs as log_door
from deodar.api.app import create_app
from deodar.api.context import Context, Signers
from deodar.api.outputs import Outputs
from deodar.api.pushes import Pushes
from deodar.engines.local.engine import LocalEngine
from deodar.kit import clock
from deodar.kit.loop import Bell, Driver, Keys, Reconcile
from deodar.loops.compiler.loop import Compiler
from deodar.loops.compiler.pipeline import Pipeline
from deodar.loops.housekeeping.loop import Housekeeping
from deodar.loops.housekeeping.plan import Rules
from deodar.loops.logplane.intake import Intake
from deodar.loops.manifold import exec as tunnels
from deodar.loops.manifold.attach import Switchboard
from deodar.loops.manifold.loop import Manifold
from deodar.loops.manifold.plan import Limits
from deodar.loops.releasing.loop import Releasing
from deodar.loops.routing.loop import Routing
from deodar.loops.vitals.loop import Vitals
from deodar.model import errors
from deodar.model.app import DEFAULT_STACK
from deodar.settings import Settings
from deodar.store import db
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

OWNER = "owner@deodar.local"  #: the account that the machine's owner has


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deodar.daemon")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="the control plane in the foreground")
    down = commands.add_parser("down", help="end dynos, router, mounts and network")
    down.add_argument("--purge", action="store_true", help="delete the data directory too")
    arguments = parser.parse_args(argv)
    configure_logs()
    try:
        settings = settings_.read(os.environ)
        with only_one(settings.paths.data):
            if arguments.command == "run":
                asyncio.run(run(settings))
            else:
                asyncio.run(take_down(settings, purge=arguments.purge))
    except errors.PlatformError as error:
        print(f"deodar: {error.message}", file=sys.stderr)
        return 1
    return 0


def configure_logs() -> None:
    """Our own log: an event and its keys a line, to stderr. What libraries say comes from warnings up."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=24, pad_level=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Holds the data directory for this process. Raises Conflict, naming who has it already."""
    data.mkdir(parents=True, exist_ok=True, mode=0o711)
    pid_file = data / "daemon.pid"
    with (data / "daemon.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = pid_file.read_text().strip() if pid_file.exists() else "unknown"
            raise errors.Conflict(
                f"The platform of {data} runs already (pid {holder}). Stop it first: deodar down"
            ) from None
        pid_file.write_text(f"{os.getpid()}\n")
        try:
            yield
        finally:
            pid_file.unlink(missing_ok=True)


# ---- run -----------------------------------------------------------------------------------------


async def run(settings: Settings) -> None:
    """The platform, until SIGTERM or SIGINT."""
    await build_stack(settings)
    host.check(settings, stack_built=True)
    async with AsyncExitStack() as exits:
        platform = Platform(settings)
        exits.push_async_callback(platform.close)
        await platform.prepare()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        serving = asyncio.create_task(platform.serve(), name="platform")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (serving, stopping):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        log.info("platform.stopped", dynos="run on", router="runs on")


async def build_stack(settings: Settings) -> None:
    """The stack, the first time: some minutes, told line by line."""
    folder = settings.paths.stacks
    if stacks.present(folder, DEFAULT_STACK) is not None:
        return
    host.check(settings, stack_built=False)
    told = ""

    def tell(progress: stacks.Progress) -> None:
        nonlocal told
        line = f"Building the stack: {progress.fraction:4.0%} {progress.step}"
        if line != told:
            print(line, file=sys.stderr, flush=True)
            told = line

    await stacks.build(folder, DEFAULT_STACK, on_progress=tell)


class Platform:
    """Every part of the platform, made once and handed to those that need it."""

    def __init__(self, settings: Settings) -> None:
        paths = settings.paths
        for folder in (paths.builds, paths.caches, paths.slugs, paths.logs, paths.run):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.settings = settings
        self.bell = Bell()
        key = secret(paths.key, Fernet.generate_key)
        self.signers = Signers.of(key)
        self.db: Database = db.open_sqlite(paths.database, key=key, bell=self.bell)
        self.logs = Logs(paths.logs)
        self.clock = clock.wall
        self.engine = LocalEngine(paths=paths, subnet=settings.subnet)
        self.authority = ca.Authority(paths.ca)
        self.haproxy = Haproxy(settings)
        self.context = Context(
            db=self.db, logs=self.logs, clock=self.clock, settings=settings, signers=self.signers
        )

    async def prepare(self) -> None:
        """What must be there before anybody is answered."""
        token = secret(self.settings.paths.token, lambda: secrets.token_hex(32).encode()).decode()
        async with self.db.write() as tx:
            await accounts.ensure_owner(tx, email=OWNER, token=token, now=self.clock())
        self.authority.ensure()
        await self.engine.prepare()

    async def serve(self) -> None:
        """All loops and doors, until cancelled or until one of them breaks."""
        settings, paths = self.settings, self.settings.paths
        disk = Disk.of(settings)
        switchboard = Switchboard(
            self.engine, self.db, self.logs, self.clock, self.signers.rendezvous
        )
        manifold = Manifold(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            bell=self.bell,
            clock=self.clock,
            switchboard=switchboard,
            limits=limits(settings),
        )
        compiler = Compiler(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            paths=paths,
            pipeline=Pipeline(
                db=self.db,
                engine=self.engine,
                clock=self.clock,
                settings=settings,
                disk=disk,
                web_url=lambda app: self.context.places.web_url(app),
            ),
        )
        releasing = Releasing(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            dice=random.SystemRandom(),
            folder=paths.releases,
            lasts=settings.release_timeout,
        )
        housekeeping = Housekeeping(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            paths=paths,
            disk=disk,
            rules=rules(settings),
        )
        routing = Routing(
            db=self.db,
            haproxy=self.haproxy,
            authority=self.authority,
            logs=self.logs,
            clock=self.clock,
            ring=self.bell.ring,
            domain=settings.domain,
            drain=timedelta(seconds=settings.drain_timeout),
        )
        vitals = Vitals(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            every=timedelta(seconds=settings.vitals_every),
        )
        repositories = Repositories(paths.repos, hooks=paths.run / "hooks")
        repositories.prepare()
        outputs = Outputs(self.db, paths.builds)
        pushes = Pushes(
            self.db,
            self.clock,
            repositories,
            outputs,
            disk=disk,
            builds=paths.builds,
            socket=paths.run / "hook.sock",
        )
        tunnel = tunnels.Tunnel(self.engine, self.db, self.clock, self.signers.exec)
        host_key = secret(paths.exec_key, tunnels.new_host_key)
        entrances = exec_door.Manager(public_key=tunnels.public_key(host_key))
        app = create_app(
            self.context,
            extra_routes=[
                *exec_door.routes(self.context, entrances),
                *git_door.routes(git_door.Door(self.db, repositories, pushes)),
                *log_door.routes(self.context, outputs),
            ],
        )
        await compiler.recover()
        await routing.start()
        tls = self.tls_files()
        intake = Intake(self.db, self.engine, self.logs)
        async with asyncio.TaskGroup() as group:
            self._drive(group, "manifold", manifold.reconcile, manifold.keys)
            self._drive(group, "compiler", compiler.reconcile, compiler.keys)
            self._drive(group, "releasing", releasing.reconcile, releasing.keys)
            self._drive(group, "leftovers", housekeeping.clear, housekeeping.left_behind)
            # No bell rings for chores, and each says itself when it is due again.
            chores = Driver("housekeeping", housekeeping.reconcile, housekeeping.chores, sweep=3600)
            group.create_task(chores.run(), name="housekeeping")
            self._drive(group, "routing", routing.reconcile, routing.keys)
            reading = self._drive(group, "intake", intake.reconcile, intake.keys)
            group.create_task(intake.watch(reading.ring), name="output")
            group.create_task(manifold.run(), name="watches")
            # No bell rings for it either: memory and load are looked at by the clock.
            looking = Driver("vitals", vitals.reconcile, vitals.keys)
            group.create_task(looking.run(), name="vitals")
            group.create_task(routing.run(), name="router")
            group.create_task(pushes.serve(), name="pushes")
            group.create_task(
                switchboard.serve(settings.listen, settings.ports.rendezvous, tls_context(*tls)),
                name="rendezvous",
            )
            group.create_task(
                tunnel.serve(settings.exec_host, settings.exec_port, host_key), name="exec"
            )
            doors = [
                serve_http(app, settings, port=settings.ports.api),
                serve_http(app, settings, port=settings.ports.api_tls, tls=tls),
            ]
            for door in doors:
                group.create_task(door.serve(), name=f"api:{door.config.port}")
            group.create_task(self._announce(doors), name="announce")

    def _drive(
        self, group: asyncio.TaskGroup, name: str, reconcile: Reconcile, keys: Keys
    ) -> Driver:
        driver = Driver(name, reconcile, keys, sweep=self.settings.sweep)
        self.bell.listen(driver.ring)
        group.create_task(driver.run(), name=name)
        return driver

    def tls_files(self) -> tuple[Path, Path]:
        names = dict.fromkeys((self.settings.host, "localhost", "127.0.0.1", "::1"))
        return self.authority.server_certificate(tuple(names))

    async def _announce(self, doors: Sequence["Door"]) -> None:
        """Says that the platform is ready, once it is: writes what a client needs to know."""
        for door in doors:
            await door.ready.wait()
        file = self.settings.paths.data / "client.json"
        half = file.with_suffix(".partial")
        half.touch(mode=0o600)
        half.write_text(json.dumps(self.client(), indent=2))
        half.rename(file)
        log.info(
            "platform.ready", api=self.client()["HEROKU_HOST"], data=str(self.settings.paths.data)
        )

    def client(self) -> dict[str, str]:
        """The variables that point the official CLI and git here (docs/operating.md)."""
        settings = self.settings
        address = f"{settings.host}:{settings.ports.api_tls}"
        api = f"https://{address}"
        authority = str(self.authority.certificate)
        return {
            "HEROKU_HOST": api,
            "HEROKU_API_KEY": settings.paths.token.read_text().strip(),
            "HEROKU_GIT_HOST": address,
            "HEROKU_PARTICLEBOARD_URL": api,
            "HEROKU_DATA_HOST": settings.host,
            "HEROKU_EXEC_URL": api,
            "HEROKU_BUILDPACK_REGISTRY_URL": api,
            "HEROKU_LOGIN_HOST": api,
            "NODE_EXTRA_CA_CERTS": authority,
            "GIT_SSL_CAINFO": authority,
            "DISABLE_TELEMETRY": "true",
            "HEROKU_NETRC_WRITE": "true",
        }

    async def close(self) -> None:
        await self.engine.close()
        self.logs.close()
        await self.db.close()


def limits(settings: Settings) -> Limits:
    return Limits(
        boot=timedelta(seconds=settings.boot_timeout),
        stop=timedelta(seconds=settings.stop_timeout),
        first_rest=timedelta(seconds=settings.first_rest),
        last_rest=timedelta(seconds=settings.last_rest),
        cycle=timedelta(seconds=settings.cycle),
        cycle_spread=timedelta(seconds=settings.cycle_spread),
    )


def rules(settings: Settings) -> Rules:
    return Rules(
        slugs_kept=settings.slugs_kept,
        slug_age=timedelta(days=settings.slug_days),
        cache_limit=settings.cache_limit,
        caches_limit=settings.caches_limit,
        dyno_disk=settings.dyno_disk,
    )


def serve_http(
    app: Starlette, settings: Settings, *, port: int, tls: tuple[Path, Path] | None = None
) -> "Door":
    config = uvicorn.Config(
        app,
        host=settings.listen,
        port=port,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=str(tls[0]) if tls else None,
        ssl_keyfile=str(tls[1]) if tls else None,
    )
    return Door(config)


class Door(uvicorn.Server):
    """uvicorn without its own signal handlers: one process, one place that listens for signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()  #: it listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def secret(file: Path, make: Callable[[], bytes]) -> bytes:
    """A secret that is made once and kept in a file only its owner reads."""
    if not file.exists():
        half = file.with_suffix(".partial")
        half.touch(mode=0o600)
        half.write_bytes(make())
        half.rename(file)
    return file.read_bytes().strip()


# ---- down ----------------------------------------------------------------------------------------


async def take_down(settings: Settings, *, purge: bool) -> None:
    """Ends what outlives the control plane; with `purge`, deletes the data directory."""
    await Haproxy(settings).stop()
    engine = LocalEngine(paths=settings.paths, subnet=settings.subnet)
    try:
        await engine.find()
        await engine.teardown()
    finally:
        await engine.close()
    (settings.paths.data / "client.json").unlink(missing_ok=True)
    if purge:
        await asyncio.to_thread(shutil.rmtree, settings.paths.data)


if __name__ == "__main__":
    sys.exit(main())

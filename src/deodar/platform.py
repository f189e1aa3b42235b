"""Every part of the platform, made once, handed to those that need it, and run in one TaskGroup.

The only place that constructs: a part that is given a neighbour is given it here.
"""

import asyncio
import json
import random
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import structlog
from cryptography.fernet import Fernet
from starlette.applications import Starlette

from deodar import doors
from deodar.actions import accounts
from deodar.adapters import acme, ca, memory
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
from deodar.loops.certifying.loop import Certifying
from deodar.loops.compiler.loop import Compiler
from deodar.loops.compiler.pipeline import Pipeline
from deodar.loops.housekeeping.loop import Housekeeping
from deodar.loops.housekeeping.plan import Rules
from deodar.loops.idling.loop import Idling
from deodar.loops.logplane.intake import Intake
from deodar.loops.manifold import exec as tunnels
from deodar.loops.manifold.attach import Switchboard
from deodar.loops.manifold.loop import Manifold
from deodar.loops.manifold.plan import Limits
from deodar.loops.manifold.waking import Waking
from deodar.loops.releasing.loop import Releasing
from deodar.loops.routing.loop import Routing
from deodar.loops.settingup.loop import SettingUp
from deodar.loops.vitals.loop import Vitals
from deodar.settings import Settings
from deodar.store import db
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

UNHURRIED = 0.5  #: seconds that loops wait which nobody waits for, while others work on what rang
OWNER = "owner@deodar.local"  #: the account that the machine's owner has


class Platform:
    """The platform of one data directory. `prepare`, then `serve` until cancelled, then `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lay_ground()
        self._make_loops()
        self._make_doors()

    def _lay_ground(self) -> None:
        """What everything else stands on: store, logs, engine, router, keys."""
        settings, paths = self.settings, self.settings.paths
        for folder in (paths.builds, paths.caches, paths.slugs, paths.logs, paths.run):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.bell = Bell()
        key = secret(paths.key, Fernet.generate_key)
        self.signers = Signers.of(key)
        self.db: Database = db.open_sqlite(paths.database, key=key, bell=self.bell)
        self.logs = Logs(paths.logs)
        self.clock = clock.wall
        self.engine = LocalEngine(paths=paths, subnet=settings.subnet, zram=settings.zram)
        self.authority = ca.Authority(paths.ca)
        self.haproxy = Haproxy(settings)
        self.disk = Disk.of(settings)
        self.context = Context(
            db=self.db, logs=self.logs, clock=self.clock, settings=settings, signers=self.signers
        )

    def _make_loops(self) -> None:
        """What makes the store's wishes true."""
        settings, paths = self.settings, self.settings.paths
        self.switchboard = Switchboard(
            self.engine, self.db, self.logs, self.clock, self.signers.rendezvous
        )
        self.manifold = Manifold(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            bell=self.bell,
            clock=self.clock,
            switchboard=self.switchboard,
            limits=limits(settings),
        )
        self.compiler = Compiler(
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
                disk=self.disk,
                web_url=self.context.places.web_url,
            ),
        )
        self.releasing = Releasing(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            dice=random.SystemRandom(),
            folder=paths.releases,
            lasts=settings.release_timeout,
        )
        self.settingup = SettingUp(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            dice=random.SystemRandom(),
            disk=self.disk,
            paths=paths,
            lasts=settings.release_timeout,
        )
        self.housekeeping = Housekeeping(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            paths=paths,
            disk=self.disk,
            rules=rules(settings),
        )
        self.routing = Routing(
            db=self.db,
            haproxy=self.haproxy,
            authority=self.authority,
            logs=self.logs,
            clock=self.clock,
            ring=self.bell.ring,
            rise=Waking(self.db, self.engine, self.logs, self.clock).rise,
            domain=settings.domain,
            drain=timedelta(seconds=settings.drain_timeout),
            beat=settings.idle_look,
        )
        self.idling = Idling(
            db=self.db,
            engine=self.engine,
            clock=self.clock,
            defaults=settings.idling,
            available=memory.available,
            every=settings.idle_look,
        )
        self.certifying = Certifying(
            db=self.db,
            authority=acme.Authority(
                settings.acme_directory, email=settings.acme_email, trust=settings.acme_ca
            ),
            logs=self.logs,
            clock=self.clock,
            dice=random.SystemRandom(),
        )
        self.vitals = Vitals(
            db=self.db,
            engine=self.engine,
            logs=self.logs,
            clock=self.clock,
            every=timedelta(seconds=settings.vitals_every),
        )
        self.intake = Intake(self.db, self.engine, self.logs)

    def _make_doors(self) -> None:
        """Where people and their tools come in."""
        paths = self.settings.paths
        self.repositories = Repositories(paths.repos, hooks=paths.run / "hooks")
        outputs = Outputs(self.db, paths.builds)
        self.pushes = Pushes(
            self.db,
            self.clock,
            self.repositories,
            outputs,
            disk=self.disk,
            builds=paths.builds,
            socket=paths.run / "hook.sock",
        )
        self.host_key = secret(paths.exec_key, tunnels.new_host_key)
        self.tunnel = tunnels.Tunnel(self.engine, self.db, self.clock, self.signers.exec)
        entrances = exec_door.Manager(public_key=tunnels.public_key(self.host_key))
        self.api: Starlette = create_app(
            self.context,
            extra_routes=[
                *exec_door.routes(self.context, entrances),
                *git_door.routes(git_door.Door(self.db, self.repositories, self.pushes)),
                *log_door.routes(self.context, outputs),
            ],
        )

    async def prepare(self) -> None:
        """What must be there before anybody is answered."""
        token = secret(self.settings.paths.token, lambda: secrets.token_hex(32).encode()).decode()
        async with self.db.write() as tx:
            await accounts.ensure_owner(tx, email=OWNER, token=token, now=self.clock())
        self.authority.ensure()
        await self.engine.prepare()
        self.repositories.prepare()
        await self.compiler.recover()
        await self.routing.start()

    async def serve(self) -> None:
        """All loops and doors, until cancelled or until one of them breaks."""
        async with asyncio.TaskGroup() as group:
            self._run_loops(group)
            self._open_doors(group)

    def _run_loops(self, group: asyncio.TaskGroup) -> None:
        self._drive(group, "manifold", self.manifold.reconcile, self.manifold.keys)
        self._drive(group, "compiler", self.compiler.reconcile, self.compiler.keys)
        self._drive(group, "releasing", self.releasing.reconcile, self.releasing.keys)
        self._drive(group, "settingup", self.settingup.reconcile, self.settingup.keys)
        housekeeping = self.housekeeping
        self._drive(group, "leftovers", housekeeping.clear, housekeeping.left_behind, lag=UNHURRIED)
        # No bell rings for chores, and each says itself when it is due again.
        chores = Driver("housekeeping", housekeeping.reconcile, housekeeping.chores, sweep=3600)
        group.create_task(chores.run(), name="housekeeping")
        self._drive(group, "routing", self.routing.reconcile, self.routing.keys)
        certifying = self.certifying
        self._drive(group, "certifying", certifying.reconcile, certifying.keys, lag=UNHURRIED)
        reading = self._drive(group, "intake", self.intake.reconcile, self.intake.keys)
        group.create_task(self.intake.watch(reading.ring), name="output")
        group.create_task(self.manifold.run(), name="watches")
        # No bell rings for it either: memory and load are looked at by the clock.
        looking = Driver("vitals", self.vitals.reconcile, self.vitals.keys)
        group.create_task(looking.run(), name="vitals")
        sleeping = Driver("idling", self.idling.reconcile, self.idling.keys)
        group.create_task(sleeping.run(), name="idling")
        group.create_task(self.routing.run(), name="router")

    def _open_doors(self, group: asyncio.TaskGroup) -> None:
        settings = self.settings
        tls = self._tls_files()
        group.create_task(self.pushes.serve(), name="pushes")
        group.create_task(
            self.switchboard.serve(
                settings.listen, settings.ports.rendezvous, doors.tls_context(*tls)
            ),
            name="rendezvous",
        )
        group.create_task(
            self.tunnel.serve(settings.exec_host, settings.exec_port, self.host_key), name="exec"
        )
        entrances = [
            doors.serve_http(self.api, settings, port=settings.ports.api),
            doors.serve_http(self.api, settings, port=settings.ports.api_tls, tls=tls),
        ]
        for door in entrances:
            group.create_task(door.serve(), name=f"api:{door.config.port}")
        group.create_task(self._announce(entrances), name="announce")

    def _drive(
        self,
        group: asyncio.TaskGroup,
        name: str,
        reconcile: Reconcile,
        keys: Keys,
        *,
        lag: float = 0,
    ) -> Driver:
        driver = Driver(name, reconcile, keys, sweep=self.settings.sweep, lag=lag)
        self.bell.listen(driver.ring)
        group.create_task(driver.run(), name=name)
        return driver

    def _tls_files(self) -> tuple[Path, Path]:
        names = dict.fromkeys((self.settings.host, "localhost", "127.0.0.1", "::1"))
        return self.authority.server_certificate(tuple(names))

    async def _announce(self, entrances: Sequence[doors.Door]) -> None:
        """Says that the platform is ready, once it is: writes what a client needs to know."""
        for door in entrances:
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


def secret(file: Path, make: Callable[[], bytes]) -> bytes:
    """A secret that is made once and kept in a file only its owner reads."""
    if not file.exists():
        half = file.with_suffix(".partial")
        half.touch(mode=0o600)
        half.write_bytes(make())
        half.rename(file)
    return file.read_bytes().strip()

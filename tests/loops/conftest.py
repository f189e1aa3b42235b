"""One app in a world of its own: real SQLite, the memory engine, a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deodar.actions import releases
from deodar.engines.memory import Machine, MemoryEngine
from deodar.kit.loop import Bell
from deodar.kit.signing import Signer
from deodar.loops.manifold.attach import Switchboard
from deodar.loops.manifold.loop import Manifold
from deodar.loops.manifold.plan import Limits
from deodar.model.app import Account, App, AppId
from deodar.model.dyno import Dyno, State
from deodar.model.formation import ProcessType
from deodar.model.log import LogLine
from deodar.model.release import Slug
from deodar.store import accounts, apps, db, dynos, formations
from deodar.store import releases as ledger
from deodar.store.db import Database
from deodar.store.logs import Logs

START = datetime(2030, 1, 1, tzinfo=UTC)
OWNER = Account(id="owner", email="owner@example.com", created_at=START)
SHOP = App(
    id=AppId("shop-id"),
    name="shop",
    owner=OWNER,
    slot=0,
    uid=20_000,
    created_at=START,
    updated_at=START,
)


@dataclass
class World:
    """The app, and what a test may do to it and see of it."""

    db: Database
    logs: Logs
    machine: Machine
    engine: MemoryEngine
    bell: Bell
    manifold: Manifold
    switchboard: Switchboard
    now: datetime = START
    routes: bool = True  #: whether the router does its part
    released: int = field(default=0)

    def clock(self) -> datetime:
        return self.now

    async def deploy(self, **quantities: int) -> None:
        """A new slug with those process types; the first deploy's quantities are set, too."""
        self.released += 1
        slug = Slug(
            id=f"slug-{self.released}",
            app_id=SHOP.id,
            checksum=f"SHA256:{self.released}",
            size=1,
            stack="deodar-12",
            process_types={name: f"run {name}" for name in quantities},
            created_at=self.now,
        )
        async with self.db.write() as tx:
            await ledger.insert_slug(tx, slug)
            await releases.deploy(tx, SHOP, slug, description="Deploy", user="", now=self.now)
        await self.scale(**quantities)

    async def scale(self, **quantities: int) -> None:
        async with self.db.write() as tx:
            present = await formations.of_app(tx, SHOP.id)
            wished = [
                replace(each, quantity=quantities.get(each.type, each.quantity)) for each in present
            ]
            await formations.replace(tx, SHOP.id, wished)

    async def formation(self) -> list[ProcessType]:
        async with self.db.read() as tx:
            return await formations.of_app(tx, SHOP.id)

    async def dynos(self) -> list[Dyno]:
        async with self.db.read() as tx:
            return await dynos.of_app(tx, SHOP.id)

    async def dyno(self, name: str) -> Dyno:
        """The newest of that name."""
        return [dyno for dyno in await self.dynos() if dyno.name == name][-1]

    async def states(self) -> dict[str, str]:
        return {dyno.name: dyno.state.value for dyno in await self.dynos()}

    def running(self) -> list[str]:
        """Names of the containers that run, whatever the store believes."""
        return sorted(
            each.spec.name
            for each in self.machine.containers.values()
            if each.started and not each.ended.is_set()
        )

    async def settle(self) -> float | None:
        """Lets the manifold and the router do all they have to do now. Answers the seconds until the
        manifold wants to look again."""
        for _ in range(100):
            before = await self.dynos(), self.running(), len(self.machine.containers)
            rest = await self.manifold.reconcile(SHOP.id)
            await self._route()
            await self._read_output()
            for _ in range(10):
                await asyncio.sleep(0)  # the watches' turn
            if before == (await self.dynos(), self.running(), len(self.machine.containers)):
                return rest
        raise AssertionError(f"does not settle: {await self.states()}")

    async def pass_time(self, **time: float) -> None:
        self.now += timedelta(**time)
        await self.settle()

    async def said(self) -> list[str]:
        """The app's log, a line as `dyno: text`."""
        lines, _ = await self.logs.last(SHOP.id, 1000)
        return [f"{line.dyno}: {line.text}" for line in lines]

    async def _route(self) -> None:
        if not self.routes:
            return
        async with self.db.write() as tx:
            app = await apps.find(tx, SHOP.id)
            awake = app is not None and app.sleep is None
            for dyno in await dynos.of_app(tx, SHOP.id):
                serves = awake and dyno.state is State.UP
                if dyno.is_web and dyno.routed != serves:
                    await dynos.set_routed(tx, dyno.id, serves)

    async def _read_output(self) -> None:
        for container_id, container in self.machine.containers.items():
            place = self.logs.place(SHOP.id, container_id)
            for piece in await self.engine.output(container_id, place):
                line = LogLine(
                    at=self.now, source="app", dyno=container.spec.name, text=piece.data.decode()
                )
                self.logs.append_output(SHOP.id, container_id, [(piece.offset, line)])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path, Machine()) as made:
        async with made.db.write() as tx:
            await accounts.create(tx, OWNER, token="token")
            await apps.insert_app(tx, SHOP)
            await releases.first(tx, SHOP, user=OWNER.email, now=START)
        yield made


@pytest.fixture
def rebuilt(tmp_path: Path) -> Callable[[World], AbstractAsyncContextManager[World]]:
    """The same world after the control plane was killed and started again."""

    def rebuild(world: World) -> AbstractAsyncContextManager[World]:
        return a_world(tmp_path, world.machine, now=world.now)

    return rebuild


@asynccontextmanager
async def a_world(folder: Path, machine: Machine, *, now: datetime = START) -> AsyncIterator[World]:
    key_file = folder / "key"
    if not key_file.exists():
        key_file.write_bytes(Fernet.generate_key())
    bell = Bell()
    database = db.open_sqlite(folder / "deodar.db", key=key_file.read_bytes(), bell=bell)
    logs = Logs(folder / "logs")

    def clock() -> datetime:
        return made.now

    engine = MemoryEngine(machine, now=clock)
    switchboard = Switchboard(engine, database, logs, clock, Signer(b"key", "rendezvous"))
    manifold = Manifold(
        db=database,
        engine=engine,
        logs=logs,
        bell=bell,
        clock=clock,
        switchboard=switchboard,
        limits=Limits(),
    )
    made = World(
        db=database,
        logs=logs,
        machine=machine,
        engine=engine,
        bell=bell,
        manifold=manifold,
        switchboard=switchboard,
        now=now,
    )
    watches = asyncio.create_task(manifold.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        watches.cancel()
        await asyncio.gather(watches, return_exceptions=True)
        logs.close()
        await database.close()

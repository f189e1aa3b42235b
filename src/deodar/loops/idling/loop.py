"""Observes who is asked for and how memory stands, and takes the steps that `plan` gives; decides nothing.

`reconcile` is driven by kit.loop with the machine as its only key: one look at all apps costs less than
one for each. It writes what apps are wished to be; router and manifold make it true. Only memory is
pushed out from here, since it changes no dyno's state.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from deodar.engines.base import Engine
from deodar.kit.clock import Clock
from deodar.loops.idling import plan
from deodar.loops.idling.plan import Facts, FallAsleep, Machine, Reclaim, Recount, Step, Stop, Wake
from deodar.model import errors
from deodar.model import idling as rules
from deodar.model.app import App, ConfigVars
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.formation import ProcessType
from deodar.model.idling import Defaults, Depth, Policy
from deodar.store import apps, dynos, formations, idling, releases
from deodar.store.db import Database, Tx

log = structlog.get_logger("deodar")

MACHINE = "machine"
HASTE = 5.0  #: seconds from one look to the next while memory is scarce

#: a dyno touches this file to say that it is busy: as good as a request
BUSY = "/tmp/deodar-busy"
ASK = ("/usr/bin/stat", "-c", "%Y", BUSY)
LONGEST = 32  #: bytes of an answer; a dyno may say anything, for as long as it likes
ASK_TIMEOUT = 10.0  #: seconds


class Idling:
    """`available` answers which share of the machine's memory is free; `every` is in seconds."""

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        clock: Clock,
        defaults: Defaults,
        available: Callable[[], float],
        every: float,
    ) -> None:
        self._db = db
        self._engine = engine
        self._clock = clock
        self._defaults = defaults
        self._available = available
        self._every = every

    async def keys(self) -> list[str]:
        return [MACHINE]

    async def reconcile(self, _machine: str) -> float:
        async with self._db.read() as tx:
            every = await self._facts(tx)
        machine = Machine(available=self._available(), room=await self._engine.room_for_reclaim())
        for step in plan.plan(every, machine, self._clock(), self._defaults):
            try:
                await self._take(step, machine)
            except errors.Unavailable as error:
                # One app that cannot be put to sleep must not keep the others awake.
                log.warning("Cannot let an app sleep", app=step.facts.app_id, error=error.message)
        return min(HASTE, self._every) if machine.scarce else self._every

    async def _take(self, step: Step, machine: Machine) -> None:
        match step:
            case FallAsleep(facts):
                await self._fall_asleep(facts, machine)
            case Reclaim(facts, sleep):
                await self._reclaim(facts, sleep)
            case Stop(facts, sleep):
                await self._sink(facts, sleep, Depth.STOPPED)
            case Wake(facts):
                async with self._db.write() as tx:
                    await idling.wake(tx, facts.app_id)
            case Recount(facts):
                async with self._db.write() as tx:
                    await idling.recount(tx, facts.app_id, self._clock())

    # What is known.

    async def _facts(self, tx: Tx) -> list[Facts]:
        types = await formations.every(tx)
        configs = await releases.current_configs(tx)
        active = await idling.active(tx)
        present: dict[str, list[Dyno]] = {}
        for dyno in await dynos.every(tx):
            present.setdefault(dyno.app_id, []).append(dyno)
        return [
            self._of(
                app,
                configs.get(app.id, ConfigVars()),
                types.get(app.id, []),
                present.get(app.id, []),
                active.get(app.id),
            )
            for app in await apps.every(tx)
        ]

    def _of(
        self,
        app: App,
        config: ConfigVars,
        types: list[ProcessType],
        present: list[Dyno],
        active_at: datetime | None,
    ) -> Facts:
        web = next((each for each in types if each.type == "web"), None)
        never = Policy(after=None, workers=False, bed=self._defaults.bed)
        return Facts(
            app_id=app.id,
            policy=rules.policy(config, web, self._defaults) if web else never,
            web=web,
            dynos=tuple(present),
            sleep=app.sleep,
            active_at=active_at,
        )

    async def _fresh(self, tx: Tx, app_id: str) -> Facts | None:
        """What the store knows of one app by now."""
        app = await apps.find(tx, app_id)
        release = await releases.current(tx, app_id)
        if app is None or release is None:
            return None
        return self._of(
            app,
            release.config,
            await formations.of_app(tx, app_id),
            await dynos.of_app(tx, app_id),
            (await idling.active(tx)).get(app_id),
        )

    # One step each.

    async def _fall_asleep(self, facts: Facts, machine: Machine) -> None:
        now = self._clock()
        busy = await self._busy(facts)
        if (
            busy is not None
            and plan.judge(plan.since_touched(facts, busy, now), machine, now, self._defaults)
            is None
        ):
            await self._set_active(facts, plan.touched(facts, busy, now))
            return
        async with self._db.write() as tx:
            # Much may have happened since the look.
            fresh = await self._fresh(tx, facts.app_id)
            step = fresh and plan.judge(fresh, machine, now, self._defaults)
            if isinstance(step, FallAsleep):
                await idling.fall_asleep(tx, facts.app_id, step.sleep)
                log.info("app.sleeps", app=facts.app_id, depth=step.sleep.depth.value)

    async def _busy(self, facts: Facts) -> datetime | None:
        """When a dyno that would sleep last said that it is busy."""
        said = [
            moment
            for dyno in facts.dynos
            if dyno.state is State.UP
            and dyno.kind is Kind.FORMATION
            and (dyno.is_web or facts.policy.workers)
            and (moment := await self._ask(dyno)) is not None
        ]
        return max(said, default=None)

    async def _ask(self, dyno: Dyno) -> datetime | None:
        """Also None for one that cannot be asked: it ends, or has no such command."""
        try:
            async with (
                asyncio.timeout(ASK_TIMEOUT),
                self._engine.exec(dyno.id, ASK, env={}) as process,
            ):
                told = b""
                while len(told) <= LONGEST and (data := await process.read()):
                    told += data
        except (errors.EngineFailed, TimeoutError) as error:
            log.warning("Cannot ask whether it is busy", dyno=dyno.name, error=repr(error))
            return None
        return plan.moment(told, self._clock())

    async def _set_active(self, facts: Facts, at: datetime) -> None:
        async with self._db.write() as tx:
            await idling.set_active(tx, {facts.app_id: at})

    async def _reclaim(self, facts: Facts, sleep: rules.Sleep) -> None:
        for dyno in facts.idle:
            await self._engine.reclaim(dyno.id)
        await self._sink(facts, sleep, Depth.RECLAIMED)

    async def _sink(self, facts: Facts, sleep: rules.Sleep, depth: Depth) -> None:
        async with self._db.write() as tx:
            await idling.sink(tx, facts.app_id, sleep, depth)
        log.info("app.sinks", app=facts.app_id, depth=depth.value)

"""Looks at the memory and load of all running dynos, tells their owners, and condemns those beyond R15.

Ending those is the manifold's. `reconcile` is driven by kit.loop with the machine as its only key: one
look at all dynos costs less than one for each app. What it remembers may be lost: averages of the load
begin anew, and a full process table is told once more.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from deodar.engines.base import Engine, Usage
from deodar.kit.clock import Clock
from deodar.loops.vitals import plan
from deodar.loops.vitals.plan import Level, Load
from deodar.model.dyno import Dyno, State
from deodar.model.formation import size_of
from deodar.model.log import LogLine
from deodar.store import apps, dynos
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

MACHINE = "machine"
SAMPLE = timedelta(seconds=5)  #: from one look at the load to the next
LIVE = frozenset({State.STARTING, State.UP})


class Vitals:
    """Sees to the memory and load of dynos."""

    def __init__(
        self, *, db: Database, engine: Engine, logs: Logs, clock: Clock, every: timedelta
    ) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._every = every
        self._next_look = self._next_sample = clock()
        self._loads: dict[str, Load | None] = {}  #: of the dynos whose owners want to know
        self._crowded: set[str] = set()  #: whose owners know that their process table was full

    async def keys(self) -> list[str]:
        return [MACHINE]

    async def reconcile(self, _machine: str) -> float:
        now = self._clock()
        # What is due is put off before it is done: after a failure it is for the next time, since half
        # of its lines may be in the logs.
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE
            await self._sample(now)
        if now >= self._next_look:
            self._next_look = now + self._every
            await self._look(now)
        return (min(self._next_look, self._next_sample) - self._clock()).total_seconds()

    async def _sample(self, now: datetime) -> None:
        if self._loads:
            for dyno_id, count in (await self._engine.runnable(list(self._loads))).items():
                self._loads[dyno_id] = plan.sampled(self._loads[dyno_id], count, now)

    async def _look(self, now: datetime) -> None:
        sightings = (await self._engine.sightings()).values()
        usages = await self._engine.usage(
            [each.id for each in sightings if each.running and not each.build]
        )
        async with self._db.read() as tx:
            metered = {app.id for app in await apps.every(tx) if app.runtime_metrics}
            present = [
                dyno
                for dyno in await dynos.every(tx)
                if dyno.id in usages and dyno.state in LIVE and not dyno.killed
            ]
        self._loads = {
            dyno.id: self._loads.get(dyno.id) for dyno in present if dyno.app_id in metered
        }
        self._crowded &= {dyno.id for dyno in present}
        self._tell(present, usages, now)
        for dyno in present:
            if plan.judge(usages[dyno.id], size_of(dyno.size)) is Level.VASTLY:
                await self._condemn(dyno)

    def _tell(self, present: list[Dyno], usages: Mapping[str, Usage], now: datetime) -> None:
        lines: dict[str, list[LogLine]] = defaultdict(list)
        for dyno in present:
            lines[dyno.app_id] += [
                LogLine(at=now, source="heroku", dyno=dyno.name, text=text)
                for text in self._texts(dyno, usages[dyno.id])
            ]
        for app_id, told in lines.items():
            if told:
                self._logs.append(app_id, told)

    def _texts(self, dyno: Dyno, usage: Usage) -> list[str]:
        size = size_of(dyno.size)
        texts = []
        if dyno.id in self._loads:
            load = self._loads[dyno.id]
            if load is not None and (line := plan.loaded(dyno, load)) is not None:
                texts.append(line)
            texts.append(plan.measured(dyno, usage, size))
        match plan.judge(usage, size):
            case Level.EXCEEDED:
                texts += [plan.running(usage, size), plan.EXCEEDED]
            case Level.VASTLY:
                # The rest is said by the manifold, which ends it.
                texts.append(plan.running(usage, size))
        if usage.forks_refused and dyno.id not in self._crowded:
            self._crowded.add(dyno.id)
            texts.append(plan.crowded(size))
        return texts

    async def _condemn(self, dyno: Dyno) -> None:
        async with self._db.write() as tx:
            current = await dynos.get(tx, dyno.id)
            if current is None or current.state not in LIVE:
                return  # it ends anyway
            await dynos.condemn(tx, dyno.id, "memory")
            tx.ring(dyno.app_id)
        log.info("dyno.condemned", app=dyno.app_id, dyno=dyno.name, id=dyno.id, why="memory")

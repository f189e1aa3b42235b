"""Lets dynos that stand still go on, the short way: for requests that are held until they do.

The manifold's loop would come to the same by itself, some fifty milliseconds later: it looks at all of an
app, and every other loop with it. Here is one transaction for all apps that are asked for at once. What
it leaves to that loop: dynos that have no process, or shall not be as they are.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import structlog

from deodar.engines.base import Engine
from deodar.kit.clock import Clock
from deodar.loops.manifold import boot
from deodar.model import errors
from deodar.model.dyno import Dyno, State
from deodar.model.log import LogLine
from deodar.store import dynos, idling
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")


class Waking:
    def __init__(self, db: Database, engine: Engine, logs: Logs, clock: Clock) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._clock = clock

    async def rise(self, app_ids: Collection[str]) -> list[Dyno]:
        """These apps are awake from here on. Answers the web dynos that go on, which the store calls
        routed: the caller is about to send requests to them. Raises StoreFailed.

        Rings nobody: the caller does, once the requests are on their way.
        """
        now = self._clock()
        async with self._db.write() as tx:
            await idling.rouse(tx, app_ids, now)
            risen = await dynos.rise(tx, app_ids, now)
            # The deed comes before the commit: a kill between the two leaves one that goes on while its
            # app sleeps, and the next look freezes it again.
            still = [dyno for dyno in risen if not await self._thaw(dyno)]
            for dyno in still:
                await dynos.fall_back(tx, dyno)
        going = [dyno for dyno in risen if dyno not in still]
        for dyno in going:
            self._tell(dyno)
        return [dyno for dyno in going if dyno.routed]

    async def _thaw(self, dyno: Dyno) -> bool:
        try:
            await self._engine.thaw(dyno.id)
        except errors.EngineFailed as error:
            # One must not keep the others asleep; the manifold tries again.
            log.error("Cannot thaw", app=dyno.app_id, dyno=dyno.name, error=error.message)
            return False
        return True

    def _tell(self, dyno: Dyno) -> None:
        before = replace(dyno, state=State.IDLE)
        texts: Sequence[str] = ("Unidling", *boot.changes(before, dyno))
        lines = [
            LogLine(at=dyno.state_since, source="heroku", dyno=dyno.name, text=text)
            for text in texts
        ]
        try:
            self._logs.append(dyno.app_id, lines)
        except errors.StoreFailed as error:
            log.error("Cannot tell the app's log", app=dyno.app_id, error=error.message)
        log.info("dyno.woken", app=dyno.app_id, dyno=dyno.name, id=dyno.id)

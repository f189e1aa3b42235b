"""Tells the store when somebody last asked for each app: once a beat, not once a request.

Two sources: the request log tells of requests that have ended, HAProxy of those that have not, such as
an open WebSocket. What was seen since the last beat is only known here.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from deodar.adapters.haproxy.runtime import Runtime
from deodar.kit.clock import Clock
from deodar.model import errors
from deodar.store import idling
from deodar.store.db import Database

log = structlog.get_logger("deodar")


class Activity:
    """`app_of(slot)` says whose a slot is; `beat` is in seconds."""

    def __init__(
        self,
        db: Database,
        runtime: Runtime,
        clock: Clock,
        app_of: Callable[[int], str | None],
        *,
        beat: float,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._clock = clock
        self._app_of = app_of
        self._beat = beat
        self._untold: dict[str, datetime] = {}  #: by app

    def saw(self, app_id: str, at: datetime) -> None:
        """A request for the app ended then."""
        self._untold[app_id] = max(at, self._untold.get(app_id, at))

    def untold(self, app_id: str) -> bool:
        """Whether the app was asked for since the store was told."""
        return app_id in self._untold

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._beat)
            try:
                await self.tell()
            except errors.Unavailable as error:
                log.warning("Cannot tell which apps are asked for", error=error.message)

    async def tell(self) -> None:
        """The store knows what is known here. Raises Unavailable; then the next beat tells it."""
        now = self._clock()
        for slot in await self._runtime.busy_slots():
            app_id = self._app_of(slot)
            if app_id is not None:
                self.saw(app_id, now)
        told = {app_id: min(at, now) for app_id, at in self._untold.items()}
        if told:
            async with self._db.write() as tx:
                await idling.set_active(tx, told)
        self._untold = {
            app_id: at for app_id, at in self._untold.items() if at > told.get(app_id, at)
        }

"""Watches running dynos and rings when one accepts connections or ends; judges nothing."""

import asyncio
from collections.abc import Callable

from deodar.engines.base import Engine
from deodar.model.dyno import Dyno, State

FIRST_PROBE = 0.003  #: seconds
LAST_PROBE = 0.1


class Supervisor:
    """One watch per running dyno; they end with the group they are started in."""

    def __init__(self, engine: Engine, ring: Callable[[str], None]) -> None:
        self._engine = engine
        self._ring = ring
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._bound: set[str] = set()

    def watch(self, dyno: Dyno, group: asyncio.TaskGroup) -> None:
        """See to this dyno from now on; may be repeated."""
        if dyno.id in self._watches:
            return
        task = group.create_task(self._watch(dyno), name=f"watch:{dyno.name}")
        self._watches[dyno.id] = task
        task.add_done_callback(lambda _: self._watches.pop(dyno.id, None))

    def watches(self, dyno: Dyno) -> bool:
        return dyno.id in self._watches

    def accepts(self, dyno: Dyno) -> bool:
        """Whether it was seen to accept connections."""
        return dyno.id in self._bound

    def forget(self, dyno_id: str) -> None:
        self._bound.discard(dyno_id)
        task = self._watches.pop(dyno_id, None)
        if task is not None:
            task.cancel()

    async def _watch(self, dyno: Dyno) -> None:
        if dyno.state is State.STARTING and dyno.port is not None:
            async with asyncio.TaskGroup() as group:
                probe = group.create_task(self._probe(dyno, dyno.port))
                await self._engine.wait(dyno.id)
                probe.cancel()
        else:
            await self._engine.wait(dyno.id)
        self._ring(dyno.app_id)

    async def _probe(self, dyno: Dyno, port: int) -> None:
        pause = FIRST_PROBE
        while not await self._engine.ready(dyno.id, port):
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, LAST_PROBE)
        self._bound.add(dyno.id)
        self._ring(dyno.app_id)

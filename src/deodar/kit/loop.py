"""Drives reconcilers: one worker per key, equal keys collapse, errors back off, a sweep catches the rest.

Knows nothing of what a key means. A reconciler is a coroutine function of one key which looks at the
world afresh and may run twice; it answers with the seconds after which it wants to be called again,
or None.
"""

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Iterable

import structlog

log = structlog.get_logger("deodar")

AT_ONCE = 8  #: keys that a sweep has looked at together
BREATH = 0.01  #: seconds
BREATHS = 20  #: and then the sweep goes on whatever is not done: some work takes minutes

Reconcile = Callable[[str], Awaitable[float | None]]
Keys = Callable[[], Awaitable[Iterable[str]]]


class Bell:
    """Rings keys to whoever listens. Ringing is free, may be doubled, and must not be relied on."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[str], None]] = []

    def listen(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def ring(self, key: str) -> None:
        for listener in self._listeners:
            listener(key)


class Driver:
    """Runs `reconcile(key)` for each key that rings, never two at once for the same key.

    A key that rings while its worker is busy runs once more afterwards. An exception is logged and
    retried after 0.5, 1, 2 … 30 s with jitter. `keys` names all there are: swept at the start and
    every `sweep` seconds. A driver that nobody waits for lets `lag` seconds pass after a ring: it is not
    in the way of those that somebody does wait for, and what rings in between is one call.
    """

    def __init__(
        self, name: str, reconcile: Reconcile, keys: Keys, *, sweep: float = 60, lag: float = 0
    ) -> None:
        self.name = name
        self._lag = lag
        self._reconcile = reconcile
        self._keys = keys
        self._sweep = sweep
        self._group: asyncio.TaskGroup | None = None
        self._wanted: dict[str, asyncio.Event] = {}
        self._failures: dict[str, int] = {}
        self._busy = 0  #: keys that are reconciled now

    def ring(self, key: str) -> None:
        """Ask for `key` to be reconciled soon. Before `run` it does nothing: the first sweep will."""
        if self._group is None:
            return
        event = self._wanted.get(key)
        if event is None:
            event = self._wanted[key] = asyncio.Event()
            event.set()
            # A context of its own: who rang is not who works, and must not be in its log lines.
            self._group.create_task(
                self._work(key, event),
                name=f"{self.name}:{key}",
                context=contextvars.Context(),
            )
        else:
            event.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                while True:
                    await self._ring_all()
                    await asyncio.sleep(self._sweep)
            finally:
                self._group = None
                self._wanted.clear()

    async def _ring_all(self) -> None:
        try:
            keys = list(await self._keys())
        except Exception:
            log.exception("Cannot list keys", loop=self.name)
            return
        for key in keys:
            self.ring(key)
            await self._breathe()

    async def _breathe(self) -> None:
        """Lets what was swept be looked at before more is. Thousands of keys at once would have whoever
        asks for something meanwhile wait behind all of them."""
        await asyncio.sleep(0)
        for _ in range(BREATHS):
            if self._busy < AT_ONCE:
                return
            await asyncio.sleep(BREATH)

    async def _work(self, key: str, wanted: asyncio.Event) -> None:
        """Serves one key until it is quiet; then goes, so that a thousand idle apps cost nothing."""
        while wanted.is_set():
            if self._lag:
                await asyncio.sleep(self._lag)
            wanted.clear()
            pause = await self._once(key)
            if pause is None:
                continue
            try:
                async with asyncio.timeout(pause):
                    await wanted.wait()
            except TimeoutError:
                wanted.set()
        del self._wanted[key]

    async def _once(self, key: str) -> float | None:
        self._busy += 1
        try:
            pause = await self._reconcile(key)
        except Exception:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            retry_in = min(0.5 * (1 << min(failures - 1, 6)), 30.0) * random.uniform(0.8, 1.2)
            log.exception("Cannot reconcile", loop=self.name, key=key, retry_in=round(retry_in, 1))
            return retry_in
        finally:
            self._busy -= 1
        self._failures.pop(key, None)
        return pause

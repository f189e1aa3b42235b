"""Gives each connection of a stream server a task with a parent; what is said in it is the caller's.

asyncio's own way, a coroutine as the server's callback, leaves tasks that nobody ends.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType

import structlog

log = structlog.get_logger("deodar")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


class Conversations:
    """`async with` it; `begin` is the callback of asyncio.start_server. At the end all are cancelled.

    One that fails is logged and harms no other.
    """

    def __init__(self, name: str, serve: Serve) -> None:
        self._name = name
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    async def __aenter__(self) -> "Conversations":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Cannot serve a connection", server=self._name, exc_info=error)

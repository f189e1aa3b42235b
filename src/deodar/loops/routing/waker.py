"""Answers HAProxy, which holds a request until the app has a dyno; whether it has, the loop tells.

Knows who waits and for how long. A question is `wake <slot> <request id>`, an answer `ok` or the H
code to show (`wake.lua` asks). Bodies and WebSockets never pass here: HAProxy keeps them.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from deodar.adapters.haproxy import sockets
from deodar.adapters.haproxy.table import slot_number

log = structlog.get_logger("deodar")

PATIENCE = 75.0  #: seconds from a request to H20 (devcenter: error-codes)


class Waker:
    """Holds questions by slot. `wanted(slot)` is called when the first of a slot begins to wait."""

    def __init__(
        self, socket: Path, wanted: Callable[[int], None], *, patience: float = PATIENCE
    ) -> None:
        self._socket = socket
        self._wanted = wanted
        self._patience = patience
        self._waiting: dict[int, set[_Hold]] = {}

    async def serve(self) -> None:
        """Listens until cancelled. Those who wait then ask again, of whoever listens next."""
        async with await sockets.listen(self._socket, lambda: _Hold(self)) as server:
            try:
                await server.serve_forever()
            finally:
                for holds in list(self._waiting.values()):
                    for hold in list(holds):
                        hold.leave()

    def tell(self, slot: int, answer: str) -> None:
        """Answers everybody who waits for this slot."""
        for hold in self._waiting.pop(slot, ()):
            hold.answer(answer)

    def waits(self, slot: int) -> bool:
        """Whether a request is held for this slot."""
        return slot in self._waiting

    def join(self, hold: "_Hold", slot: int) -> asyncio.TimerHandle:
        first = slot not in self._waiting
        self._waiting.setdefault(slot, set()).add(hold)
        # Whoever comes later is told with the first: what changes rings by itself.
        if first:
            log.info("router.waits", slot=slot)
            self._wanted(slot)
        return asyncio.get_running_loop().call_later(self._patience, hold.answer, "H20")

    def part(self, hold: "_Hold", slot: int) -> None:
        waiting = self._waiting.get(slot, set())
        waiting.discard(hold)
        if not waiting:
            self._waiting.pop(slot, None)


class _Hold(asyncio.Protocol):
    """One question, until it is answered or its client is gone."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._slot: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        line, newline, _ = self._received.partition(b"\n")
        if not newline or self._slot is not None:
            return
        word, _, rest = line.decode(errors="replace").partition(" ")
        slot = rest.split(" ")[0]
        if word != "wake" or not slot.rpartition("_")[2].isdigit():
            self.answer("H99")
            return
        self._slot = slot_number(slot)
        self._timer = self._waker.join(self, self._slot)

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._slot is not None:
            self._waker.part(self, self._slot)

    def answer(self, answer: str) -> None:
        if self._transport is not None:
            self._transport.write(answer.encode() + b"\n")
            self._transport.close()

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()

"""Brings what dynos print into their apps' logs, each line once; how lines are kept is the store's.

The place in a dyno's output up to which it is in the log is kept in the log itself, so an intake that
was killed goes on there. The manifold removes an ended dyno only when its output is read to the end.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from deodar.engines.base import Engine, Output, Sighting
from deodar.model.log import LINE_LIMIT, LogLine
from deodar.store import apps
from deodar.store.db import Database
from deodar.store.logs import Logs

BACKLOG = 8 * 1024 * 1024  #: bytes of output that wait for us; more is dropped, oldest first (L12)
MUCH = 64 * 1024  #: bytes; an engine that gave so many may have more
REST = 4  #: seconds of rest for a second of work while there is more


class Whole(NamedTuple):
    """A whole line of output, and where the output goes on after it."""

    at: float
    text: str
    offset: int


def join(pieces: Sequence[Output]) -> list[Whole]:
    """The whole lines in `pieces`; what is not whole yet is left for the next time.

    A line is taken as it is when it grows over the limit, or the other stream speaks in its midst: a
    place is one number, and cannot say which lines of which stream are in the log.
    """
    lines: list[Whole] = []
    part: list[Output] = []
    for piece in pieces:
        if part and part[0].stream != piece.stream:
            lines.append(_whole(part))
            part = []
        part.append(piece)
        if not piece.partial or sum(len(each.data) for each in part) >= LINE_LIMIT:
            lines.append(_whole(part))
            part = []
    return lines


def _whole(part: Sequence[Output]) -> Whole:
    data = b"".join(piece.data for piece in part)
    return Whole(part[0].at, data.decode(errors="replace").rstrip("\r"), part[-1].offset)


class Intake:
    """Reads one app's dynos at a time; `reconcile` is driven by kit.loop with an app's id as the key."""

    def __init__(self, db: Database, engine: Engine, logs: Logs) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._behind: set[str] = set()  #: apps with output that waits to be read
        self._discarded: dict[str, int] = {}  #: how much of each dyno's output the disk has back

    async def keys(self) -> list[str]:
        """Every app that a dyno is there of."""
        present = await self._dynos()
        here = {each.id for each in present}
        self._discarded = {key: place for key, place in self._discarded.items() if key in here}
        return list({each.app_id for each in present})

    async def watch(self, ring: Callable[[str], None]) -> None:
        """Rings for apps whose dynos have printed something, a moment after; until cancelled."""
        while True:
            grown = await self._engine.output_grew()
            for app_id in {each.app_id for each in await self._dynos() if each.id in grown}:
                if app_id not in self._behind:  # it is read as fast as it may be
                    ring(app_id)

    async def reconcile(self, app_id: str) -> float | None:
        """Answers when to read on, if there is more: a dyno that prints without end must not take the
        control plane from everybody else."""
        self._behind.discard(app_id)  # first: what is printed from now on rings
        began = time.monotonic()
        more = [await self._read(dyno) for dyno in await self._dynos(app_id)]
        if not any(more):
            return None
        self._behind.add(app_id)
        return (time.monotonic() - began) * REST * len(self._behind)

    async def _dynos(self, app_id: str | None = None) -> list[Sighting]:
        """A build's container is no dyno: its output is the compiler's."""
        sightings = await self._engine.sightings(app_id)
        return [each for each in sightings.values() if not each.build]

    async def _read(self, dyno: Sighting) -> bool:
        """Some of one dyno's output; True if there is more of it."""
        place = self._logs.place(dyno.app_id, dyno.id)
        start = await self._engine.output_start(dyno.id, place, at_most=BACKLOG)
        pieces = await self._engine.output(dyno.id, start)
        whole = join(pieces)
        if pieces and not whole and not dyno.running:
            # it ended in the midst of a line, and that is all there will be
            whole = [_whole(pieces)]
        if not whole or not await self._is_app(dyno.app_id):
            return False
        lines = [(each.offset, _line(dyno, each)) for each in whole]
        if start > place:
            lines.insert(0, (start, _dropped(dyno, start - place, whole[0].at)))
        self._logs.append_output(dyno.app_id, dyno.id, lines)
        await self._discard(dyno, lines[-1][0])
        return lines[-1][0] - start >= MUCH

    async def _discard(self, dyno: Sighting, place: int) -> None:
        """Now and then: the disk does not need every line back at once."""
        if place - self._discarded.get(dyno.id, 0) < MUCH:
            return
        await self._engine.discard_output(dyno.id, place)
        self._discarded[dyno.id] = place

    async def _is_app(self, app_id: str) -> bool:
        """A destroyed app has no log any more, and must not get one by its dynos' last words."""
        if self._logs.exists(app_id):
            return True
        async with self._db.read() as tx:
            return await apps.find(tx, app_id) is not None


def _dropped(dyno: Sighting, size: int, at: float) -> LogLine:
    """What Heroku's log-shuttle says, which counts messages; nobody has read these."""
    text = (
        f"Error L12 (Local buffer overflow) -> {size / 1e6:.1f} MB of output dropped: more is "
        "printed than can be logged"
    )
    return LogLine(at=datetime.fromtimestamp(at, UTC), source="heroku", dyno=dyno.name, text=text)


def _line(dyno: Sighting, whole: Whole) -> LogLine:
    at = datetime.fromtimestamp(whole.at, UTC)
    return LogLine(at=at, source="app", dyno=dyno.name, text=whole.text)

"""Takes the steps that `plan` gives for one app's pending releases, and keeps what their phases print.

A release phase is a dyno that the manifold runs and whose output the app's log has. A copy of that is
kept for as long as people may ask for it; one that a killed process began is written anew.
"""

import asyncio
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import structlog

from deodar.actions import phases
from deodar.engines.base import Engine
from deodar.kit.clock import Clock
from deodar.loops.releasing import plan
from deodar.loops.releasing.plan import Attend, Begin, Stand, Step
from deodar.model.app import App
from deodar.model.dyno import GONE, Dyno
from deodar.model.log import LogLine
from deodar.model.release import Release
from deodar.store import apps, dynos, releases
from deodar.store.db import Database
from deodar.store.logs import Logs, Position

log = structlog.get_logger("deodar")

PEEK = 0.05  #: seconds between looks whether a release phase has ended
LIMIT = 1024 * 1024  #: bytes of a release phase's output that are kept
KEPT = 50  #: outputs of an app
ALL = 1_000_000  #: lines; more than a log has


class Releasing:
    """Decides pending releases; `reconcile` is driven by kit.loop with an app's id as the key."""

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        logs: Logs,
        clock: Clock,
        dice: random.Random,
        folder: Path,
        lasts: int,
    ) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._dice = dice
        self._folder = folder
        self._lasts = lasts

    async def keys(self) -> list[str]:
        """Apps with a pending release, and those that are no more but left something."""
        async with self._db.read() as tx:
            pending = await releases.pending_ids(tx)
            known = set(await apps.ids(tx))
        left = [each.name for each in self._folder.glob("*") if each.name not in known]
        return [*pending, *left]

    async def reconcile(self, app_id: str) -> None:
        while True:
            async with self._db.read() as tx:
                app = await apps.find(tx, app_id)
                pending = await releases.pending(tx, app_id)
                present = await dynos.of_app(tx, app_id) if pending else []
            if app is None:
                await self._clear(app_id)
                return
            step = plan.plan(pending, present)
            if step is None:
                return
            await self._act(app, step)

    async def _act(self, app: App, step: Step) -> None:
        match step:
            case Begin(release):
                await self._begin(app, release)
            case Attend(release, dyno):
                await self._attend(app, release, dyno)
            case Stand(release):
                await self._decide(app, release, None)

    async def _begin(self, app: App, release: Release) -> None:
        async with self._db.write() as tx:
            if await apps.find(tx, app.id) is None:
                return
            dyno = await phases.begin(
                tx, app, release, lasts=self._lasts, dice=self._dice, now=self._clock()
            )
        self._tell(app, f"Running release {release.name} commands by user {release.user}")
        log.info("release.phase", app=app.id, release=release.name, dyno=dyno.name)

    async def _attend(self, app: App, release: Release, dyno: Dyno) -> None:
        folder = self._folder / app.id
        await asyncio.to_thread(_make_room, folder)
        with (folder / f"{release.id}.log").open("wb", buffering=0) as file:
            copy = Copy(file)
            await self._follow(app, dyno, copy)
            async with self._db.read() as tx:
                ended = await dynos.get(tx, dyno.id)
            if ended is None:
                return  # its app was destroyed
            why = plan.failure(ended)
            if why is not None:
                copy.say(f" !     Release command failed: {why}")
        await self._decide(app, release, why)

    async def _follow(self, app: App, dyno: Dyno, copy: "Copy") -> None:
        """Copies what the dyno prints, until it has ended and all of that is in the log."""
        lines, place = await self._printed(dyno)
        copy.add(lines)
        follower = self._logs.follow(app.id, place, source="app", dyno=dyno.name)
        coming = asyncio.ensure_future(anext(follower, None))
        try:
            while not await self._is_over(dyno):
                await asyncio.wait({coming}, timeout=PEEK)
                if coming.done():
                    found = coming.result()
                    if found is None:
                        break  # the log is deleted
                    copy.add(found[1])
                    coming = asyncio.ensure_future(anext(follower, None))
        finally:
            coming.cancel()
        lines, _ = await self._printed(dyno)
        copy.add(lines[copy.lines :])

    async def _printed(self, dyno: Dyno) -> tuple[list[LogLine], Position]:
        lines, place = await self._logs.last(dyno.app_id, ALL, source="app", dyno=dyno.name)
        # An earlier one may have had the same number.
        return [line for line in lines if line.at >= dyno.created_at], place

    async def _is_over(self, dyno: Dyno) -> bool:
        async with self._db.read() as tx:
            present = await dynos.get(tx, dyno.id)
        if present is None:
            return True
        if present.state not in GONE:
            return False
        place = self._logs.place(dyno.app_id, dyno.id)
        return not await self._engine.output(dyno.id, place)

    async def _decide(self, app: App, release: Release, why: str | None) -> None:
        async with self._db.write() as tx:
            present = await apps.find(tx, app.id)
            if present is None:
                return
            if why is None:
                await phases.succeed(tx, present, release, now=self._clock())
            else:
                await phases.fail(tx, release, now=self._clock())
        if why is not None:
            self._tell(app, f"Release {release.name} failed: {why}")
        log.info("release.decided", app=app.id, release=release.name, failed=why)

    async def _clear(self, app_id: str) -> None:
        folder = self._folder / app_id
        if folder.exists():
            await asyncio.to_thread(shutil.rmtree, folder)

    def _tell(self, app: App, text: str) -> None:
        line = LogLine(at=self._clock(), source="app", dyno="api", text=text)
        self._logs.append(app.id, [line])


class Copy:
    """Lines in a file, up to LIMIT."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = 0
        self.lines = 0

    def add(self, lines: Sequence[LogLine]) -> None:
        self.lines += len(lines)
        data = "".join(f"{line.text}\n" for line in lines).encode()
        if self._size < LIMIT <= self._size + len(data):
            self._file.write(data[: LIMIT - self._size])
            self.say("\n !     There is more in the app's log: heroku logs")
        elif self._size < LIMIT:
            self._file.write(data)
        self._size += len(data)

    def say(self, text: str) -> None:
        """A line of ours, however much there is."""
        self._file.write(f"{text}\n".encode())


def _make_room(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[KEPT - 1 :]:
        file.unlink()

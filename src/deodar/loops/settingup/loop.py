"""Takes the steps that `plan` gives for one app that is being set up.

The source lies in a folder of the set-up's own until that has ended, so that a build which our own end
interrupts can be wished again. Everything else is in the store.
"""

import asyncio
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from deodar.actions import builds as wishes
from deodar.actions import formations, setups
from deodar.adapters import download, stacks, tarballs
from deodar.adapters.disk import Disk
from deodar.engines.base import Engine
from deodar.kit.clock import Clock
from deodar.loops.settingup import plan
from deodar.loops.settingup.plan import BuildAgain, Collect, Fail, Read, Step, TakeUp, Wait
from deodar.model import errors, manifest
from deodar.model.app import App
from deodar.model.dyno import Dyno
from deodar.model.log import LogLine
from deodar.model.release import Release
from deodar.model.setup import ENDED, Setup
from deodar.settings import Paths
from deodar.store import apps, builds, dynos, releases
from deodar.store import setups as stored
from deodar.store.db import Database, Tx
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

PEEK = 0.1  #: seconds between looks whether all that a dyno printed is in the log
ALL = 1_000_000  #: lines; more than a log has
NOT_FOUND = f"{manifest.NAME} not found"
INVALID = f"invalid {manifest.NAME}"
SOURCE_GONE = "The source is gone from this machine. Set the app up again."
LEFT = timedelta(hours=1)  #: a source that nobody wants after so long was left behind


TARBALL = "upload"  #: the source as it came
SOURCE = "source.tar"  #: as a build wants it


class SettingUp:
    """Sets apps up; `reconcile` is driven by kit.loop with an app's id as the key."""

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        logs: Logs,
        clock: Clock,
        dice: random.Random,
        disk: Disk,
        paths: Paths,
        lasts: int,
    ) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._dice = dice
        self._disk = disk
        self._paths = paths
        self._lasts = lasts

    async def keys(self) -> list[str]:
        """Apps that are being set up. What ended set-ups left on the disk goes first."""
        async with self._db.read() as tx:
            pending = await stored.pending(tx)
        known = {each.id for each in pending}
        for folder in self._paths.setups.glob("*"):
            if folder.name not in known and self._is_old(folder):
                await asyncio.to_thread(shutil.rmtree, folder)
        return [each.app_id for each in pending]

    def _is_old(self, folder: Path) -> bool:
        written = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        return self._clock() - written > LEFT

    async def reconcile(self, app_id: str) -> float | None:
        while True:
            async with self._db.read() as tx:
                setup = await stored.of_app(tx, app_id)
                if setup is None:
                    return None
                if setup.state in ENDED:
                    break
                step = plan.plan(
                    setup,
                    app=await apps.find(tx, app_id),
                    build=await builds.find(tx, app_id, setup.build_id or ""),
                    release=await self._release(tx, setup),
                    dyno=await dynos.get(tx, setup.dyno_id or ""),
                )
            if isinstance(step, Wait):
                return None
            if isinstance(step, Collect) and not await self._all_is_told(step.dyno):
                return PEEK
            await self._act(setup, step)
        await self._clear(setup)
        return None

    async def _release(self, tx: Tx, setup: Setup) -> Release | None:
        build = await builds.find(tx, setup.app_id, setup.build_id or "")
        return await releases.get(tx, build.release_id) if build and build.release_id else None

    async def _all_is_told(self, dyno: Dyno) -> bool:
        """Whether all that the dyno printed is in the log."""
        place = self._logs.place(dyno.app_id, dyno.id)
        return not await self._engine.output(dyno.id, place)

    async def _act(self, setup: Setup, step: Step) -> None:
        match step:
            case Read(app):
                await self._read(app, setup)
            case BuildAgain(app):
                await self._build_again(app, setup)
            case TakeUp(app):
                await self._take_up(app, setup)
            case Collect(dyno):
                await self._collect(setup, dyno)
            case Fail(why):
                await self._fail(setup, why)

    # From the source to a build.

    async def _read(self, app: App, setup: Setup) -> None:
        self._disk.check()
        folder = self._folder(setup)
        tarball = folder / TARBALL
        try:
            if not tarball.exists():
                await _download(setup, tarball)
            await tarballs.take_source(tarball, folder / SOURCE)
            text = await tarballs.text_of(folder / SOURCE, manifest.NAME, limit=manifest.LIMIT)
        except errors.BuildFailed as error:
            await self._reject(setup, error.message)
            return
        if text is None:
            await self._reject(setup, NOT_FOUND)
        else:
            await self._apply(app, setup, text)

    async def _apply(self, app: App, setup: Setup, text: str) -> None:
        build_id = await self._lay_source(setup)
        known = {stack.name for stack in stacks.list_present(self._paths.stacks)}
        try:
            async with self._db.write() as tx:
                # Read again: it may have been renamed or destroyed while its source was fetched.
                present = await apps.find(tx, app.id)
                if present is None:
                    raise errors.NotFound("app")
                made = await setups.apply(
                    tx,
                    present,
                    setup,
                    text,
                    build_id=build_id,
                    stacks=frozenset(known | set(stacks.RECIPES)),
                    now=self._clock(),
                )
        except (errors.InvalidManifest, errors.NotFound) as error:
            await asyncio.to_thread(shutil.rmtree, self._paths.builds / build_id)
            if isinstance(error, errors.InvalidManifest):
                await self._reject(setup, INVALID, *error.problems)
            return  # without its app, the next step is to say so
        log.info("setup.applied", app=app.id, setup=setup.id, build=build_id)
        for release in made:
            self._tell(
                app,
                f"{release.description} by user {release.user}",
                f"Release {release.name} created by user {release.user}",
            )

    async def _build_again(self, app: App, setup: Setup) -> None:
        try:
            build_id = await self._lay_source(setup)
        except FileNotFoundError:
            await self._fail(setup, SOURCE_GONE)
            return
        async with self._db.write() as tx:
            await setups.build_again(tx, app, setup, build_id=build_id, now=self._clock())
        log.info("setup.build_again", app=app.id, setup=setup.id, build=build_id)

    async def _lay_source(self, setup: Setup) -> str:
        """A copy of the source where a build wants it; the id of that build."""
        build_id = wishes.new_id()
        folder = self._paths.builds / build_id
        folder.mkdir(parents=True)
        try:
            await asyncio.to_thread(shutil.copyfile, self._folder(setup) / SOURCE, folder / SOURCE)
        except FileNotFoundError:
            folder.rmdir()
            raise
        return build_id

    # From the release to the end.

    async def _take_up(self, app: App, setup: Setup) -> None:
        try:
            async with self._db.write() as tx:
                types = await setups.take_up(
                    tx, app, setup, lasts=self._lasts, dice=self._dice, now=self._clock()
                )
        except errors.InvalidParams as error:
            await self._fail(setup, f"The postdeploy command cannot run: {error.message}")
            return
        log.info("setup.released", app=app.id, setup=setup.id)
        if types:
            self._tell(app, f"{formations.describe(types)} by user {setup.user}")

    async def _collect(self, setup: Setup, dyno: Dyno) -> None:
        lines, _ = await self._logs.last(dyno.app_id, ALL, source="app", dyno=dyno.name)
        # An earlier one may have had the same number.
        output = "".join(f"{line.text}\n" for line in lines if line.at >= dyno.created_at)
        status = plan.exit_code(dyno)
        async with self._db.write() as tx:
            await setups.finish(tx, setup, output=output, exit_code=status, now=self._clock())
        log.info("setup.postdeploy", app=setup.app_id, setup=setup.id, status=status)

    # Where it ends too early.

    async def _reject(self, setup: Setup, why: str, *notes: str) -> None:
        async with self._db.write() as tx:
            app = await apps.find(tx, setup.app_id)
            await setups.reject(tx, app, setup, why, notes=notes, now=self._clock())
            is_gone = await apps.find(tx, setup.app_id) is None
        if is_gone:
            self._logs.delete(setup.app_id)
        log.info("setup.rejected", app=setup.app_id, setup=setup.id, why=why)

    async def _fail(self, setup: Setup, why: str) -> None:
        async with self._db.write() as tx:
            await setups.fail(tx, setup, why, now=self._clock())
        log.info("setup.failed", app=setup.app_id, setup=setup.id, why=why)

    async def _clear(self, setup: Setup) -> None:
        """What an ended set-up has on the disk goes. May be repeated."""
        folder = self._folder(setup)
        if folder.exists():
            await asyncio.to_thread(shutil.rmtree, folder)

    def _folder(self, setup: Setup) -> Path:
        return self._paths.setups / setup.id

    def _tell(self, app: App, *texts: str) -> None:
        now = self._clock()
        self._logs.append(
            app.id, [LogLine(at=now, source="app", dyno="api", text=text) for text in texts]
        )


async def _download(setup: Setup, tarball: Path) -> None:
    tarball.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    await download.fetch(setup.source["url"], tarball, checksum=setup.source.get("checksum"))

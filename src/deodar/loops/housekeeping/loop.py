"""Keeps the disk from filling: measures, asks `plan` what may go, and deletes it; decides nothing itself.

Nothing that may go is needed to run: whatever is deleted here is first unnamed in the store, or has
never been named there. So a kill between any two lines leaves a file too many, and the next look finds
it. Running dynos are stopped for one reason only, which is their own: writing more than they may.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import structlog

from deodar.adapters import slugs, stacks
from deodar.adapters.disk import Disk
from deodar.engines.base import Engine
from deodar.kit import disk as measure
from deodar.kit import subprocess
from deodar.kit.clock import Clock
from deodar.loops.housekeeping import plan
from deodar.loops.housekeeping.plan import Cache, Leftover, Rules
from deodar.model import disk as words
from deodar.model import errors
from deodar.model.dyno import Dyno
from deodar.model.log import LogLine
from deodar.settings import Paths
from deodar.store import apps, builds, dynos, releases
from deodar.store.db import Database, Tx
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

LOG_LIMIT = 10_000_000  #: bytes of our own log; as many again are kept of what was before
DOOMED = ".doomed-"  #: a folder that is being deleted; renamed first, since deleting takes time
LEFTOVER_PAUSE = 0.5  #: seconds until another look whether a destroyed app's dynos are gone


class Chore(StrEnum):
    """What is looked after, each at its own pace."""

    SPACE = "space"
    DYNOS = "dynos"
    SLUGS = "slugs"
    BUILDS = "builds"
    CACHES = "caches"
    LOG = "log"
    STACKS = "stacks"


#: seconds until the next look
PACE = {
    Chore.SPACE: 15.0,
    Chore.DYNOS: 60.0,
    Chore.SLUGS: 600.0,
    Chore.BUILDS: 600.0,
    Chore.CACHES: 1800.0,
    Chore.LOG: 600.0,
    Chore.STACKS: 60.0,
}


class Housekeeping:
    """`reconcile` is driven by kit.loop with a chore as the key, `clear` with an app's id."""

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        logs: Logs,
        clock: Clock,
        paths: Paths,
        disk: Disk,
        rules: Rules,
    ) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._paths = paths
        self._disk = disk
        self._rules = rules

    async def chores(self) -> list[str]:
        return list(Chore)

    async def reconcile(self, chore: str) -> float:
        match Chore(chore):
            case Chore.SPACE:
                await self._make_room()
            case Chore.DYNOS:
                await self._end_greedy_dynos()
            case Chore.SLUGS:
                await self._collect_slugs(self._rules)
            case Chore.BUILDS:
                await self._collect_builds()
            case Chore.CACHES:
                await self._collect_caches()
            case Chore.LOG:
                self._turn_log()
            case Chore.STACKS:
                await self._discard_former_stacks()
        return PACE[Chore(chore)]

    # A destroyed app.

    async def left_behind(self) -> list[str]:
        """Ids of destroyed apps that folders on disk are still named after."""
        names = {
            *(path.name.removesuffix(".git") for path in self._paths.repos.glob("*.git")),
            *(path.name for path in self._paths.caches.glob("[!.]*")),
            *(path.name for path in self._paths.logs.glob("*")),
        }
        async with self._db.read() as tx:
            return list(names.difference(await apps.ids(tx)))

    async def clear(self, app_id: str) -> float | None:
        """A destroyed app's repository, cache and log go, and slugs that no app has any more."""
        async with self._db.read() as tx:
            if await apps.find(tx, app_id) is not None:
                return None
        sightings = await self._engine.sightings()
        mine = [each for each in sightings.values() if each.app_id == app_id]
        for each in mine:
            if each.build:
                await self._engine.remove(each.id)
        if any(not each.build for each in mine):
            return LEFTOVER_PAUSE
        for folder in (self._paths.repos / f"{app_id}.git", self._paths.caches / app_id):
            await _delete(folder)
        self._logs.delete(app_id)
        await self._forget_slugs()
        return None

    # Slugs.

    async def _collect_slugs(self, rules: Rules) -> None:
        """In the store first, so that nothing can ask for a slug whose file is gone."""
        async with self._db.read() as tx:
            known = await apps.ids(tx)
        for app_id in known:
            async with self._db.write() as tx:
                gone = await self._expire(tx, app_id, rules)
            if gone:
                log.info("slugs.expired", app=app_id, count=len(gone))
        await self._forget_slugs()

    async def _expire(self, tx: Tx, app_id: str, rules: Rules) -> Collection[str]:
        gone = plan.expired(
            await releases.entries(tx, app_id),
            {slug.id: slug.created_at for slug in await releases.slugs_of(tx, app_id)},
            held={dyno.slug_id for dyno in await dynos.of_app(tx, app_id) if dyno.slug_id},
            rules=rules,
            now=self._clock(),
        )
        if gone:
            await releases.expire(tx, gone, now=self._clock())
        return gone

    async def _forget_slugs(self) -> None:
        """Files of slugs that the store does not name: collected, of destroyed apps, or never named."""
        stored = await asyncio.to_thread(slugs.archives, self._paths.slugs)
        async with self._db.read() as tx:
            named = await releases.checksums(tx)
        for checksum in {*stored, *await self._engine.packed_slugs()} - named:
            # Nothing is written meanwhile, so no build can begin that would make the same slug.
            async with self._db.write() as tx:
                if await _packing(tx):
                    return  # a build packs its slug before the store knows of it
                if checksum in await releases.checksums(tx):
                    continue
                await self._engine.forget_slug(checksum)
                if checksum in stored:
                    await asyncio.to_thread(stored[checksum].unlink, missing_ok=True)
            log.info("slug.forgotten", checksum=checksum)
        await asyncio.to_thread(self._delete_half_made)

    def _delete_half_made(self) -> None:
        limit = (self._clock() - plan.HALF_MADE).timestamp()
        for path in slugs.half_made(self._paths.slugs):
            if path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)

    async def _forget_idle_images(self) -> None:
        """Images of slugs that no dyno runs: the archive stays, and a start takes seconds longer."""
        stored = await asyncio.to_thread(slugs.archives, self._paths.slugs)
        for checksum in await self._engine.packed_slugs():
            async with self._db.write() as tx:
                if await _packing(tx):
                    return
                running = {dyno.slug_id for dyno in await dynos.every(tx)}
                if checksum not in stored or checksum in await _checksums(tx, running):
                    continue
                await self._engine.forget_slug(checksum)

    # Builds.

    async def _collect_builds(self) -> None:
        """Outputs, folders and uploads of builds that are long over."""
        # What there is comes first: a build that begins afterwards has nothing among it.
        found = await asyncio.to_thread(_list, self._paths.builds)
        uploads = await asyncio.to_thread(_list, self._paths.sources)
        async with self._db.read() as tx:
            known = await builds.every(tx)
        now = self._clock()
        outputs = [
            replace(each, name=each.name.removesuffix(".log"))
            for each in found
            if each.name.endswith(".log")
        ]
        folders = [each for each in found if not each.name.endswith(".log")]
        names = [
            *(f"{id}.log" for id in plan.spent_outputs(outputs, known, rules=self._rules, now=now)),
            *plan.left_folders(folders, known, now=now),
        ]
        for name in names:
            await _delete(self._paths.builds / name)
        for upload in uploads:
            if now - upload.written_at >= self._rules.upload_age:
                await _delete(self._paths.sources / upload.name)

    # Caches.

    async def _collect_caches(self) -> None:
        for doomed in self._paths.caches.glob(f"{DOOMED}*"):
            await _delete(doomed)
        spent = plan.spent_caches(await self._caches(), rules=self._rules, now=self._clock())
        await self._empty(spent)

    async def _caches(self) -> list[Cache]:
        try:
            sizes = await measure.taken(*self._paths.caches.glob("[!.]*"))
        except subprocess.CommandFailed as error:
            raise errors.Unavailable(f"Cannot measure build caches: {error}") from error
        async with self._db.read() as tx:
            known = await builds.every(tx)
        built: dict[str, datetime] = {build.app_id: build.created_at for build in reversed(known)}
        return [
            Cache(app_id=path.name, size=size, used_at=built.get(path.name) or _written_at(path))
            for path, size in sizes.items()
        ]

    async def _empty(self, caches: Collection[Cache]) -> None:
        for cache in caches:
            doomed = self._paths.caches / f"{DOOMED}{secrets.token_hex(8)}"
            async with self._db.write() as tx:
                # A build that is under way has it open.
                if any(build.app_id == cache.app_id for build in await builds.pending(tx)):
                    continue
                (self._paths.caches / cache.app_id).rename(doomed)
            await _delete(doomed)
            log.info("cache.emptied", app=cache.app_id, size=words.words(cache.size))

    # Dynos.

    async def _end_greedy_dynos(self) -> None:
        written = await self._engine.written()
        async with self._db.write() as tx:
            greedy = plan.greedy(await dynos.every(tx), written, self._rules)
            for dyno in greedy:
                await dynos.condemn(tx, dyno.id, "restart")
                tx.ring(dyno.app_id)
        for dyno in greedy:
            self._tell(dyno, written[dyno.id])

    def _tell(self, dyno: Dyno, written: int) -> None:
        text = (
            f"Disk quota exceeded: {words.words(written)} written, "
            f"{words.words(self._rules.dyno_disk)} allowed. Restarting with an empty disk"
        )
        line = LogLine(at=self._clock(), source="heroku", dyno=dyno.name, text=text)
        self._logs.append(dyno.app_id, [line])
        log.info("dyno.over_quota", app=dyno.app_id, dyno=dyno.name, written=written)

    # A disk that is nearly full.

    async def _make_room(self) -> None:
        """Beyond what is collected anyway, what can be made again goes, until there is room."""
        if not self._disk.space().is_low:
            return
        steps = (
            self._collect_builds,
            self._discard_former_stacks,
            self._forget_slugs,
            self._empty_largest_caches,
            self._forget_idle_images,
            self._collect_slugs_of_any_age,
        )
        for step in steps:
            await step()
            space = self._disk.space()
            if not space.is_low:
                log.info("disk.freed", free=words.words(space.free))
                return
        log.warning("disk.full", free=words.words(space.free), floor=words.words(space.floor))

    async def _empty_largest_caches(self) -> None:
        await self._empty(plan.caches_for(await self._caches(), self._disk.space().missing))

    async def _collect_slugs_of_any_age(self) -> None:
        await self._collect_slugs(replace(self._rules, slug_age=timedelta(0)))

    # Stacks.

    async def _discard_former_stacks(self) -> None:
        """Editions that were replaced or taken down, and that nothing runs on any more.

        In this order: what is a former edition already, no container can be made on any more.
        """
        if self._paths.stacks.is_symlink():
            return  # lent by another platform, whose containers we do not see
        for edition in await asyncio.to_thread(stacks.former, self._paths.stacks):
            if any([await self._engine.uses(root) for root in stacks.roots(edition)]):
                continue
            if await asyncio.to_thread(stacks.discard, edition):
                log.info("stack.discarded", edition=edition.name)

    # Our own log.

    def _turn_log(self) -> None:
        """Its writers have it open, and go on at its end wherever that is: so it is copied and cut.

        Ten megabytes, in a few milliseconds, in which nothing of ours can write.
        """
        file = self._paths.log
        if file.exists() and file.stat().st_size > LOG_LIMIT:
            shutil.copy2(file, file.with_suffix(".log.1"))
            os.truncate(file, 0)


async def _packing(tx: Tx) -> bool:
    """Whether a build is under way."""
    return any(build.started_at is not None for build in await builds.pending(tx))


async def _checksums(tx: Tx, slug_ids: Collection[str | None]) -> set[str]:
    found = [await releases.slug(tx, slug_id) for slug_id in slug_ids]
    return {slug.checksum for slug in found if slug is not None}


def _list(folder: Path) -> list[Leftover]:
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # its build has just ended
            found.append(Leftover(name=path.name, written_at=_written_at(path)))
    return found


def _written_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


async def _delete(path: Path) -> None:
    """May be repeated."""
    if path.is_dir():
        await asyncio.to_thread(shutil.rmtree, path)
    else:
        path.unlink(missing_ok=True)

"""Follows the output of a build or of a release phase while a loop writes it; knows the file, and when
it is whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from deodar.model import errors
from deodar.model.build import BuildStatus
from deodar.model.release import ReleaseStatus
from deodar.store import builds, releases
from deodar.store.db import Database

POLL = 0.05  #: seconds between looks at the file
ASK = 4  #: looks at the file for one question to the store
BLOCK = 64 * 1024


class Outputs:
    """The outputs of all builds: `<build id>.log` below `folder`."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder

    async def follow(self, app_id: str, build_id: str) -> AsyncIterator[bytes]:
        """The output from its start, as it grows, until the build has ended or is gone."""
        path = self._folder / f"{build_id}.log"
        async for data in _grow(path, lambda: self.has_ended(app_id, build_id)):
            yield data

    async def has_ended(self, app_id: str, build_id: str) -> bool:
        async with self._db.read() as tx:
            build = await builds.find(tx, app_id, build_id)
        return build is None or build.status is not BuildStatus.PENDING


class PhaseOutputs:
    """The outputs of all release phases: `<app id>/<release id>.log` below `folder`."""

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder

    async def follow(self, app_id: str, release_id: str) -> AsyncIterator[bytes]:
        """The output from its start, as it grows, until the release is decided or gone. Raises NotFound
        before the first of it if there will be none."""
        path = self._folder / app_id / f"{release_id}.log"
        if await self.is_decided(release_id) and not path.is_file():
            raise errors.NotFound("release", "Couldn't find that release's output.")
        return _grow(path, lambda: self.is_decided(release_id))

    async def is_decided(self, release_id: str) -> bool:
        async with self._db.read() as tx:
            release = await releases.get(tx, release_id)
        return release is None or release.status is not ReleaseStatus.PENDING


async def _grow(path: Path, is_whole: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    offset = 0
    ended = False
    while not ended:
        # First ask, then read: what was written before the end is read after it was seen.
        ended = await is_whole()
        for _ in range(1 if ended else ASK):
            while data := _read(path, offset):
                offset += len(data)
                yield data
            if not ended:
                await asyncio.sleep(POLL)


def _read(path: Path, offset: int) -> bytes:
    """A block of a local file in the page cache: not worth a thread."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(BLOCK)
    except FileNotFoundError:
        return b""  # its loop has not begun, or the file was cleared away: no more to tell

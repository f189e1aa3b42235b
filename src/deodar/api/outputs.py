"""Follows the output of a build while the compiler writes it; knows the file, and when it is whole."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from deodar.model.build import BuildStatus
from deodar.store import builds
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
        offset = 0
        ended = False
        while not ended:
            # First ask, then read: what was written before the end is read after it was seen.
            ended = await self.has_ended(app_id, build_id)
            for _ in range(1 if ended else ASK):
                while data := _read(path, offset):
                    offset += len(data)
                    yield data
                if not ended:
                    await asyncio.sleep(POLL)

    async def has_ended(self, app_id: str, build_id: str) -> bool:
        async with self._db.read() as tx:
            build = await builds.find(tx, app_id, build_id)
        return build is None or build.status is not BuildStatus.PENDING


def _read(path: Path, offset: int) -> bytes:
    """A block of a local file in the page cache: not worth a thread."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(BLOCK)
    except FileNotFoundError:
        return b""  # the compiler has not begun, or the file was cleared away: no more to tell

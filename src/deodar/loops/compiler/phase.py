"""Shows in a build's output how the release phase of its release goes; running it is the releasing
loop's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from deodar.loops.compiler.output import Output
from deodar.model.release import Release, ReleaseStatus
from deodar.store import releases
from deodar.store.db import Database

PEEK = 0.05  #: seconds between looks
BLOCK = 64 * 1024

DECLARED = (
    "Release command declared: this new release will not be available until the command succeeds."
)


async def show(db: Database, release: Release, output: Path, out: Output) -> bool:
    """What the release phase prints, until the release is decided; answers whether it stands.

    A release without one is shown the wait for those before it.
    """
    if release.command is not None:
        out.line("Running release command...")
        out.line()
    async for data in _follow(db, release, output):
        out.raw(data)
    async with db.read() as tx:
        known = await releases.get(tx, release.id)
    stands = known is not None and known.status is ReleaseStatus.SUCCEEDED
    out.line(f"Waiting for release... {'done' if stands else 'failed'}.")
    return stands


async def _follow(db: Database, release: Release, output: Path) -> AsyncIterator[bytes]:
    offset = 0
    decided = False
    while not decided:
        # First ask, then read: what was written before the end is read after it was seen.
        decided = await _is_decided(db, release)
        while data := await asyncio.to_thread(_read, output, offset):
            offset += len(data)
            yield data
        if not decided:
            await asyncio.sleep(PEEK)


async def _is_decided(db: Database, release: Release) -> bool:
    async with db.read() as tx:
        known = await releases.get(tx, release.id)
    return known is None or known.status is not ReleaseStatus.PENDING


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(BLOCK)
    except FileNotFoundError:
        return b""  # it has not begun, or it was never to run

"""Sources that clients upload before they ask for a build: one file each, for an hour at most."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

from deodar.model import errors

LIMIT = 1024 * 1024 * 1024  #: bytes (devcenter: limits, the size of a checkout)


class Uploads:
    """The uploads below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, upload_id: str) -> Path:
        """Raises NotFound for what was never uploaded, or too long ago."""
        path = self._folder / upload_id
        if not path.is_file():
            raise errors.NotFound("source", "Couldn't find that source. Upload it again.")
        return path

    async def receive(self, upload_id: str, chunks: AsyncIterator[bytes]) -> None:
        """Keeps what comes, whole or not at all. Raises TooLarge."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._folder / f"{upload_id}.part"
        size = 0
        try:
            with part.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > LIMIT:
                        raise errors.TooLarge(f"The source is over {LIMIT} bytes.")
                    file.write(chunk)
            part.rename(self._folder / upload_id)
        finally:
            part.unlink(missing_ok=True)

    async def check(self, upload_id: str, checksum: str) -> None:
        """Raises InvalidParams unless the upload has that checksum, `SHA256:<hex>`."""
        path = self.find(upload_id)
        actual = f"SHA256:{await asyncio.to_thread(_sha256, path)}"
        if actual.lower() != checksum.lower():
            raise errors.InvalidParams(
                f"The source's checksum is {actual}, not {checksum}. Upload it again."
            )

    async def hand_over(self, upload_id: str, target: Path) -> None:
        """A copy at `target`; the upload itself stays, so that a client may ask twice."""
        path = self.find(upload_id)
        target.parent.mkdir(parents=True)
        await asyncio.to_thread(shutil.copyfile, path, target)

    def sweep(self, *, now: datetime, older_than: timedelta) -> None:
        """Deletes uploads that nobody can ask for any more."""
        if not self._folder.is_dir():
            return
        limit = (now - older_than).timestamp()
        for path in self._folder.iterdir():
            if path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

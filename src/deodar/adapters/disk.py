"""The disk below the data directory: how much of it is left, and what its being full looks like.

What may go then, housekeeping knows; how full is too full, the model.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deodar.model import disk, errors
from deodar.model.disk import Space
from deodar.settings import Settings

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Disk:
    """The file systems that `folders` lie on; each may be a disk of its own."""

    def __init__(self, folders: Sequence[Path], *, floor: int | None) -> None:
        self._folders = folders
        self._floor = floor

    @classmethod
    def of(cls, settings: Settings) -> "Disk":
        paths = settings.paths
        folders = (paths.data, paths.slugs, paths.builds, paths.caches, paths.repos, paths.run)
        return cls(folders, floor=settings.disk_floor)

    def space(self) -> Space:
        """That of the file system which lacks most. A system call each: microseconds."""
        return min(map(self._space, self._folders), key=lambda space: space.free - space.floor)

    def check(self) -> None:
        """Raises DiskFull when nothing new should be put on it."""
        space = self.space()
        if space.is_low:
            raise errors.DiskFull(disk.full(space))

    @contextmanager
    def filling(self) -> Iterator[None]:
        """What is done here may fill the disk, and then fails with DiskFull, whoever noticed first."""
        try:
            yield
        except (OSError, errors.Unavailable, ExceptionGroup) as error:
            if not any(map(_tells_of_a_full_disk, _leaves(error))):
                raise
            raise self._full() from error

    def _full(self) -> errors.DiskFull:
        return errors.DiskFull(disk.full(self.space()))

    def _space(self, folder: Path) -> Space:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        usage = shutil.disk_usage(there)
        floor = disk.floor_of(usage.total, wished=self._floor)
        return Space(free=usage.free, total=usage.total, floor=floor)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _tells_of_a_full_disk(error: BaseException) -> bool:
    """The system's number says it, or a command's last words."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return isinstance(error, errors.Unavailable) and any(
        os.strerror(number) in str(error) for number in FULL
    )

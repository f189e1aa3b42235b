"""What lies below a data directory: how much of each kind, and what is not the platform's."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from deodar.model.disk import Space, floor_of
from deodar.settings import Paths, Settings

PREFIXES = ("daemon.", "client.", "config.key.")  #: what the daemon keeps for and of itself


def strangers(paths: Paths) -> list[str]:
    """Names in the data directory that the platform does not make: not to be deleted with it."""
    ours = {
        getattr(paths, name).name
        for name, each in vars(Paths).items()
        if isinstance(each, property)
    }
    return sorted(
        entry.name
        for entry in paths.data.iterdir()
        if entry.name not in ours and not entry.name.startswith((*PREFIXES, paths.database.name))
    )


def usage(paths: Paths) -> Mapping[str, int]:
    """Bytes on disk by kind; what is mounted below counts where it really lies."""
    return {
        "stacks": taken(paths.stacks),
        "slugs": taken(paths.slugs),
        "caches": taken(paths.caches),
        "repositories": taken(paths.repos),
        "builds": taken(paths.builds),
        "logs": taken(paths.logs),
        "dynos": taken(paths.run),
        "database": sum(
            file.stat().st_blocks * 512 for file in paths.data.glob(f"{paths.database.name}*")
        ),
    }


#: kinds that a platform empties by itself when the disk runs short: they can be made again
COLLECTABLE = ("caches",)


def space(settings: Settings) -> Space:
    """What is left of the disk on which the data directory lies, or will lie."""
    data = settings.paths.data
    there = next(folder for folder in (data, *data.parents) if folder.exists())
    usage = shutil.disk_usage(there)
    floor = floor_of(usage.total, wished=settings.disk_floor)
    return Space(free=usage.free, total=usage.total, floor=floor)


def taken(folder: Path) -> int:
    if not folder.exists():
        return 0
    folder = folder.resolve()
    return _walk(str(folder), folder.stat().st_dev, set())


def _walk(folder: str, device: int, seen: set[int]) -> int:
    total = 0
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0  # removed meanwhile: builds and dynos come and go
    for entry in entries:
        try:
            facts = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if facts.st_dev != device:
            continue
        if facts.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
            if facts.st_ino in seen:
                continue
            seen.add(facts.st_ino)
        total += facts.st_blocks * 512
        if entry.is_dir(follow_symlinks=False):
            total += _walk(entry.path, device, seen)
    return total

"""Paths as somebody inside a root file system sees them: no link of it leads out. Nobody else may be
writing there meanwhile."""

import os
import shutil
from pathlib import Path

from deodar.model import errors

LINKS = 40  #: as many as the kernel follows


def follow(root: Path, name: str) -> Path:
    """Where `name` is, below `root`, all links followed; it need not exist."""
    return _walk(root, name.split("/"), make=False)


def parent(root: Path, name: str, *, make: bool) -> Path:
    """`name` below `root`, the links to it followed and itself not; with `make`, its folder exists."""
    parts = _parts(name)
    if not parts:
        return root
    return _walk(root, parts[:-1], make=make) / parts[-1]


def _parts(name: str) -> list[str]:
    """Without `.` and with `..` taken back as far as the root."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    return parts


def _walk(root: Path, parts: list[str], *, make: bool) -> Path:
    here, left, links = root, list(reversed(parts)), 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = here if here == root else here.parent
            continue
        there = here / part
        if there.is_symlink():
            links += 1
            if links > LINKS:
                raise errors.InvalidParams(f"The image has a link that leads to itself: {part}")
            target = os.readlink(there)
            here = root if target.startswith("/") else here
            left.extend(reversed(target.split("/")))
            continue
        if make:
            if not there.exists():
                there.mkdir(mode=0o755)
            elif not there.is_dir():
                raise errors.InvalidParams(f"The image has a file for a folder: {part}")
        here = there
    return here


def clear(place: Path) -> None:
    """Nothing is there any more; a link goes, and not what it leads to."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)

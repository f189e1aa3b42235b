"""Lays the layers of an image over each other in a folder, so that nothing of them gets out of it.

A layer's names and links are an image's word, which may be hostile: every name is looked up as from
inside the folder. Left out is what a dyno could not use: devices and the like, the right to become
another user, extended attributes.
"""

import os
import shutil
import tarfile
from pathlib import Path

from deodar.adapters.stacks import within
from deodar.model import errors

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"  #: nothing that lower layers have in this folder shows


def lay(root: Path, layer: Path) -> None:
    """Lays one layer, an uncompressed tar, over what is in `root`; lower layers come first.

    Raises InvalidParams for what is no layer. OSError passes through.
    """
    try:
        with tarfile.open(layer, "r:") as tar:
            members = tar.getmembers()
            # First, wherever they stand: they hide what lower layers have, and nothing of this one.
            for member in members:
                _hide(root, member.name)
            for member in members:
                if not _base(member.name).startswith(WHITEOUT):
                    _extract(root, tar, member)
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise errors.InvalidParams(f"Cannot read it as a tar archive: {error}") from error


def _base(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _hide(root: Path, name: str) -> None:
    base = _base(name)
    if not base.startswith(WHITEOUT):
        return
    folder = within.follow(root, name.rstrip("/").rpartition("/")[0])
    if base == OPAQUE:
        for entry in list(folder.iterdir()) if folder.is_dir() else ():
            within.clear(entry)
        return
    hidden = base.removeprefix(WHITEOUT)
    if hidden in ("", ".", ".."):
        raise errors.InvalidParams(f"The image hides a file that cannot be: {name}")
    within.clear(folder / hidden)


def _extract(root: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    place = within.parent(root, member.name, make=True)
    if member.isdir():
        if place.is_symlink() or not place.is_dir():
            within.clear(place)
            place.mkdir()
    elif place == root:
        raise errors.InvalidParams("The image has a file for its root folder.")
    elif member.isreg():
        within.clear(place)
        content = tar.extractfile(member)
        assert content is not None, "a regular file has content"
        with content, place.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
    elif member.issym():
        within.clear(place)
        place.symlink_to(member.linkname)
    elif member.islnk():
        _link(root, place, member)
        return
    else:
        return
    os.chown(place, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        place.chmod(member.mode & 0o1777)
    if member.isreg():
        # Python takes a compiled file for current by its source's time.
        os.utime(place, (member.mtime, member.mtime))


def _link(root: Path, place: Path, member: tarfile.TarInfo) -> None:
    target = within.parent(root, member.linkname, make=False)
    if not target.is_symlink() and not target.is_file():
        raise errors.InvalidParams(
            f"The image has a link to what is no file of it: {member.name} to {member.linkname}"
        )
    # A file may be linked to itself, by a name that leads elsewhere in a lower layer.
    if target != place:
        within.clear(place)
        os.link(target, place, follow_symlinks=False)

"""Slugs in the form that Heroku gives and takes them, a gzipped tar with the app below `./app`; ours, and
what a slug may hold, are `slugs`'.
"""

import asyncio
import tarfile
from pathlib import Path

from deodar.adapters import slugs
from deodar.adapters.slugs import Archive
from deodar.kit import subprocess
from deodar.model import errors

APP = "app"
LEVEL = 6  #: of gzip, its own default


async def take_in(tarball: Path, store: Path, *, scratch: Path) -> Archive:
    """The slug's archive in `store`; `scratch` is an empty folder, whose owner clears it away.

    Raises BuildFailed for what is no such tar, or has what a slug cannot hold.
    """
    await slugs.unpack_source(tarball, scratch)
    tree = scratch / APP
    if tree.is_symlink() or not tree.is_dir():
        raise errors.BuildFailed(
            "The slug has no folder ./app. Make it with: tar czf slug.tgz ./app"
        )
    await asyncio.to_thread(slugs.inspect, tree)
    return await slugs.pack(tree, store)


async def give_out(archive: Path, *, scratch: Path) -> Path:
    """A tarball of the archive, in `scratch`. Raises Unavailable if the archive cannot be read."""
    plain, tarball = scratch / "slug.tar", scratch / "slug.tgz"
    try:
        await subprocess.run("zstd", "-dqf", str(archive), "-o", str(plain), timeout=600)
    except subprocess.CommandFailed as error:
        raise errors.Unavailable(f"Cannot read the slug's archive: {error.stderr}") from error
    await asyncio.to_thread(_move_below_app, plain, tarball)
    plain.unlink()
    return tarball


def _move_below_app(plain: Path, tarball: Path) -> None:
    with (
        tarfile.open(plain) as source,
        tarfile.open(tarball, "w:gz", format=tarfile.GNU_FORMAT, compresslevel=LEVEL) as target,
    ):
        for member in source:
            content = source.extractfile(member) if member.isreg() else None
            member.name = _below_app(member.name)
            if member.islnk():
                member.linkname = _below_app(member.linkname)
            target.addfile(member, content)


def _below_app(name: str) -> str:
    inner = name.removeprefix(".").removeprefix("/")
    return f"./{APP}/{inner}" if inner else f"./{APP}"

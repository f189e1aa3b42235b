"""Tarballs as they come from elsewhere and go there: slugs in Heroku's form, a gzipped tar with the app
below `./app`, and sources as GitHub and the like pack them. Our own form of a slug, and what a slug or
a source may hold, are `slugs`'.
"""

import asyncio
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deodar.adapters import slugs
from deodar.adapters.slugs import Archive
from deodar.kit import subprocess
from deodar.model import errors

APP = "app"
LEVEL = 6  #: of gzip, its own default
GITS = "pax_global_header"  #: what `git archive` writes in front, and some tools take for a file


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


async def take_source(tarball: Path, target: Path) -> None:
    """The source at `target` with its files at its top, as a build wants them.

    GitHub and the like pack everything below one folder: that one is taken away. Raises BuildFailed for
    what is no tar or too large.
    """
    await asyncio.to_thread(_take_source, tarball, target)


async def text_of(source: Path, member: str, *, limit: int) -> str | None:
    """The text of a source's file; None if it has none of that name. Raises BuildFailed for one that is
    over `limit` bytes or no UTF-8."""
    return await asyncio.to_thread(_text_of, source, member, limit)


def _take_source(tarball: Path, target: Path) -> None:
    half = target.with_name(f"{target.name}.part")
    with _told_of_breakage():
        folder = _common_folder(_names(tarball))
        if folder is None:
            shutil.copyfile(tarball, half)
        else:
            _lift(tarball, half, folder)
    half.rename(target)


@contextmanager
def _told_of_breakage() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise errors.BuildFailed(
            f"The source is not a tar archive, or it is broken: {error}"
        ) from error


def _names(tarball: Path) -> list[tuple[str, bool]]:
    """Every member's path in parts joined by `/`, and whether it is a folder."""
    names = []
    total = count = 0
    with tarfile.open(tarball) as source:
        for each in source:
            total, count = total + each.size, count + 1
            slugs.check_bounds(total, count)
            if each.name != GITS:
                names.append((_plain(each.name), each.isdir()))
    return names


def _common_folder(names: list[tuple[str, bool]]) -> str | None:
    """The one folder that everything lies in, if there is one."""
    tops = {name.partition("/")[0] for name, _ in names if name}
    if len(tops) != 1:
        return None
    [top] = tops
    return top if all(is_folder for name, is_folder in names if name == top) else None


def _lift(tarball: Path, target: Path, folder: str) -> None:
    with (
        tarfile.open(tarball) as source,
        tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as lifted,
    ):
        for member in source:
            name = _plain(member.name).removeprefix(folder).removeprefix("/")
            if member.name == GITS or not name:
                continue
            content = source.extractfile(member) if member.isreg() else None
            member.name = name
            if member.islnk():
                member.linkname = _plain(member.linkname).removeprefix(f"{folder}/")
            lifted.addfile(member, content)


def _text_of(tarball: Path, member: str, limit: int) -> str | None:
    with _told_of_breakage(), tarfile.open(tarball) as source:
        for each in source:
            if _plain(each.name) != member or not each.isreg():
                continue
            if each.size > limit:
                raise errors.BuildFailed(f"{member} is over {limit} bytes.")
            content = source.extractfile(each)
            assert content is not None
            try:
                return content.read().decode()
            except UnicodeDecodeError:
                raise errors.BuildFailed(f"{member} is not UTF-8.") from None
    return None


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))

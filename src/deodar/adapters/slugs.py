"""Packs a compiled tree into a slug archive, and unpacks sources within bounds; where slugs run from
is an engine's matter, and what they are the model's.

An archive is `<slugs>/<hex of its SHA-256>.tar.zst`, so the same content is one file. Nothing here
trusts a tree: it was written by an app's own code.
"""

import asyncio
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pathspec

from deodar.kit import subprocess
from deodar.model import errors

SUFFIX = ".tar.zst"
SOURCE_BYTES = 1000**3  #: of an unpacked source
SOURCE_FILES = 200_000


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed slug."""

    checksum: str  #: `SHA256:<hex>`
    size: int  #: bytes
    path: Path


async def pack(tree: Path, slugs: Path) -> Archive:
    """Packs `tree`; the same files with the same times give the same archive.

    The tree was inspected before: see `inspect`. Modification times are kept, since Python's compiled
    modules carry those of their sources. Raises Unavailable if tar or zstd fail.
    """
    slugs.mkdir(parents=True, exist_ok=True)
    half = slugs / f".{uuid.uuid4()}.partial"
    try:
        await subprocess.run(*tar(tree, half), timeout=600)
        hexadecimal, size = await asyncio.to_thread(_settle, half)
        path = slugs / f"{hexadecimal}{SUFFIX}"
        half.rename(path)
    except subprocess.CommandFailed as error:
        raise errors.Unavailable(f"Cannot pack the slug: {error.stderr}") from error
    finally:
        half.unlink(missing_ok=True)
    return Archive(f"SHA256:{hexadecimal}", size, path)


def archives(slugs: Path) -> dict[str, Path]:
    """Every archive by its checksum."""
    return {
        f"SHA256:{path.name.removesuffix(SUFFIX)}": path for path in slugs.glob(f"[!.]*{SUFFIX}")
    }


def half_made(slugs: Path) -> list[Path]:
    """Archives that are being made, or whose making was cut short."""
    return list(slugs.glob(".*.partial"))


def tar(tree: Path, into: Path) -> tuple[str, ...]:
    """The command that packs: sorted, owned by root, without what differs from one run to the next.
    Dynos that run go first."""
    return (
        *subprocess.AT_LEISURE,
        *(
            "tar",
            "--create",
            "--format=gnu",
            "--sort=name",
            "--numeric-owner",
            "--owner=0",
            "--group=0",
        ),
        *("--mode=u-s,g-s", "--use-compress-program=zstd -3 -T0 -q", f"--file={into}"),
        *("--directory", str(tree), "."),
    )


def inspect(tree: Path) -> None:
    """Raises BuildFailed, with the path, for what a slug cannot hold: devices, pipes, sockets, and
    links that lead out of the app. Takes set-uid and set-gid bits away."""
    for entry in _walk(tree):
        where = os.path.relpath(entry.path, tree)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            target = os.readlink(entry.path)
            if not _stays_inside(where, target):
                raise errors.BuildFailed(
                    f"{where} is a link to {target}, which is not a part of the app. "
                    "Links may lead to relative paths inside the app, to /app, and to the stack's /usr."
                )
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise errors.BuildFailed(
                f"{where} is a device, a pipe or a socket, which a slug cannot hold. Remove it."
            )
        elif mode & (stat.S_ISUID | stat.S_ISGID):
            Path(entry.path).chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def _stays_inside(where: str, target: str) -> bool:
    # A virtual environment links to the stack's interpreter, and the stack is the same for every app.
    if target.startswith("/"):
        inside = os.path.normpath(target).split("/")[1]
        return inside in ("app", "usr", "bin", "lib", "etc", "dev", "tmp", "proc")
    return not os.path.normpath(os.path.join(os.path.dirname(where), target)).startswith("..")


def size_of(tree: Path) -> int:
    """Bytes of all files below `tree`."""
    return sum(
        entry.stat(follow_symlinks=False).st_size
        for entry in _walk(tree)
        if entry.is_file(follow_symlinks=False)
    )


def apply_slugignore(tree: Path, text: str) -> None:
    """Removes what `.slugignore` names, and git's own files in any case.

    Patterns are those of .gitignore, but `!` has no meaning: such lines are passed over, as Heroku does.
    """
    patterns = [line for line in text.splitlines() if not line.lstrip().startswith("!")]
    ignored = pathspec.GitIgnoreSpec.from_lines([*patterns, "/.git"])
    for entry in list(_walk(tree)):
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if not ignored.match_file(os.path.relpath(path, tree) + ("/" if is_folder else "")):
            continue
        if is_folder:
            if path.exists():
                shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


async def unpack_source(archive: Path, into: Path) -> None:
    """Unpacks a source's tar, plain or compressed, into an empty folder.

    Raises BuildFailed for one that is broken, too large, or has files that would land elsewhere.
    """
    await asyncio.to_thread(_unpack, archive, into)


def _unpack(archive: Path, into: Path) -> None:
    # tarfile's own extraction is not used: some of its versions can be led out of the folder by links.
    # Links are made last here, so nothing is ever written through one.
    links: list[tuple[Path, str]] = []
    total = count = 0
    try:
        with tarfile.open(archive) as source:
            for member in source:
                total, count = total + member.size, count + 1
                check_bounds(total, count)
                path = into / _inner(member.name)
                if member.issym():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    links.append((path, member.linkname))
                elif member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                elif member.islnk():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(into / _inner(member.linkname), path)
                elif member.isfile():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(source, member, path)
                else:
                    raise errors.BuildFailed(
                        f"The source has a device or a pipe, {member.name}. Remove it."
                    )
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise errors.BuildFailed(
            f"The source is not a tar archive, or it is broken: {error}"
        ) from error
    except (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise errors.BuildFailed(
            f"The source has the same path as a file and as a folder: {error.filename}"
        ) from error
    for path, target in links:
        if not os.path.lexists(path):
            path.symlink_to(target)


def check_bounds(total: int, count: int) -> None:
    """Raises BuildFailed for a source of more bytes or files than one may have."""
    if total > SOURCE_BYTES:
        size = f"is larger than {SOURCE_BYTES // 1000**2} MB unpacked"
    elif count > SOURCE_FILES:
        size = f"has more than {SOURCE_FILES} files"
    else:
        return
    raise errors.BuildFailed(
        f"The source {size}. Remove what the app does not need from the repository."
    )


def _inner(name: str) -> str:
    """A member's path below the folder it is unpacked to."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise errors.BuildFailed(f"The source has a file that lies outside of it: {name}")
    return "/".join(parts)


def _write(source: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = source.extractfile(member)
    assert content is not None
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    # Of its rights those that git knows.
    path.chmod(0o755 if member.mode & 0o100 else 0o644)
    changed = min(max(member.mtime, 0), 2**32 - 1)
    os.utime(path, (changed, changed))


def _settle(archive: Path) -> tuple[str, int]:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return digest, os.fstat(file.fileno()).st_size


def _walk(tree: Path) -> Iterator[os.DirEntry[str]]:
    """Every entry below `tree`, folders before what is in them; links are not followed. A folder that
    was removed on the way is passed over."""
    waiting = [str(tree)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue

"""Slugs in the form in which this machine runs them: packed, checked, mounted once; which are needed others know.

An image is named `<hex>-<uid>`: its files belong to the app's user. It is mounted read-only, and all
dynos of the slug share that mount and its page cache. Next to an image lies its own SHA-256, with
which it is compared the first time that it is mounted after the machine started (R17).
"""

import asyncio
import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deodar.engines.local import commands, mounts
from deodar.kit import subprocess
from deodar.model import errors


@dataclass(frozen=True, slots=True)
class Form:
    """A way to hold a tree of files in one image."""

    suffix: str
    kind: str | None  #: file system; None for a plain folder, which needs no mount
    by_file: bool  #: the kernel may mount it without a loop device


EROFS = Form(".erofs", "erofs", by_file=True)
SQUASHFS = Form(".sqfs", "squashfs", by_file=False)
FOLDER = Form(".tree", None, by_file=False)
FORMS = (EROFS, SQUASHFS, FOLDER)


def choose(*, filesystems: str, tools: frozenset[str]) -> Form:
    """The best form that this machine can make and mount; `filesystems` as in /proc/filesystems.

    erofs first: it mounts in a millisecond, and squashfs takes ten times its page cache.
    """
    known = {line.split()[-1] for line in filesystems.splitlines() if line.strip()}
    if "erofs" in known and "mkfs.erofs" in tools:
        return EROFS
    if "squashfs" in known and "mksquashfs" in tools:
        return SQUASHFS
    return FOLDER


def checksum_error(expected: str, actual: str) -> errors.EngineFailed:
    """R17 in Heroku's words, their slip included (devcenter: error-codes)."""
    return errors.EngineFailed(
        "Error R17 (Checksum error) -> Checksum does match expected. "
        f"Expected: SHA256:{expected} Actual: SHA256:{actual}"
    )


PACK_TIMEOUT = 600.0  #: seconds for the largest slug on a busy machine
_DRAFT = ".draft-"
_MEMORY = Path("/dev/shm")
_UNPACKED = (
    12  #: a slug's files are seldom more than so many times its archive, pages in use included
)
_IMAGE = re.compile(r"([0-9a-f]{64})-\d+\.")


def fits_in_memory(size: int, *, meminfo: str) -> bool:
    """Whether an archive of so many bytes may be unpacked in memory: half of what is free does for it."""
    free = next(
        (int(line.split()[1]) * 1024 for line in meminfo.splitlines() if "MemAvailable" in line), 0
    )
    return size * _UNPACKED < free / 2


class Images:
    """The images of one platform. CommandFailed and OSError pass through."""

    def __init__(self, *, slugs: Path, points: Path, namespace: mounts.Namespace) -> None:
        self._slugs = slugs
        self._points = points
        # in memory, named after the platform: two on one machine share nothing
        self._scratch = f"deodar-{hashlib.sha256(bytes(slugs)).hexdigest()[:6]}{_DRAFT}"
        self._namespace = namespace
        self._form = FOLDER
        self._mounted: set[str] = set()  #: names, checked and ready
        self._locks: dict[str, asyncio.Lock] = {}

    async def prepare(self) -> None:
        self._slugs.mkdir(parents=True, exist_ok=True)
        self._points.mkdir(parents=True, exist_ok=True)
        for draft in (*self._slugs.glob(f"{_DRAFT}*"), *_MEMORY.glob(f"{self._scratch}*")):
            await asyncio.to_thread(_delete, draft)
        self._form = choose(
            filesystems=Path("/proc/filesystems").read_text(),
            tools=frozenset(t for t in ("mkfs.erofs", "mksquashfs") if shutil.which(t)),
        )
        points = await self._namespace.points()
        self._mounted = {Path(point).name for point in points if Path(point).parent == self._points}

    async def pack(self, tree: Path, *, uid: int) -> Path:
        """An image of `tree` in a temporary file. Dynos that run go first."""
        return await self._pack(tree, uid=uid, how=subprocess.AT_LEISURE)

    async def _pack(self, tree: Path, *, uid: int, how: commands.Argv = ()) -> Path:
        image = self._slugs / f"{_DRAFT}{secrets.token_hex(8)}{self._form.suffix}"
        try:
            for argv in _packing(self._form, tree, image, uid=uid):
                await subprocess.run(*how, *argv, timeout=PACK_TIMEOUT)
        except BaseException:
            _delete(image)
            raise
        return image

    async def keep(self, packed: Path, *, checksum: str, uid: int) -> None:
        """`packed` becomes the image of that slug, and is gone from where it was."""
        await asyncio.to_thread(self._keep, packed, f"{_hex(checksum)}-{uid}")

    async def mount(self, checksum: str, *, uid: int) -> Path:
        """Where that slug's files are. Makes the image from the archive if need be."""
        name = f"{_hex(checksum)}-{uid}"
        async with self._locks.setdefault(name, asyncio.Lock()):
            image = self._image(name)
            if image is None:
                await self._from_archive(_hex(checksum), uid=uid)
                image = self._image(name)
                assert image is not None
            return await self._mount(name, image)

    async def forget(self, checksum: str) -> None:
        names = {
            path.name.split(".")[0]
            for folder in (self._slugs, self._points)
            for path in folder.glob(f"{_hex(checksum)}-*")
        }
        for name in names:
            async with self._locks.setdefault(name, asyncio.Lock()):
                await self._unmount(name)
                for path in self._slugs.glob(f"{name}.*"):
                    await asyncio.to_thread(_delete, path)
            del self._locks[name]

    def packed(self) -> frozenset[str]:
        """The checksums of the slugs that there are images of."""
        return frozenset(
            f"SHA256:{match[1]}"
            for path in self._slugs.iterdir()
            if (match := _IMAGE.match(path.name))
        )

    async def destroy(self) -> None:
        """Unmount all; images stay."""
        for path in list(self._points.iterdir()):
            await self._unmount(path.name)

    async def _from_archive(self, digest: str, *, uid: int) -> None:
        archive = self._slugs / f"{digest}.tar.zst"
        if not archive.exists():
            raise errors.EngineFailed(
                f"The slug SHA256:{digest} is not on this machine. Deploy the app again."
            )
        actual = await asyncio.to_thread(_sha256, archive)
        if actual != digest:
            raise checksum_error(digest, actual)
        packed = None
        free = Path("/proc/meminfo").read_text()
        if _MEMORY.is_dir() and fits_in_memory(archive.stat().st_size, meminfo=free):
            # Ten thousand files take seconds to make on a disk, and a quarter of one in memory.
            try:
                packed = await self._repack(archive, _MEMORY, self._scratch, uid=uid)
            except subprocess.CommandFailed:
                packed = None  # it unpacked to more than there is room for
        if packed is None:
            packed = await self._repack(archive, self._slugs, _DRAFT, uid=uid)
        await self.keep(packed, checksum=digest, uid=uid)

    async def _repack(self, archive: Path, where: Path, name: str, *, uid: int) -> Path:
        """The archive's files as an image, by way of a folder in `where` that is named so."""
        tree = Path(tempfile.mkdtemp(prefix=name, dir=where))
        try:
            tree.chmod(0o755)
            await subprocess.run(*commands.unpack(archive, tree), timeout=PACK_TIMEOUT)
            return await self._pack(tree, uid=uid)  # a dyno waits for it
        finally:
            await asyncio.to_thread(shutil.rmtree, tree)

    async def _mount(self, name: str, image: Path) -> Path:
        form = next(form for form in FORMS if form.suffix == image.suffix)
        if form.kind is None:
            return image
        point = self._points / name
        if name in self._mounted:
            return point
        expected = image.with_name(f"{image.name}.sha256").read_text().strip()
        actual = await asyncio.to_thread(_sha256, image)
        if actual != expected:
            raise checksum_error(expected, actual)
        point.mkdir(exist_ok=True)
        if not (form.by_file and await self._mount_by_file(image, point, form.kind)):
            loop = commands.mount_loop(image, point, kind=form.kind)
            await subprocess.run(*self._namespace.inside(*loop))
        self._mounted.add(name)
        return point

    async def _mount_by_file(self, image: Path, point: Path, kind: str) -> bool:
        """False where the kernel wants a block device, as all do before 6.12."""
        flags = mounts.READ_ONLY | mounts.NO_SUID | mounts.NO_DEV
        try:
            await self._namespace.mount(image, point, kind, flags)
        except OSError as error:
            if error.errno == errno.ENOTBLK:
                return False
            raise
        return True

    async def _unmount(self, name: str) -> None:
        point = self._points / name
        if name in self._mounted:
            await self._namespace.unmount(point)
            self._mounted.discard(name)
        if point.exists():
            point.rmdir()

    def _image(self, name: str) -> Path | None:
        paths = (self._slugs / f"{name}{form.suffix}" for form in FORMS)
        return next((path for path in paths if path.exists()), None)

    def _keep(self, packed: Path, name: str) -> None:
        """The check goes first: an image that is there has one. Synced: a torn image would be R17."""
        image = self._slugs / f"{name}{packed.suffix}"
        if packed.is_file():
            check = packed.with_suffix(".sha256")
            check.write_text(_sha256(packed))
            for file in (packed, check):
                _sync(file)
            check.rename(image.with_name(f"{image.name}.sha256"))
            packed.rename(image)
        elif not image.exists():
            packed.rename(image)
        else:
            _delete(packed)


def _packing(form: Form, tree: Path, image: Path, *, uid: int) -> Iterable[commands.Argv]:
    match form.kind:
        case "erofs":
            return [commands.mkfs_erofs(tree, image, uid=uid)]
        case "squashfs":
            return [commands.mksquashfs(tree, image, uid=uid)]
        case _:
            return commands.copy_tree(tree, image, uid=uid)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _hex(checksum: str) -> str:
    return checksum.removeprefix("SHA256:").lower()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

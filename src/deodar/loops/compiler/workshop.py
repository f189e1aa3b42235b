"""Lays out the folders of one build on the host, and clears them away; runs nothing in them.

A source comes as `source.tar`, as an `upload` that is some tarball, or as the address of one.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deodar.adapters import download, slugs, tarballs
from deodar.settings import Paths


class Address(msgspec.Struct, frozen=True):
    """Where a source is, as the API's door writes it into the workshop."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """The folders of one build."""

    folder: Path
    cache: Path

    @property
    def source(self) -> Path:
        return self.folder / "source.tar"

    @property
    def upload(self) -> Path:
        return self.folder / "upload"

    @property
    def address(self) -> Path:
        return self.folder / "address.json"

    @property
    def tree(self) -> Path:
        return self.folder / "app"

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def result(self) -> Path:
        return self.folder / "result"


def of(paths: Paths, app_id: str, build_id: str) -> Workshop:
    return Workshop(folder=paths.builds / build_id, cache=paths.caches / app_id)


async def fetch(shop: Workshop) -> None:
    """The source lies ready afterwards, wherever it was. Raises BuildFailed."""
    if shop.source.exists():
        return
    if shop.address.exists():
        found = msgspec.json.decode(shop.address.read_bytes(), type=Address)
        await download.fetch(found.url, shop.upload, checksum=found.checksum)
    await tarballs.take_source(shop.upload, shop.source)


async def lay_out(shop: Workshop, *, uid: int, config: Mapping[str, str]) -> None:
    """Unpacks the source and makes the other folders, all of the build's user.

    Config vars become a file each (devcenter: buildpack-api, ENV_DIR). Raises BuildFailed for a
    source that cannot be unpacked safely.
    """
    for folder in (shop.tree, shop.result, shop.env):
        await _remove(folder)
        folder.mkdir()
    shop.cache.mkdir(parents=True, exist_ok=True)
    await slugs.unpack_source(shop.source, shop.tree)
    ignore = shop.tree / ".slugignore"
    if ignore.is_file() and not ignore.is_symlink():
        await asyncio.to_thread(
            slugs.apply_slugignore, shop.tree, ignore.read_text(errors="replace")
        )
    for key, value in config.items():
        path = shop.env / key
        path.write_text(value)
        path.chmod(0o400)
    await asyncio.to_thread(_give, (shop.tree, shop.result, shop.env), uid)
    os.chown(shop.cache, uid, uid)


def _give(folders: tuple[Path, ...], uid: int) -> None:
    for top in folders:
        os.chown(top, uid, uid)
        for folder, folders_in, files in os.walk(top):
            for name in (*folders_in, *files):
                os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)


async def clear(shop: Workshop) -> None:
    """Removes the build's folders; its output file and the app's cache stay."""
    await _remove(shop.folder)


async def discard(packing: asyncio.Task[Path]) -> None:
    """A packed slug that nobody will keep goes, made or half made. May be repeated."""
    packing.cancel()
    await asyncio.wait([packing])
    if packing.cancelled() or packing.exception() is not None:
        return  # who made it has cleared it away
    await _remove(packing.result())


async def _remove(path: Path) -> None:
    if path.is_dir():
        await asyncio.to_thread(shutil.rmtree, path)
    else:
        path.unlink(missing_ok=True)

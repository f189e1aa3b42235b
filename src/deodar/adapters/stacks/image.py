"""Reads an OCI image from a layout folder or an archive, as `docker save` and `skopeo copy` write them:
checks every byte against its digest, picks what is for this machine. What becomes of it is others'.
"""

import asyncio
import gzip
import hashlib
import platform
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from deodar.adapters.stacks import layers, within
from deodar.kit import subprocess
from deodar.model import errors

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
DEPTH = 3  #: an index of indexes of manifests is as deep as tools write them
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
TIMEOUT = 15 * 60.0  #: seconds to decompress one layer

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    platform: Platform | None = None
    media_type: str = ""
    artifact_type: str | None = None


class Content(msgspec.Struct, frozen=True):
    """An index or a manifest: which of them shows in what it has."""

    manifests: tuple[Descriptor, ...] | None = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None


class RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = "linux"
    rootfs: RootFs = RootFs()


class Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """An image in the `manifest.json` of `docker save`."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    file: Path
    stored: str | None  #: digest of the file; None where only that of its content is known
    plain: str | None  #: digest of the tar in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image for this machine, all but its layers checked."""

    digest: str  #: `sha256:<hex>` of the manifest; of the config where there is no manifest
    layers: tuple[Layer, ...]  #: the lowest first

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return sum(layer.file.stat().st_size for layer in self.layers)


async def open_(path: Path, *, scratch: Path) -> Image:
    """The image at `path`; an archive is unpacked into the empty folder `scratch`, which must outlive it.

    Raises InvalidParams for what is no image, or none for this machine.
    """
    if not path.exists():
        raise errors.InvalidParams(f"There is no file or folder {path}.")
    folder = path
    if path.is_file():
        await _unpack(path, scratch)
        folder = scratch
    if (folder / "index.json").is_file():
        return _from_layout(folder, machine=architecture())
    if (folder / "manifest.json").is_file():
        return _from_saved(folder, machine=architecture())
    raise errors.InvalidParams(
        f"{path} is not an OCI image: it has neither index.json nor manifest.json. "
        "Write one with: skopeo copy docker://IMAGE oci:FOLDER, or: docker save IMAGE -o FILE.tar"
    )


def architecture() -> str:
    """This machine's, as images call it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


async def lay(layer: Layer, root: Path, *, scratch: Path) -> None:
    """Lays a layer of an image into `root`, once its digest is seen to be right."""
    plain = scratch / "layer.tar"
    try:
        await _decompress(layer.file, plain, stored=layer.stored, content=layer.plain)
        await asyncio.to_thread(layers.lay, root, plain)
    finally:
        plain.unlink(missing_ok=True)


async def _unpack(archive: Path, scratch: Path) -> None:
    plain = scratch.with_name(f"{scratch.name}.tar")
    try:
        await _decompress(archive, plain, stored=None, content=None)
        await asyncio.to_thread(layers.lay, scratch, plain)
    except errors.InvalidParams as error:
        raise errors.InvalidParams(f"{archive} is not an OCI image: {error.message}") from error
    finally:
        plain.unlink(missing_ok=True)


# An OCI image layout.


def _from_layout(folder: Path, *, machine: str) -> Image:
    index = _decode((folder / "index.json").read_bytes(), Content, "index.json")
    digest = _pick(folder, index, machine=machine, depth=DEPTH)
    manifest = _decode(_blob(folder, digest).read_bytes(), Content, digest)
    if manifest.config is None or manifest.layers is None:
        raise errors.InvalidParams(f"{digest} is not the manifest of an image.")
    config = _decode(_blob(folder, manifest.config.digest).read_bytes(), Config, "its config")
    _check_machine(config, machine)
    plain = config.rootfs.diff_ids
    if len(plain) != len(manifest.layers):
        raise errors.InvalidParams(
            f"The image has {len(manifest.layers)} layers, and its config names {len(plain)}."
        )
    return Image(
        digest=digest,
        layers=tuple(
            Layer(file=_place(folder, each.digest), stored=each.digest, plain=content)
            for each, content in zip(manifest.layers, plain, strict=True)
        ),
    )


def _pick(folder: Path, index: Content, *, machine: str, depth: int) -> str:
    """The digest of the one manifest for this machine."""
    found = dict.fromkeys(_candidates(folder, index, machine=machine, depth=depth))
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise errors.InvalidParams(
            f"There are {len(found)} images for linux/{machine} in it: keep one."
        )
    there = sorted(
        f"{each.platform.os}/{each.platform.architecture}"
        for each in index.manifests or ()
        if each.platform is not None
    )
    raise errors.InvalidParams(
        f"The image is not for linux/{machine}, which this machine is. It is for: "
        f"{', '.join(there) or 'nothing known'}."
    )


def _candidates(folder: Path, index: Content, *, machine: str, depth: int) -> list[str]:
    found: list[str] = []
    for each in index.manifests or ():
        # Beside images there may be their signatures and how they were built.
        if each.artifact_type is not None:
            continue
        if each.platform not in (None, Platform(machine, "linux")):
            continue
        content = _decode(_blob(folder, each.digest).read_bytes(), Content, each.digest)
        if content.manifests is None:
            found.append(each.digest)
        elif depth > 1:
            found += _candidates(folder, content, machine=machine, depth=depth - 1)
    return found


def _place(folder: Path, digest: str) -> Path:
    if not DIGEST.fullmatch(digest):
        raise errors.InvalidParams(f"The image names a digest that is not of SHA-256: {digest!r}")
    place = within.follow(folder, f"blobs/{digest.replace(':', '/')}")
    if not place.is_file():
        raise errors.InvalidParams(f"The image is not complete: {digest} is missing.")
    return place


def _blob(folder: Path, digest: str) -> Path:
    """Where it is, once its digest is seen to be right."""
    place = _place(folder, digest)
    with place.open("rb") as file:
        actual = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    _check_digest(digest, actual)
    return place


# What `docker save` wrote before it wrote layouts.


def _from_saved(folder: Path, *, machine: str) -> Image:
    saved = _decode((folder / "manifest.json").read_bytes(), tuple[Saved, ...], "manifest.json")
    if len(saved) != 1:
        names = ", ".join(tag for each in saved for tag in each.repo_tags or ())
        raise errors.InvalidParams(
            f"There are {len(saved)} images in it: keep one. {names}".strip()
        )
    file = _part(folder, saved[0].config)
    data = file.read_bytes()
    config = _decode(data, Config, saved[0].config)
    _check_machine(config, machine)
    if len(config.rootfs.diff_ids) != len(saved[0].layers):
        raise errors.InvalidParams("The image's config and manifest.json disagree on its layers.")
    return Image(
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        layers=tuple(
            Layer(file=_part(folder, name), stored=None, plain=content)
            for name, content in zip(saved[0].layers, config.rootfs.diff_ids, strict=True)
        ),
    )


def _part(folder: Path, name: str) -> Path:
    place = within.follow(folder, name)
    if not place.is_file():
        raise errors.InvalidParams(f"The image is not complete: {name} is missing.")
    return place


# Both.


def _check_machine(config: Config, machine: str) -> None:
    if (config.os, config.architecture) != ("linux", machine):
        raise errors.InvalidParams(
            f"The image is not for linux/{machine}, which this machine is. It is for: "
            f"{config.os}/{config.architecture}."
        )


def _check_digest(named: str, actual: str) -> None:
    if named != actual:
        raise errors.InvalidParams(
            f"The image is damaged: a part of it should be {named} and is {actual}. Copy it again."
        )


async def _decompress(file: Path, plain: Path, *, stored: str | None, content: str | None) -> None:
    """The tar that `file` holds, compressed or not; each digest is checked that is known."""
    with file.open("rb") as stream:
        magic = stream.read(4)
    if stored is not None:
        _check_digest(stored, await asyncio.to_thread(_digest, file))
    if magic == ZSTD:
        try:
            argv = ("zstd", "-dqf", "--no-progress", str(file), "-o", str(plain))
            await subprocess.run(*argv, timeout=TIMEOUT)
        except subprocess.CommandFailed as error:
            raise errors.InvalidParams(f"It cannot be decompressed: {error.stderr}") from error
    else:
        await asyncio.to_thread(_copy, file, plain, magic.startswith(GZIP))
    if content is not None:
        _check_digest(content, await asyncio.to_thread(_digest, plain))


def _copy(file: Path, plain: Path, zipped: bool) -> None:
    try:
        with file.open("rb") as stored, plain.open("wb") as target:
            source = gzip.GzipFile(fileobj=stored) if zipped else stored
            shutil.copyfileobj(source, target, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise errors.InvalidParams(f"It cannot be decompressed: {error}") from error


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _decode(data: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise errors.InvalidParams(f"The image's {name} cannot be read: {error}") from error

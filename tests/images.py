"""Writes OCI images for tests: layers out of tar members, layouts and archives out of layers."""

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deodar.model.stack import Stack

Member = tuple[tarfile.TarInfo, bytes]

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def file(name: str, text: str = "", *, mode: int = 0o644) -> Member:
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(text.encode())
    return member, text.encode()


def folder(name: str) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member, b""


def link(name: str, target: str, *, hard: bool = False) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), target
    member.mode = 0o777
    return member, b""


def device(name: str) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
    return member, b""


def layer(*members: Member) -> bytes:
    """An uncompressed layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def zstd(data: bytes) -> bytes:
    return subprocess.run(("zstd", "-1cq"), input=data, capture_output=True, check=True).stdout


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Layout:
    """An OCI image layout in the making."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Layout":
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return cls(folder)

    def blob(self, data: bytes) -> str:
        self.path(digest(data)).write_bytes(data)
        return digest(data)

    def path(self, name: str) -> Path:
        return self.folder / "blobs" / name.replace(":", "/")

    def image(
        self, layers: Iterable[tuple[bytes, bytes]], *, machine: str = MACHINE
    ) -> dict[str, object]:
        """The descriptor of an image with these layers, each as plain and as stored."""
        pairs = list(layers)
        config = {
            "architecture": machine,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest(plain) for plain, _ in pairs]},
        }
        manifest = {
            "schemaVersion": 2,
            "config": {"digest": self.blob(json.dumps(config).encode())},
            "layers": [{"digest": self.blob(stored)} for _, stored in pairs],
        }
        return {
            "digest": self.blob(json.dumps(manifest).encode()),
            "platform": {"architecture": machine, "os": "linux"},
        }

    def index(self, *descriptors: dict[str, object]) -> dict[str, object]:
        """The descriptor of an index of them."""
        index = {"schemaVersion": 2, "manifests": descriptors}
        return {"digest": self.blob(json.dumps(index).encode())}

    def close(self, *descriptors: dict[str, object]) -> Path:
        index = {"schemaVersion": 2, "manifests": descriptors}
        (self.folder / "index.json").write_text(json.dumps(index))
        return self.folder


def layout(path: Path, *layers: bytes, machine: str = MACHINE) -> Path:
    """A layout of one image, its layers stored in turn as gzip, zstd and as they are."""
    forms = (gzipped, zstd, bytes)
    made = Layout.at(path)
    pairs = [(data, forms[number % 3](data)) for number, data in enumerate(layers)]
    return made.close(made.image(pairs, machine=machine))


def archive(path: Path, source: Path) -> Path:
    """A tar of a folder's content."""
    with tarfile.open(path, "w") as tar:
        for entry in sorted(source.iterdir()):
            tar.add(entry, entry.name)
    return path


def saved(path: Path, layers: Sequence[bytes], *, tags: Sequence[str] = ("x:1",)) -> Path:
    """An archive as `docker save` wrote them before it wrote layouts; equal layers are links."""
    config = {
        "architecture": MACHINE,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
    }
    members, names, known = [], [], dict[bytes, str]()
    for number, data in enumerate(layers):
        names.append(f"{number:064}/layer.tar")
        if data in known:
            members.append(link(names[-1], f"../{known[data]}"))
        else:
            members.append((file(names[-1])[0], data))
            members[-1][0].size = len(data)
            known[data] = names[-1]
    entries = [{"Config": "c.json", "RepoTags": [tag], "Layers": names} for tag in tags]
    path.write_bytes(
        layer(
            *members, file("c.json", json.dumps(config)), file("manifest.json", json.dumps(entries))
        )
    )
    return path


def stack(
    name: str,
    *,
    minute: int = 0,
    suite: str | None = None,
    image: str | None = None,
    size: int | None = None,
) -> Stack:
    """What is written about a stack that was made then."""
    at = datetime(2026, 11, 25, 12, minute, tzinfo=UTC)
    digest = "SHA256:" + "0" * 64
    return Stack(name=name, built_at=at, digest=digest, suite=suite, image=image, size=size)

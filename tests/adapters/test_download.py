"""Fetching over real HTTP from a small server."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deodar.adapters import download
from deodar.model import errors

FILE = b"a tarball" * 1000
ANSWERS = {
    "/file": b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\nConnection: close\r\n\r\n" + FILE,
    "/moved": b"HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "/round": b"HTTP/1.1 302 Found\r\nLocation: /round\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9001\r\nConnection: close\r\n\r\n" + FILE,
    "/gone": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}  # fmt: skip


@pytest.fixture
async def place() -> AsyncIterator[str]:
    """The address of a server that gives ANSWERS, and falls silent for any other path."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1].partition("?")[0]
        if path in ANSWERS:
            writer.write(ANSWERS[path])
            await writer.drain()
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("path", ["file", "moved"])
async def test_a_file_comes_whole(place: str, tmp_path: Path, path: str) -> None:
    checksum = f"sha256:{hashlib.sha256(FILE).hexdigest()}"

    await download.fetch(f"http://{place}/{path}", tmp_path / "it", checksum=checksum)

    assert (tmp_path / "it").read_bytes() == FILE


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone?token=secret", "The source http://PLACE/gone answered 404."),
        ("cut", "The source http://PLACE/cut cannot be fetched: RemoteProtocolError."),
        ("round", "The source http://PLACE/round cannot be fetched: TooManyRedirects."),
        ("silent", "The source http://PLACE/silent did not come within 0.2 seconds."),
        ("file", "The source http://PLACE/file is over 8999 bytes."),
    ],
)
async def test_what_does_not_come_leaves_nothing_and_tells_no_secret(
    place: str, tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(errors.BuildFailed) as failed:
        await download.fetch(
            f"http://ada:secret@{place}/{path}",
            tmp_path / "it",
            limit=8999 if path == "file" else 9001,
            timeout=0.2 if path == "silent" else 60,
        )

    assert failed.value.message == message.replace("PLACE", place)
    assert list(tmp_path.iterdir()) == []


async def test_another_checksum_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(errors.BuildFailed) as failed:
        await download.fetch(f"http://{place}/file", tmp_path / "it", checksum="SHA256:00")

    assert failed.value.message == (
        f"The source's checksum is SHA256:{hashlib.sha256(FILE).hexdigest()}, not SHA256:00."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["ftp://example.com/x", "file:///etc/passwd", "http://", "http://[", "/sources/x", ""]
)
async def test_what_is_no_address_is_not_asked_for(tmp_path: Path, url: str) -> None:
    with pytest.raises(errors.BuildFailed) as failed:
        await download.fetch(url, tmp_path / "it")

    assert failed.value.message == "The source's URL must begin with http:// or https://."

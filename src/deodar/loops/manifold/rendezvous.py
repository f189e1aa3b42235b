"""A client's end of an attached dyno: its bytes, its token, where its output may be cut.

Who talks to whom, and what one does when the other leaves, is the switchboard's (attach.py).
"""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass

from deodar.kit.clock import Clock
from deodar.kit.signing import Signer

TOKEN_LIMIT = 4096  #: bytes of a client's first line
TOKEN_PATIENCE = 10  #: seconds for it, the TLS handshake not counted
LINE_END = 0.1  #: seconds for the end of a line whose token is there already
BLOCK = 64 * 1024
BACKLOG = 1024 * 1024  #: bytes of output kept while nobody reads; then the dyno has to wait

MARK = b"\xef\xbf\xbf"  #: U+FFFF: how the line begins in which `run --exit-code` reads the status
MARK_LIMIT = 64  #: bytes of such a line


def split_marks(data: bytes, *, last: bool = False) -> tuple[list[bytes], bytes]:
    """Output as chunks to be sent, and what is to be kept for the next call.

    The client looks for the exit status within single chunks, so a line with the mark is a chunk of
    its own, and one which is not whole yet is kept.
    """
    chunks: list[bytes] = []
    while (start := data.find(MARK)) >= 0:
        end = data.find(b"\n", start) + 1
        if not end and not last and len(data) - start < MARK_LIMIT:
            return [*chunks, *_some(data[:start])], data[start:]
        end = end or len(data)
        chunks += [*_some(data[:start]), data[start:end]]
        data = data[end:]
    kept = 0 if last else next((n for n in (2, 1) if data.endswith(MARK[:n])), 0)
    end = len(data) - kept
    return [*chunks, *_some(data[:end])], data[end:]


def _some(data: bytes) -> list[bytes]:
    return [data] if data else []


class Pipe:
    """Bytes from one task to another, up to BACKLOG of them; then the writer waits."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._closed = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._data) < BACKLOG)
            self._data += data
            self._changed.notify_all()

    async def close(self) -> None:
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def get(self) -> bytes:
        """What is there, waiting for it; b"" at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._data or self._closed)
            taken = bytes(self._data[:BLOCK])
            del self._data[:BLOCK]
            self._changed.notify_all()
            return taken


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody's end of the line."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def receive(self) -> bytes:
        """What the client sent; b"" once it has gone, in whatever way."""
        try:
            return await self.reader.read(BLOCK)
        except (ConnectionError, ssl.SSLError):
            return b""

    async def send(self, data: bytes) -> None:
        """Each call is a TLS record of its own. Dropped when the client has gone."""
        if not self.writer.is_closing():
            self.writer.write(data)
            with suppress(ConnectionError):
                await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError, TimeoutError):
            await self.writer.wait_closed()


async def identify(client: Client, signer: Signer, clock: Clock) -> str | None:
    """Which dyno the client's token is for; None if it shows no good one."""
    said = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(TOKEN_PATIENCE):
            while len(said) < TOKEN_LIMIT and (data := await client.receive()):
                said += data
                dyno_id = signer.open(token_in(said), now=clock())
                if dyno_id is not None:
                    if b"\n" not in said:
                        await _skip_line_end(client)
                    return dyno_id
                if b"\n" in said:
                    break
    return None


async def _skip_line_end(client: Client) -> None:
    """Some clients send none; the others' may be on its way, and is not for the dyno."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINE_END):
            await client.receive()


def token_in(said: bytes) -> str:
    """The token of a client's first line, `<token><?query>`, as far as it has come."""
    line = said.partition(b"\n")[0].rstrip(b"\r")
    return line.partition(b"?")[0].decode(errors="replace")

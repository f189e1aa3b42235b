"""Talks to conmon as the peer of one container's terminal or pipes; finding the container is the engine's."""

import asyncio
import errno
import os
import socket
from pathlib import Path

PACKET = 32 * 1024  #: more than conmon sends at once
PIECE = 8 * 1024  #: what we send at once; conmon reads no more
_STREAM = 1  #: the byte before each piece of output that says which stream it is of


class ConmonAttachment:
    """Keeps base.Attachment's promise over conmon's SOCK_SEQPACKET socket and its control fifo."""

    def __init__(self, peer: socket.socket, control: Path, *, terminal: bool) -> None:
        self._peer = peer
        self._control = control
        self._terminal = terminal
        self._reads = 0
        self._closed = False

    async def read(self) -> bytes:
        if self._closed:
            return b""
        self._reads += 1
        try:
            packet = await asyncio.get_running_loop().sock_recv(self._peer, PACKET)
        except ConnectionError:
            return b""
        finally:
            self._reads -= 1
            self._close_once_unused()
        return packet[_STREAM:]

    async def write(self, data: bytes) -> None:
        if self._closed:
            return
        for start in range(0, len(data), PIECE):
            try:
                await asyncio.get_running_loop().sock_sendall(
                    self._peer, data[start : start + PIECE]
                )
            except ConnectionError:
                return

    async def close_stdin(self) -> None:
        if self._terminal:
            await self.write(b"\x04")
            return
        self._shut(socket.SHUT_WR)

    async def resize(self, rows: int, columns: int) -> None:
        if not self._terminal:
            return
        try:
            fifo = os.open(self._control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            # no fifo or no reader: the container has ended
            if error.errno in (errno.ENOENT, errno.ENXIO):
                return
            raise
        try:
            os.write(fifo, f"1 {rows} {columns}\n".encode())
        finally:
            os.close(fifo)

    async def close(self) -> None:
        self._closed = True
        self._shut(socket.SHUT_RDWR)
        self._close_once_unused()

    def _shut(self, how: int) -> None:
        try:
            self._peer.shutdown(how)
        except OSError as error:
            # the container may have ended, or the peer may be closed already
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise

    def _close_once_unused(self) -> None:
        """A read that waits wakes up first: the event loop must not lose a file it watches."""
        if self._closed and self._reads == 0:
            self._peer.close()


async def connect(path: Path, control: Path, *, terminal: bool) -> ConmonAttachment:
    """OSError when nobody listens there: the container has ended."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, str(path))
    except BaseException:
        peer.close()
        raise
    return ConmonAttachment(peer, control, terminal=terminal)

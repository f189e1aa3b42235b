"""An SFTP server, version 3, for the files of one dyno; which dyno, and who may ask, is the caller's.

This file's text is what a dyno's own python3 runs: inside the dyno and as its user, who may
read and write what the app itself may. So it imports nothing but the standard library. A client talks
to it over stdin and stdout.
"""

import errno
import itertools
import os
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

#: draft-ietf-secsh-filexfer-02
INIT, VERSION, STATUS, HANDLE, DATA, NAME, ATTRS = 1, 2, 101, 102, 103, 104, 105
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32

LARGEST = 256 * 1024  #: bytes of a packet
NAMES = 100  #: of a folder in one packet


class Packet:
    """Reads the fields of a packet."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, form: str = ">I") -> int:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def text(self) -> bytes:
        length = self.number()
        if self._at + length > len(self._data):
            raise struct.error("a string is longer than its packet")
        self._at += length
        return self._data[self._at - length : self._at]


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def attributes(info: os.stat_result) -> bytes:
    """Size, owner, mode, times."""
    return struct.pack(
        ">IQIIIII",
        1 | 2 | 4 | 8,
        info.st_size,
        info.st_uid,
        info.st_gid,
        info.st_mode,
        int(info.st_atime) & 0xFFFFFFFF,
        int(info.st_mtime) & 0xFFFFFFFF,
    )


def described(name: bytes, info: os.stat_result) -> bytes:
    """The line of `ls -l`, which people read."""
    at = time.strftime("%b %d %Y %H:%M", time.localtime(info.st_mtime))
    mode, size = stat.filemode(info.st_mode), info.st_size
    line = f"{mode} {info.st_nlink:3} {info.st_uid:8} {info.st_gid:8} {size:10} {at} "
    return line.encode() + name


def status_of(error: OSError) -> int:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NO_SUCH_FILE
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PERMISSION_DENIED
    return FAILURE


class Server:
    """Answers one packet after another."""

    def __init__(self) -> None:
        self._files: dict[bytes, int] = {}
        self._folders: dict[bytes, Iterator[os.DirEntry[bytes]]] = {}
        self._made = 0
        self._calls: dict[int, Callable[[Packet], bytes]] = {
            3: self.open,
            4: self.close,
            5: self.read,
            6: self.write,
            7: lambda packet: self._attributes(os.lstat(packet.text())),
            8: lambda packet: self._attributes(os.fstat(self._files[packet.text()])),
            11: self.open_folder,
            12: self.read_folder,
            13: lambda packet: self._done(os.unlink, packet.text()),
            14: lambda packet: self._done(os.mkdir, packet.text()),
            15: lambda packet: self._done(os.rmdir, packet.text()),
            16: lambda packet: self._name(os.path.realpath(packet.text())),
            17: lambda packet: self._attributes(os.stat(packet.text())),
            18: self.rename,
            19: lambda packet: self._name(os.readlink(packet.text())),
        }

    def answer(self, data: bytes) -> bytes:
        """The answer to a packet, both without the length before it."""
        kind, packet = data[0], Packet(data[1:])
        if kind == INIT:
            return bytes([VERSION]) + struct.pack(">I", 3)
        number = packet.number()
        call = self._calls.get(kind)
        try:
            body = status(UNSUPPORTED, "not supported") if call is None else call(packet)
        except OSError as error:
            body = status(status_of(error), error.strerror or "failed")
        except (KeyError, ValueError, struct.error):  # no such handle; NUL in a path; cut off
            body = status(BAD_MESSAGE, "bad message")
        return body[:1] + struct.pack(">I", number) + body[1:]

    def open(self, packet: Packet) -> bytes:
        path, wish = packet.text(), packet.number()
        mode = {READ: os.O_RDONLY, WRITE: os.O_WRONLY}.get(wish & (READ | WRITE), os.O_RDWR)
        for flag, meaning in (
            (APPEND, os.O_APPEND),
            (CREATE, os.O_CREAT),
            (TRUNCATE, os.O_TRUNC),
            (EXCLUSIVE, os.O_EXCL),
        ):
            mode |= meaning if wish & flag else 0
        file = os.open(path, mode | os.O_CLOEXEC, 0o644)
        if stat.S_ISDIR(os.fstat(file).st_mode):
            os.close(file)
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        handle = self._handle()
        self._files[handle] = file
        return bytes([HANDLE]) + string(handle)

    def close(self, packet: Packet) -> bytes:
        handle = packet.text()
        if self._folders.pop(handle, None) is None:
            os.close(self._files.pop(handle))
        return status(OK, "")

    def read(self, packet: Packet) -> bytes:
        file, offset, length = self._files[packet.text()], packet.number(">Q"), packet.number()
        data = os.pread(file, min(length, LARGEST // 2), offset)
        return bytes([DATA]) + string(data) if data else status(EOF, "end of file")

    def write(self, packet: Packet) -> bytes:
        file, offset, data = self._files[packet.text()], packet.number(">Q"), packet.text()
        while data:
            written = os.pwrite(file, data, offset)
            offset, data = offset + written, data[written:]
        return status(OK, "")

    def open_folder(self, packet: Packet) -> bytes:
        entries = os.scandir(packet.text())
        handle = self._handle()
        self._folders[handle] = entries
        return bytes([HANDLE]) + string(handle)

    def read_folder(self, packet: Packet) -> bytes:
        entries = self._folders[packet.text()]
        names = list(itertools.islice(entries, NAMES))
        if not names:
            return status(EOF, "end of folder")
        infos = [entry.stat(follow_symlinks=False) for entry in names]
        body = b"".join(
            string(entry.name) + string(described(entry.name, info)) + attributes(info)
            for entry, info in zip(names, infos, strict=True)
        )
        return bytes([NAME]) + struct.pack(">I", len(names)) + body

    def rename(self, packet: Packet) -> bytes:
        old, new = packet.text(), packet.text()
        if os.path.lexists(new):
            return status(FAILURE, "file exists")
        os.rename(old, new)
        return status(OK, "")

    def _handle(self) -> bytes:
        self._made += 1
        return str(self._made).encode()

    def _done(self, act: Callable[[bytes], None], path: bytes) -> bytes:
        act(path)
        return status(OK, "")

    def _attributes(self, info: os.stat_result) -> bytes:
        return bytes([ATTRS]) + attributes(info)

    def _name(self, path: bytes) -> bytes:
        body = string(path) + string(path) + struct.pack(">I", 0)
        return bytes([NAME]) + struct.pack(">I", 1) + body


def status(code: int, message: str) -> bytes:
    body = struct.pack(">I", code) + string(message.encode()) + string(b"en")
    return bytes([STATUS]) + body


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Until the client has no more to ask."""
    server = Server()
    while len(head := requests.read(4)) == 4:
        (length,) = struct.unpack(">I", head)
        if not 0 < length <= LARGEST:
            return
        data = requests.read(length)
        if len(data) < length:
            return
        answer = server.answer(data)
        answers.write(struct.pack(">I", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)

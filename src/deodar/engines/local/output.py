"""Reads conmon's log of a container and gives its disk space back; whose lines they are is not its matter."""

import ctypes
import os
from datetime import datetime
from pathlib import Path

from deodar.engines import base

CHUNK = 256 * 1024  #: bytes read at once: some 3,000 lines, a dozen milliseconds
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02


def read(log: Path, offset: int) -> list[base.Output]:
    """Whole lines from `offset` on; [] where there are none, or no log."""
    try:
        file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return parse(os.pread(file, CHUNK, offset), offset)
    finally:
        os.close(file)


def start(log: Path, offset: int, *, at_most: int) -> int:
    """The beginning of a line from which on there are at most that many bytes."""
    try:
        file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return offset
    try:
        late = os.fstat(file).st_size - at_most
        if late <= offset:
            return offset
        # conmon's lines are much shorter than a chunk; one that it is writing now may lack its end
        newline = os.pread(file, CHUNK, late).find(b"\n")
        return offset if newline < 0 else late + newline + 1
    finally:
        os.close(file)


def parse(data: bytes, offset: int) -> list[base.Output]:
    """The lines in `data`, which begins at `offset`; a last line without its newline is left for later.

    `2026-11-24T22:55:11.465581460+00:00 stdout F text`; P instead of F where the line goes on.
    """
    pieces: list[base.Output] = []
    end = data.rfind(b"\n")
    if end < 0:
        return pieces
    for line in data[:end].split(b"\n"):
        offset += len(line) + 1
        # what was discarded reads as zeros
        stamp, stream, tag, text = line.lstrip(b"\0").split(b" ", 3)
        at = datetime.fromisoformat(stamp.decode()).timestamp()
        pieces.append(base.Output(at, stream.decode(), text, tag == b"P", offset))
    return pieces


def discard(log: Path, offset: int) -> None:
    """Punch a hole up to `offset`: conmon goes on at the file's end, and offsets stay as they are."""
    if offset <= 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        file = os.open(log, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        length = ctypes.c_int64(min(offset, os.fstat(file).st_size))
        if length.value == 0:
            return
        if libc.fallocate(file, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(0), length) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(log))
    finally:
        os.close(file)

"""Reads conmon's log of a container and gives its disk space back; whose lines they are is not its matter.

conmon begins its log anew when that has reached a limit (commands.py), whether or not anybody has read
it. So each of its files has a second name, `log.<offset at which it begins>`, by which what is unread
stays; one file so kept is the most there is, if nobody reads for long. Offsets go on from file to file.
"""

import os
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from deodar.engines import base
from deodar.kit import disk

CHUNK = 256 * 1024  #: bytes read at once: some 3,000 lines, a dozen milliseconds


def read(log: Path, offset: int) -> list[base.Output]:
    """Whole lines from `offset` on; [] where there are none, or no log."""
    for begin, path in _files(log):
        at = max(offset, begin)
        if pieces := parse(_read(path, at - begin), at):
            return pieces
    return []


def start(log: Path, offset: int, *, at_most: int) -> int:
    """The beginning of a line from which on there are at most that many bytes."""
    files = _files(log)
    late = _end(*files[-1]) - at_most if files else offset
    if late <= offset:
        return offset
    begin, path = next((each for each in reversed(files) if each[0] <= late), files[0])
    late = max(late, begin)
    # conmon's lines are much shorter than a chunk; one that it is writing now may lack its end
    newline = _read(path, late - begin).find(b"\n")
    return offset if newline < 0 else late + newline + 1


def discard(log: Path, offset: int) -> None:
    """Punch a hole up to `offset`: conmon goes on at the file's end, and offsets stay as they are."""
    files = _files(log)
    for (_, path), (end, _) in pairwise(files):
        if end <= offset:
            path.unlink(missing_ok=True)
    for begin, path in files:
        if begin < offset:
            disk.punch(path, offset - begin)


def _files(log: Path) -> list[tuple[int, Path]]:
    """The log's files and the offset at which each begins; the last is the one being written."""
    files = sorted(
        (int(path.suffix[1:]), path)
        for path in log.parent.glob(f"{log.name}.*")
        if path.suffix[1:].isdigit()
    )
    try:
        if files and files[-1][1].samefile(log):
            return files
        begin = _end(*files[-1]) if files else 0
        path = log.with_name(f"{log.name}.{begin}")
        with suppress(FileExistsError):  # another thread saw it, too
            os.link(log, path)
    except FileNotFoundError:
        return files  # there is no log, or it is being removed
    return [*files, (begin, path)]


def _end(begin: int, path: Path) -> int:
    try:
        return begin + path.stat().st_size
    except FileNotFoundError:
        return begin


def _read(path: Path, position: int) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(file, CHUNK, position)
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

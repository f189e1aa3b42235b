"""Keeps every app's log lines in files of their own and lets readers follow; who writes what is theirs.

An app has numbered segments of SEGMENT bytes; the last KEPT are there, older ones are deleted. A line
is one record, `<seconds>\\t<source>\\t<dyno>\\t<origin>\\t<text>\\n`. A line that came out of a dyno
names its origin, `<dyno id>:<offset>`, where the next piece of that dyno's output starts. So line and
place are written by the same write: after a kill -9 the intake goes on exactly there, and no line is
lost or doubled. A new segment begins with the places of all dynos as records without text.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from deodar.model import errors
from deodar.model.log import LINE_LIMIT, LogLine, matches

SEGMENT = 8 * 1024 * 1024  #: bytes after which a new segment is begun
KEPT = 2  #: segments per app
BLOCK = 256 * 1024  #: bytes read at a time
PLACE = "@"  #: the source of a record that only tells a place


class Position(NamedTuple):
    """Where a line ends: the segment's number and the byte after it. Orders as the log does."""

    segment: int
    offset: int

    def __str__(self) -> str:
        return f"{self.segment}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """None if `text` is no position, as of a client that made one up."""
        segment, _, offset = text.partition(":")
        if not (segment.isascii() and segment.isdigit() and offset.isascii() and offset.isdigit()):
            return None
        return cls(int(segment), int(offset))


@dataclass(slots=True)
class _Open:
    """The segment that is being written, and who waits for news of it."""

    descriptor: int
    segment: int
    size: int
    places: dict[str, int]
    readers: set[asyncio.Event] = field(default_factory=set)


class Logs:
    """The logs of all apps below `directory`. One process writes; appends are small and cheap."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, _Open] = {}

    def append(self, app_id: str, lines: Sequence[LogLine]) -> None:
        """Adds lines to the app's log. Raises StoreFailed when the disk does not take them."""
        self._write(app_id, [record for line in lines for record in _records(line, origin="")])

    def append_output(
        self, app_id: str, dyno_id: str, offset: int, lines: Sequence[LogLine]
    ) -> None:
        """Adds lines which came out of a dyno, whose next output starts at `offset`."""
        current = self._opened(app_id)
        current.places[dyno_id] = offset
        origin = f"{dyno_id}:{offset}"
        self._write(app_id, [record for line in lines for record in _records(line, origin=origin)])

    def place(self, app_id: str, dyno_id: str) -> int:
        """Where the output of that dyno goes on that is not in the log yet; 0 for a new one."""
        return self._opened(app_id).places.get(dyno_id, 0)

    def forget_dyno(self, app_id: str, dyno_id: str) -> None:
        """The dyno is gone for good: its place need not be carried on."""
        self._opened(app_id).places.pop(dyno_id, None)

    def delete(self, app_id: str) -> None:
        """Removes an app's log; its readers come to an end."""
        current = self._open.pop(app_id, None)
        if current is not None:
            os.close(current.descriptor)
            for reader in current.readers:
                reader.set()
        folder = self._directory / app_id
        for segment in _segments(folder):
            _path(folder, segment).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            folder.rmdir()

    def close(self) -> None:
        for current in self._open.values():
            os.close(current.descriptor)
        self._open.clear()

    async def last(
        self, app_id: str, count: int, *, source: str | None = None, dyno: str | None = None
    ) -> tuple[list[LogLine], Position]:
        """The newest `count` lines that match, oldest first, and where the log ends."""
        end = self._end(app_id)
        lines = await asyncio.to_thread(
            _last, self._directory / app_id, end, count, source=source, dyno=dyno
        )
        return lines, end

    async def follow(
        self, app_id: str, after: Position, *, source: str | None = None, dyno: str | None = None
    ) -> AsyncIterator[tuple[Position, LogLine]]:
        """Matching lines after a position, waiting for more, until the app's log is deleted.

        A reader that is so slow that its segment was deleted meanwhile goes on with the oldest line.
        """
        folder = self._directory / app_id
        news = asyncio.Event()
        current = self._opened(app_id)
        current.readers.add(news)
        try:
            while self._open.get(app_id) is current:
                news.clear()
                records = await asyncio.to_thread(_read_after, folder, after)
                if not records:
                    await news.wait()
                for after, line in records:
                    if line is not None and matches(line, source=source, dyno=dyno):
                        yield after, line
        finally:
            current.readers.discard(news)

    def _end(self, app_id: str) -> Position:
        current = self._opened(app_id)
        return Position(current.segment, current.size)

    def _write(self, app_id: str, records: Sequence[bytes]) -> None:
        if not records:
            return
        current = self._opened(app_id)
        if current.size > SEGMENT:
            self._rotate(app_id, current)
        data = b"".join(records)
        try:
            # Into the page cache, not to the disk: microseconds, so no thread. O_APPEND and one
            # write keep a record whole through a kill.
            written = os.write(current.descriptor, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes were taken")
        except OSError as error:
            self._mend(app_id, current)
            raise errors.StoreFailed(f"The log of an app cannot be written: {error}") from error
        current.size += len(data)
        for reader in current.readers:
            reader.set()

    def _mend(self, app_id: str, current: _Open) -> None:
        """After a write that failed half way: cut it off, and believe the file again, not ourselves."""
        with suppress(OSError):
            os.ftruncate(current.descriptor, current.size)
        current.places = _read_places(self._directory / app_id, current.segment)

    def _rotate(self, app_id: str, current: _Open) -> None:
        folder = self._directory / app_id
        os.close(current.descriptor)
        current.segment += 1
        current.descriptor = _open(_path(folder, current.segment))
        places = b"".join(
            f"0\t{PLACE}\t\t{dyno_id}:{offset}\t\n".encode()
            for dyno_id, offset in current.places.items()
        )
        current.size = os.write(current.descriptor, places)
        for segment in _segments(folder)[:-KEPT]:
            _path(folder, segment).unlink(missing_ok=True)

    def _opened(self, app_id: str) -> _Open:
        current = self._open.get(app_id)
        if current is None:
            folder = self._directory / app_id
            try:
                folder.mkdir(parents=True, exist_ok=True)
                segment = max(_segments(folder), default=1)
                descriptor = _open(_path(folder, segment))
                current = _Open(descriptor, segment, _cut_half_record(descriptor), {})
            except OSError as error:
                raise errors.StoreFailed(f"The log of an app cannot be opened: {error}") from error
            current.places = _read_places(folder, segment)
            self._open[app_id] = current
        return current


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _cut_half_record(descriptor: int) -> int:
    """A machine that lost power may leave a record without its end: drop it. Answers the size."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - BLOCK)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end


def _path(folder: Path, segment: int) -> Path:
    return folder / f"{segment:08d}.log"


def _segments(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name.removesuffix(".log")) for name in names if name.endswith(".log"))


def _records(line: LogLine, *, origin: str) -> Iterator[bytes]:
    """One record, or several where a line is over the limit (devcenter: logging, 10,000 bytes)."""
    head = f"{line.at.timestamp():.6f}\t{line.source}\t{line.dyno}\t{origin}\t".encode()
    text = line.text.replace("\n", " ").encode(errors="replace")
    for start in range(0, len(text), LINE_LIMIT) or (0,):
        yield head + text[start : start + LINE_LIMIT] + b"\n"


def _parse(record: bytes) -> LogLine | None:
    """The record's line, None for one that only tells a place."""
    at, source, dyno, _origin, text = record.decode(errors="replace").split("\t", 4)
    if source == PLACE:
        return None
    return LogLine(at=datetime.fromtimestamp(float(at), UTC), source=source, dyno=dyno, text=text)


def _read_places(folder: Path, segment: int) -> dict[str, int]:
    """For each dyno that speaks in the segment, where its output goes on."""
    places: dict[str, int] = {}
    with _path(folder, segment).open("rb") as file:
        for record in file:
            origin = record.split(b"\t", 4)[3].decode()
            if origin:
                dyno_id, _, offset = origin.rpartition(":")
                places[dyno_id] = int(offset)
    return places


def _last(
    folder: Path, end: Position, count: int, *, source: str | None, dyno: str | None
) -> list[LogLine]:
    found: list[LogLine] = []
    for record in _backwards(folder, end):
        if len(found) >= count:
            break
        line = _parse(record)
        if line is not None and matches(line, source=source, dyno=dyno):
            found.append(line)
    return found[::-1]


def _backwards(folder: Path, end: Position) -> Iterator[bytes]:
    """Records before `end`, newest first, a block of the file in memory at a time."""
    for segment in reversed([each for each in _segments(folder) if each <= end.segment]):
        with _path(folder, segment).open("rb") as file:
            size = end.offset if segment == end.segment else file.seek(0, os.SEEK_END)
            rest = b""
            while size > 0:
                start = max(0, size - BLOCK)
                file.seek(start)
                records = (file.read(size - start) + rest).split(b"\n")
                rest = records[0]
                yield from (record for record in reversed(records[1:]) if record)
                size = start
            if rest:
                yield rest


def _read_after(folder: Path, after: Position) -> list[tuple[Position, LogLine | None]]:
    """The records after a position, about a block of them; the last position is always told."""
    for segment in _segments(folder):
        if segment < after.segment:
            continue
        start = after.offset if segment == after.segment else 0
        with _path(folder, segment).open("rb") as file:
            file.seek(start)
            data = file.read(BLOCK)
        complete = data[: data.rfind(b"\n") + 1]
        if complete:
            return list(_positioned(segment, start, complete))
    return []


def _positioned(segment: int, start: int, data: bytes) -> Iterable[tuple[Position, LogLine | None]]:
    for record in data.split(b"\n")[:-1]:
        start += len(record) + 1
        yield Position(segment, start), _parse(record)

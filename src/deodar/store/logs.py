"""Keeps every app's log lines in files of their own and lets readers follow; who writes what is theirs.

An app has numbered segments of SEGMENT bytes; the last KEPT are there, older ones are deleted. A line
is one record, `<seconds>\\t<source>\\t<dyno>\\t<origin>\\t<text>\\n`. A line that came out of a dyno
names its origin, `<dyno id>:<offset>`, where that dyno's output goes on after it. So line and place are
one record, and a record is whole or is not there: a kill -9, even in the midst of a write, loses no
line and doubles none. A new segment begins with the places of all dynos, as records without a line; a
place without an offset says that the dyno is gone.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

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

    def close(self) -> None:
        os.close(self.descriptor)
        for reader in self.readers:
            reader.set()


class Logs:
    """The logs of all apps below `directory`. One process writes; appends are small and cheap."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, _Open] = {}

    def append(self, app_id: str, lines: Sequence[LogLine]) -> None:
        """Adds lines to the app's log. Raises StoreFailed when the disk does not take them."""
        self._write(app_id, [record for line in lines for record in _records(line, origin="")])

    def append_output(
        self, app_id: str, dyno_id: str, lines: Sequence[tuple[int, LogLine]]
    ) -> None:
        """Adds lines which came out of a dyno, each with the offset where its output goes on after it.

        Raises StoreFailed when the disk does not take them; `place` says which ones it took.
        """
        records = [
            record
            for offset, line in lines
            for record in _records(line, origin=f"{dyno_id}:{offset}")
        ]
        self._write(app_id, records)
        if lines:
            self._opened(app_id).places[dyno_id] = lines[-1][0]

    def exists(self, app_id: str) -> bool:
        """Whether the app has a log; one that was destroyed has none."""
        return self._existing(app_id) is not None

    def place(self, app_id: str, dyno_id: str) -> int:
        """Where the output of that dyno goes on that is not in the log yet; 0 for a new one."""
        current = self._existing(app_id)
        return 0 if current is None else current.places.get(dyno_id, 0)

    def forget_dyno(self, app_id: str, dyno_id: str) -> None:
        """The dyno is gone for good: its place need not be carried on. May be repeated."""
        current = self._existing(app_id)
        if current is not None and current.places.pop(dyno_id, None) is not None:
            self._write(app_id, [_place(dyno_id, "")])

    def delete(self, app_id: str) -> None:
        """Removes an app's log; its readers come to an end."""
        current = self._open.pop(app_id, None)
        if current is not None:
            current.close()
        with suppress(FileNotFoundError):
            shutil.rmtree(self._directory / app_id)

    def close(self) -> None:
        """Lets go of all files; readers come to an end."""
        while self._open:
            self._open.popitem()[1].close()

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
    ) -> AsyncIterator[tuple[Position, list[LogLine]]]:
        """Matching lines after a position, and where they end; waits for more until the log is deleted.

        As many at a time as are there, up to some 256 KB: who reads slowly reads more at once.

        What was never read with `last` nor written to is no log, and ends at once.
        A reader that is so slow that its segment was deleted meanwhile goes on with the oldest line;
        one with a position that was never reached begins at the end.
        """
        folder = self._directory / app_id
        current = self._existing(app_id)
        if current is None:
            return
        news = asyncio.Event()
        after = min(after, self._end(app_id))
        current.readers.add(news)
        try:
            while self._open.get(app_id) is current:
                news.clear()
                records = await asyncio.to_thread(_read_after, folder, after)
                if not records:
                    await news.wait()
                    continue
                after = records[-1][0]
                lines = [
                    line
                    for _, line in records
                    if line is not None and matches(line, source=source, dyno=dyno)
                ]
                if lines:
                    yield after, lines
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
        """After a write that failed half way: what is whole of it stays, and the file is believed."""
        with suppress(OSError):
            current.size = _cut_half_record(current.descriptor)
            current.places = _read_places(self._directory / app_id, current.segment)

    def _rotate(self, app_id: str, current: _Open) -> None:
        """Begins a new segment. It is there with all places or not at all."""
        folder = self._directory / app_id
        path = _path(folder, current.segment + 1)
        places = b"".join(_place(*place) for place in current.places.items())
        try:
            half = path.with_suffix(".half")
            half.write_bytes(places)
            half.chmod(0o600)
            half.rename(path)
            descriptor = _open(path)
        except OSError as error:
            raise errors.StoreFailed(f"The log of an app cannot be written: {error}") from error
        os.close(current.descriptor)
        current.descriptor, current.segment, current.size = (
            descriptor,
            current.segment + 1,
            len(places),
        )
        for segment in _segments(folder)[:-KEPT]:
            _path(folder, segment).unlink(missing_ok=True)

    def _existing(self, app_id: str) -> _Open | None:
        """None for a log that is deleted: only to look at it must not make another."""
        if app_id not in self._open and not (self._directory / app_id).exists():
            return None
        return self._opened(app_id)

    def _opened(self, app_id: str) -> _Open:
        current = self._open.get(app_id)
        if current is None:
            folder = self._directory / app_id
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    """One record, or several where a line is over the limit (devcenter: logging, 10,000 bytes).

    Only the last of them tells the place: a line that was written in part is written again.
    """
    head = f"{line.at.timestamp():.6f}\t{line.source}\t{line.dyno}\t"
    *parts, last = _split(line.text.replace("\n", " ").encode(errors="replace"))
    for part in parts:
        yield f"{head}\t".encode() + part + b"\n"
    yield f"{head}{origin}\t".encode() + last + b"\n"


def _split(text: bytes) -> list[bytes]:
    """Pieces of at most LINE_LIMIT bytes, none of which ends in the midst of a character."""
    pieces = []
    while len(text) > LINE_LIMIT:
        end = LINE_LIMIT
        while text[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]


def _place(dyno_id: str, offset: int | str) -> bytes:
    return f"0\t{PLACE}\t\t{dyno_id}:{offset}\t\n".encode()


def _parse(record: bytes) -> LogLine | None:
    """The record's line, None for one that only tells a place, or that a power cut left unreadable."""
    try:
        at, source, dyno, _origin, text = record.decode(errors="replace").split("\t", 4)
        moment = datetime.fromtimestamp(float(at), UTC)
    except ValueError:
        return None
    return None if source == PLACE else LogLine(at=moment, source=source, dyno=dyno, text=text)


_ORIGIN = re.compile(rb"^[^\t\n]*\t[^\t\n]*\t[^\t\n]*\t([^\t\n]+):(\d*)\t", re.MULTILINE)


def _read_places(folder: Path, segment: int) -> dict[str, int]:
    """For each dyno that speaks in the segment, where its output goes on."""
    data = _path(folder, segment).read_bytes()
    places = {match[1]: match[2] for match in _ORIGIN.finditer(data)}
    return {dyno_id.decode(): int(offset) for dyno_id, offset in places.items() if offset}


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
        file = _open_to_read(folder, segment)
        if file is None:
            return
        with file:
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
    """The records after a position, about a block of them; the last position is always told.

    Segments are listed first: one that is not the newest by then grows no more, so its end is final.
    """
    for segment in _segments(folder):
        if segment < after.segment:
            continue
        start = after.offset if segment == after.segment else 0
        file = _open_to_read(folder, segment)
        if file is None:
            continue
        with file:
            if start > 0:
                # A client may hand in any position; it means the record that begins next.
                file.seek(start - 1)
                start += len(file.readline()) - 1
            data = file.read(BLOCK)
        complete = data[: data.rfind(b"\n") + 1]
        if complete:
            return list(_positioned(segment, start, complete))
    return []


def _open_to_read(folder: Path, segment: int) -> BinaryIO | None:
    """None when it was deleted since it was listed."""
    try:
        return _path(folder, segment).open("rb")
    except FileNotFoundError:
        return None


def _positioned(segment: int, start: int, data: bytes) -> Iterable[tuple[Position, LogLine | None]]:
    for record in data.split(b"\n")[:-1]:
        start += len(record) + 1
        yield Position(segment, start), _parse(record)

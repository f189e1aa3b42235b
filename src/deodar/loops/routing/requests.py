"""Turns HAProxy's request log into the router's lines of each app's log, worded as Heroku words them.

`translate` is the wording, pure; `Requests` reads the file that HAProxy writes, which is there whether
or not we are. Requests for a host that no app has are in no app's log.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import structlog

from deodar.adapters.haproxy.config import LOG_COLUMNS, LOG_FORMAT, LOG_FREE_COLUMNS
from deodar.adapters.haproxy.table import slot_number
from deodar.kit import disk
from deodar.loops.routing import plan
from deodar.model import errors
from deodar.model.log import LogLine
from deodar.model.route import H_CODES
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

COLUMNS = len(LOG_COLUMNS)
FREE_COLUMNS = len(LOG_FREE_COLUMNS)
QUIET = "quiet"  #: the note of those who wake nobody
POLL = 0.2  #: seconds between looks at a file that does not grow
BLOCK = 64 * 1024  #: bytes read at a time: some 300 lines, two milliseconds
GIVE_BACK = 1024 * 1024  #: bytes that are read before the disk has them back

#: how a request ended (HAProxy: "Session state at disconnection") → the H code it means; cases that
#: are not here ended well, or are told by the code in the line itself
ENDS = MappingProxyType(
    {
        "SC": "H21",  # every dyno that was tried refused
        "sC": "H19",  # connecting took longer than 5 s
        "sQ": "H11",  # waited too long for a dyno that has room
        "sH": "H12",  # no first byte within 30 s
        "SH": "H13",  # closed without an answer
        "PH": "H17",  # an answer that is no HTTP
        "SD": "H18",  # broke off within the answer
        "SL": "H18",
        "sD": "H15",  # no byte for too long
        "sL": "H15",
        "KH": "H24",  # cut: its dyno had its time, or the router ends
        "KD": "H24",
        "KL": "H24",
        "PD": "H26",  # the body is no HTTP
        "CR": "H27",  # the client left
        "CQ": "H27",
        "CC": "H27",
        "CH": "H27",
        "CD": "H27",
        "CL": "H27",
        "cR": "H28",  # the client sent nothing for too long
        "cQ": "H28",
        "cC": "H28",
        "cH": "H28",
        "cD": "H28",
        "cL": "H28",
    }
)

#: what the line begins with, for codes that are no plain error
BEGINS = MappingProxyType(
    {
        "H18": "sock=backend at=error",
        "H27": "sock=client at=warning",
        "H28": "sock=client at=warning",
        "H80": "at=info",
        "H81": "at=info",
    }
)

#: no dyno took part
WITHOUT_DYNO = frozenset(
    {"H10", "H11", "H14", "H20", "H22", "H31", "H34", "H80", "H81", "H99"},
)
#: the page is ours: of the dyno came nothing
OUR_PAGE = frozenset({"H12", "H13", "H15", "H17"})
#: answers of ours whose rules have no room for their code
OURS = MappingProxyType({"503": "H11", "417": "H26", "400": "H26"})
#: what the client saw, where it is not 503
SHOWN = MappingProxyType({"H27": "499", "H28": "499", "H31": "421"})


def translate(line: str) -> tuple[int, LogLine] | None:
    """The app's slot and the router's line, of one line of the request log.

    None for a request that no app was asked, and for a line that was cut before it told so or that
    another version of the platform had written.
    """
    columns = _columns(line)
    if columns is None or columns[12] == "-":
        return None
    accepted, total, receiving, queued, connecting, _, active = columns[:7]
    status, size, end, retries, server, slot, code = columns[7:14]
    frontend, version, for_any, for_its_own = columns[14:18]
    note, request_id, method, client, host, uri, forwarded = columns[18:]
    at = datetime.fromtimestamp((int(accepted) + max(int(total), 0)) / 1000, UTC)
    if code == "-":
        asleep = note == QUIET and end.startswith("LR")
        code = "" if asleep else _ending(end[:2], server, status, retries)
    connect = int(connecting)
    service = int(active) - max(int(receiving), 0) - max(int(queued), 0) - max(connect, 0)
    depth = int(for_any) + int(for_its_own)
    waited = f" queue={_ms(int(queued))}" if int(queued) > 0 else ""
    if depth:
        waited += f" queue_depth={depth}"
    begins = "at=info"
    if code:
        begins = f'{BEGINS.get(code, "at=error")} code={code} desc="{H_CODES[code]}"'
    if code in WITHOUT_DYNO:
        took = f"dyno= connect= service= status={SHOWN.get(code, '503')} bytes="
    else:
        name = plan.dyno_name(server) if server != "<NOSRV>" else ""
        shown = _shown_status(code, status)
        length = "0" if code in OUR_PAGE else "" if code in ("H19", "H21") else size
        took = (
            f"dyno={name} connect={_ms(connect)} service={_ms(service) if connect >= 0 else ''} "
            f"status={shown} bytes={length}"
        )
    return slot_number(slot), LogLine(
        at=at,
        source="heroku",
        dyno="router",
        text=(
            f'{begins} method={method} path="{_quoted(_path(uri))}" host={host} '
            f'request_id={request_id} fwd="{client if forwarded == "-" else _quoted(forwarded)}" '
            f"{took} protocol={version.lower().replace('/', '')} "
            f"tls={'true' if frontend == 'https' else 'false'}{waited}{_woken(note)}"
        ),
    )


def keeps_awake(line: str) -> bool:
    """Whether a line of the request log tells of somebody whose asking counts."""
    columns = _columns(line)
    return columns is not None and columns[18] != QUIET


def _columns(line: str) -> list[str] | None:
    ours, *free = line.split("\t", FREE_COLUMNS)
    form, *columns = ours.split(" ")
    whole = len(columns) == COLUMNS and len(free) == FREE_COLUMNS
    return columns + free if form == LOG_FORMAT and whole else None


def _woken(note: str) -> str:
    """That the request woke its app, how deep that slept and how long the request was held."""
    depth, held, milliseconds = note.partition(":")
    return f" wake={depth} wake_ms={milliseconds}" if held else ""


def _ending(end: str, server: str, status: str, retries: str) -> str:
    if end == "--":
        return ""
    if end == "LR":
        return OURS.get(status, "")
    if status == "101" and end[1] in "DL":
        # A WebSocket ends when one of the two leaves; only silence is worth a word.
        return {"s": "H15", "c": "H15", "K": "H24"}.get(end[0], "")
    if end == "PH" and status == "400":
        return "H26"  # what is no HTTP is the request's body
    code = ENDS.get(end, "")
    if code in ("H19", "H21") and server == "<NOSRV>" and retries == "0":
        return "H99"  # its last dyno left between the look and the choice
    return code


def _shown_status(code: str, status: str) -> str:
    if code == "H26":
        return status
    return SHOWN.get(code, "503") if code else status


def _ms(time: int) -> str:
    return f"{time}ms" if time >= 0 else ""


def _path(uri: str) -> str:
    """`/a?b` of `/a?b` or `https://host/a?b`."""
    if uri.startswith("/"):
        return uri
    _, scheme, rest = uri.partition("://")
    return f"/{rest.partition('/')[2]}" if scheme else uri


def _quoted(text: str) -> str:
    """Text of a client's choice: it may end neither its quotes nor the line, nor drive a terminal."""
    if text.isprintable() and '"' not in text:
        return text
    return "".join(each if each.isprintable() else "?" for each in text).replace('"', "%22")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far the file is read. `id` names the file: one that was deleted begins again at 0."""

    id: str
    offset: int


class Requests:
    """Reads HAProxy's request log. `app_of(slot)` says whose request it was; `saw(app, at)` is told of
    the last of each app.

    What an app's log has of the file is kept in that log, with the lines; the mark beside the file only
    says where to begin. So after a kill -9 some lines are read again, and none is told twice.
    """

    def __init__(
        self,
        file: Path,
        logs: Logs,
        app_of: Callable[[int], str | None],
        *,
        saw: Callable[[str, datetime], None],
    ) -> None:
        self._file = file
        # Beside what leads to the file, on disk: where the file is there may be no room.
        self._mark_file = file.with_suffix(".mark")
        self._logs = logs
        self._app_of = app_of
        self._saw = saw
        self._mark = Mark(id="", offset=0)
        self._given_back = 0

    async def serve(self) -> None:
        """Reads what is there and what comes, until cancelled."""
        self._mark = self._begin()
        while True:
            began = time.monotonic()
            behind = self._read()
            took = time.monotonic() - began
            # While there is much to read, others get four parts in five of the time.
            await asyncio.sleep(4 * took if behind else POLL)

    def _begin(self) -> Mark:
        mark = _read_mark(self._mark_file)
        if mark is None or _size(self._file) < mark.offset:
            mark = Mark(id=str(uuid.uuid4()), offset=0)
            # Before the first line is told: two readers of one file must mean the same by its places.
            self._keep(mark)
        return mark

    def _read(self) -> bool:
        """A block of the log into the logs of its apps; True if there may be more."""
        if _size(self._file) <= self._mark.offset:
            return False
        data = _read_block(self._file, self._mark.offset)
        end = data.rfind(b"\n") + 1
        if end == 0:
            return False
        if not self._tell(data[:end]):
            return False
        self._mark = replace(self._mark, offset=self._mark.offset + end)
        self._keep(self._mark)
        if self._mark.offset - self._given_back > GIVE_BACK:
            disk.punch(self._file, self._mark.offset)
            self._given_back = self._mark.offset
        return len(data) == BLOCK

    def _tell(self, data: bytes) -> bool:
        """False if a log does not take its lines now: they are read again."""
        by_app: dict[str, list[tuple[int, LogLine]]] = {}
        asked: dict[str, datetime] = {}
        offset = self._mark.offset
        for raw in data.split(b"\n")[:-1]:
            offset += len(raw) + 1
            line = raw.lstrip(b"\0").decode(errors="replace")
            translated = translate(line)
            app_id = None if translated is None else self._app_of(translated[0])
            if translated is not None and app_id is not None:
                by_app.setdefault(app_id, []).append((offset, translated[1]))
                if keeps_awake(line):
                    asked[app_id] = translated[1].at
        try:
            for app_id, lines in by_app.items():
                told = self._logs.place(app_id, self._mark.id)
                self._logs.append_output(
                    app_id, self._mark.id, [each for each in lines if each[0] > told]
                )
        except errors.StoreFailed as error:
            log.warning("Cannot tell requests", error=error.message)
            return False
        for app_id, at in asked.items():
            self._saw(app_id, at)
        return True

    def _keep(self, mark: Mark) -> None:
        half = self._mark_file.with_suffix(".partial")
        half.write_text(f"{mark.id} {mark.offset}\n")
        half.rename(self._mark_file)


def _read_mark(file: Path) -> Mark | None:
    try:
        mark_id, _, offset = file.read_text().strip().partition(" ")
    except FileNotFoundError:
        return None
    return Mark(id=mark_id, offset=int(offset)) if offset.isdigit() else None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0  # HAProxy has not started yet


def _read_block(file: Path, offset: int) -> bytes:
    """A block of a local file, most often of the page cache: not worth a thread."""
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read(BLOCK)

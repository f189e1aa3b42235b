"""Turns HAProxy's request log into the router's lines of each app's log, worded as Heroku words them.

`translate` is the wording, pure; `Requests` receives. HAProxy keeps 32 MB of lines while nobody listens,
so a restart of ours loses none. Requests for a host that no app has are in no app's log.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import structlog

from deodar.adapters.haproxy import sockets
from deodar.adapters.haproxy.config import LOG_COLUMNS
from deodar.adapters.haproxy.table import slot_number
from deodar.loops.routing import plan
from deodar.model import errors
from deodar.model.log import LogLine
from deodar.model.route import H_CODES
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

TABS = len(LOG_COLUMNS) - 1

#: how a request ended (HAProxy: "Session state at disconnection") → the H code it means; cases that
#: are not here ended well, or are told by the code in the line itself
ENDS = MappingProxyType(
    {
        "SC": "H21",  # every dyno that was tried refused
        "sC": "H19",  # connecting took longer than 5 s
        "sQ": "H19",
        "sH": "H12",  # no first byte within 30 s
        "SH": "H13",  # closed without an answer
        "PH": "H17",  # an answer that is no HTTP
        "SD": "H18",  # broke off within the answer
        "SL": "H18",
        "sD": "H15",  # no byte for too long
        "sL": "H15",
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
WITHOUT_DYNO = frozenset({"H10", "H14", "H20", "H80", "H81", "H99"})
#: the page is ours: of the dyno came nothing
OUR_PAGE = frozenset({"H12", "H13", "H15", "H17"})


def translate(line: str) -> tuple[int, LogLine] | None:
    """The app's slot and the router's line, of one line of the request log.

    None for a request that no app was asked, and for a line that was cut before it told so.
    """
    columns = line.split("\t", TABS)
    if len(columns) <= TABS or columns[11] == "-":
        return None
    accepted, total, receiving, queued, connecting, _, active = columns[:7]
    status, size, end, server, slot, code, frontend = columns[7:14]
    request_id, method, client, host, uri, forwarded = columns[14:]
    at = datetime.fromtimestamp(float(accepted) + max(int(total), 0) / 1000, UTC)
    if code == "-":
        code = _ending(end[:2], server, status)
    connect = int(connecting)
    service = int(active) - max(int(receiving), 0) - max(int(queued), 0) - max(connect, 0)
    begins = "at=info"
    if code:
        begins = f'{BEGINS.get(code, "at=error")} code={code} desc="{H_CODES[code]}"'
    if code in WITHOUT_DYNO:
        took = "dyno= connect= service= status=503 bytes="
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
            f"{took} protocol={'https' if frontend.endswith('~') else 'http'}"
        ),
    )


def _ending(end: str, server: str, status: str) -> str:
    if end == "--":
        return ""
    if status == "101" and end[1] in "DL":
        # A WebSocket ends when one of the two leaves; only silence is worth a word.
        return "H15" if end[0] in "sc" else ""
    code = ENDS.get(end, "")
    if code in ("H19", "H21") and server == "<NOSRV>":
        return "H99"  # its last dyno left between the look and the choice
    return code


def _shown_status(code: str, status: str) -> str:
    if code in ("H27", "H28"):
        return "499"
    return "503" if code else status


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


class Requests:
    """Receives HAProxy's request log. `app_of(slot)` says whose request it was."""

    def __init__(self, socket: Path, logs: Logs, app_of: Callable[[int], str | None]) -> None:
        self._socket = socket
        self._logs = logs
        self._app_of = app_of

    async def serve(self) -> None:
        """Listens until cancelled."""
        async with await sockets.listen(self._socket, lambda: _Stream(self)) as server:
            await server.serve_forever()

    def take(self, lines: list[bytes]) -> None:
        """Brings lines of the request log into the logs of their apps."""
        by_slot: dict[int, list[LogLine]] = {}
        for line in lines:
            translated = translate(line.decode(errors="replace"))
            if translated is not None:
                slot, text = translated
                by_slot.setdefault(slot, []).append(text)
        for slot, texts in by_slot.items():
            app_id = self._app_of(slot)
            if app_id is None:
                continue  # destroyed meanwhile, its log with it
            try:
                self._logs.append(app_id, texts)
            except errors.StoreFailed as error:
                log.warning("requests.lost", app=app_id, lines=len(texts), error=error.message)


class _Stream(asyncio.Protocol):
    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._requests.take(lines)

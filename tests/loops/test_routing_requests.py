"""The router's lines in an app's log, worded as Heroku words them."""

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deodar.adapters.haproxy.config import LOG_FORMAT
from deodar.loops.routing import requests
from deodar.model.log import LogLine
from deodar.store.logs import Logs

COLUMNS = {
    "accepted": "1772366400250",
    "total": "19",
    "receiving": "0",
    "queued": "0",
    "connecting": "1",
    "first": "17",
    "active": "19",
    "status": "200",
    "size": "13",
    "end": "--",
    "retries": "0",
    "server": "web.1-11111111",
    "slot": "app_0007",
    "code": "-",
    "frontend": "https",
    "version": "HTTP/1.1",
    "for any": "0",
    "for its own": "0",
    "note": "-",
    "id": "8601b555-6a83-4c12-8269-97c8e32cdb22",
    "method": "GET",
    "client": "204.204.204.204",
    "host": "example-app.localhost",
    "uri": "/?a=1",
    "fwd": "-",
}
ASKED = (
    'method=GET path="/?a=1" host=example-app.localhost '
    'request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd="204.204.204.204"'
)


def raw(**changes: str) -> str:
    columns = list((COLUMNS | changes).values())
    return "\t".join((" ".join((LOG_FORMAT, *columns[:-3])), *columns[-3:]))


def text(**changes: str) -> str:
    translated = requests.translate(raw(**changes))
    assert translated is not None
    return translated[1].text


def test_a_line_tells_the_app_when_and_what() -> None:
    assert requests.translate(raw()) == (
        7,
        LogLine(
            at=datetime(2026, 3, 1, 12, 0, 0, 269000, tzinfo=UTC),
            source="heroku",
            dyno="router",
            text=f"at=info {ASKED} dyno=web.1 connect=1ms service=18ms status=200 bytes=13 protocol=http1.1 tls=true",
        ),
    )


def test_a_request_that_woke_its_app_says_how_deep_that_slept_and_for_how_long_it_was_held() -> (
    None
):
    assert text(note="frozen:12").endswith(" tls=true wake=frozen wake_ms=12")


def test_who_is_to_wake_nobody_does_not_count_as_asking() -> None:
    unanswered = raw(note="quiet", status="503", end="LR", server="<NOSRV>", connecting="-1")

    assert [requests.keeps_awake(line) for line in (raw(), raw(note="quiet"), "cut")] == [
        True,
        False,
        False,
    ]
    told = requests.translate(unanswered)
    assert told is not None
    assert told[1].text.startswith(f"at=info {ASKED} dyno= connect= service= status=503")


UNANSWERED = {"server": "<NOSRV>", "connecting": "-1", "first": "-1", "status": "503"}
NOBODY = "dyno= connect= service= status=503 bytes= protocol=http1.1 tls=true"


@pytest.mark.parametrize(
    ("changes", "begins", "took"),
    [
        ({**UNANSWERED, "code": "H10"}, 'at=error code=H10 desc="App crashed"', NOBODY),
        (
            {"end": "sH", "status": "504", "first": "-1", "active": "30001", "size": "900"},
            'at=error code=H12 desc="Request timeout"',
            "dyno=web.1 connect=1ms service=30000ms status=503 bytes=0 protocol=http1.1 tls=true",
        ),
        (
            {"end": "SH", "status": "502", "first": "-1", "size": "900"},
            'at=error code=H13 desc="Connection closed without response"',
            "dyno=web.1 connect=1ms service=18ms status=503 bytes=0 protocol=http1.1 tls=true",
        ),
        (
            {**UNANSWERED, "code": "H14"},
            'at=error code=H14 desc="No web processes running"',
            NOBODY,
        ),
        (
            {"end": "SD"},
            'sock=backend at=error code=H18 desc="Server Request Interrupted"',
            "dyno=web.1 connect=1ms service=18ms status=503 bytes=13 protocol=http1.1 tls=true",
        ),
        (
            {"end": "sC", "connecting": "-1", "status": "503", "active": "5001"},
            'at=error code=H19 desc="Backend connection timeout"',
            "dyno=web.1 connect= service= status=503 bytes= protocol=http1.1 tls=true",
        ),
        ({**UNANSWERED, "code": "H20"}, 'at=error code=H20 desc="App boot timeout"', NOBODY),
        (
            {"end": "SC", "connecting": "-1", "status": "503"},
            'at=error code=H21 desc="Backend connection refused"',
            "dyno=web.1 connect= service= status=503 bytes= protocol=http1.1 tls=true",
        ),
        (
            {"end": "CH", "status": "400", "size": "0"},
            'sock=client at=warning code=H27 desc="Client Request Interrupted"',
            "dyno=web.1 connect=1ms service=18ms status=499 bytes=0 protocol=http1.1 tls=true",
        ),
        ({**UNANSWERED, "end": "LR"}, 'at=error code=H11 desc="Backlog too deep"', NOBODY),
        (
            {**UNANSWERED, "code": "H22"},
            'at=error code=H22 desc="Connection limit reached"',
            NOBODY,
        ),
        (
            {"end": "KD"},
            'at=error code=H24 desc="Forced close"',
            "dyno=web.1 connect=1ms service=18ms status=503 bytes=13 protocol=http1.1 tls=true",
        ),
        (
            {"end": "PH", "status": "400"},
            'at=error code=H26 desc="Request Error"',
            "dyno=web.1 connect=1ms service=18ms status=400 bytes=13 protocol=http1.1 tls=true",
        ),
        (
            {"end": "PD", "status": "400"},
            'at=error code=H26 desc="Request Error"',
            "dyno=web.1 connect=1ms service=18ms status=400 bytes=13 protocol=http1.1 tls=true",
        ),
        (
            {**UNANSWERED, "code": "H31"},
            'at=error code=H31 desc="Misdirected Request"',
            "dyno= connect= service= status=421 bytes= protocol=http1.1 tls=true",
        ),
        (
            {**UNANSWERED, "code": "H34"},
            'at=error code=H34 desc="All up dynos are quarantined"',
            NOBODY,
        ),
        (
            {**UNANSWERED, "end": "SC", "retries": "+1"},
            'at=error code=H21 desc="Backend connection refused"',
            "dyno= connect= service= status=503 bytes= protocol=http1.1 tls=true",
        ),
        ({**UNANSWERED, "code": "H80"}, 'at=info code=H80 desc="Maintenance mode"', NOBODY),
        ({**UNANSWERED, "code": "H81"}, 'at=info code=H81 desc="Blank app"', NOBODY),
        ({**UNANSWERED, "end": "SC"}, 'at=error code=H99 desc="Platform error"', NOBODY),
        (
            {"end": "CD", "status": "101"},
            "at=info",
            "dyno=web.1 connect=1ms service=18ms status=101 bytes=13 protocol=http1.1 tls=true",
        ),
        (
            {"end": "sD", "status": "101"},
            'at=error code=H15 desc="Idle connection"',
            "dyno=web.1 connect=1ms service=18ms status=503 bytes=0 protocol=http1.1 tls=true",
        ),
        (
            {**UNANSWERED, "end": "LR", "status": "414", "size": "80"},
            "at=info",
            "dyno= connect= service= status=414 bytes=80 protocol=http1.1 tls=true",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_how_a_request_ended_is_told_as_heroku_does(
    changes: dict[str, str], begins: str, took: str
) -> None:
    assert text(**changes) == f"{begins} {ASKED} {took}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"frontend": "http"}, "protocol=http1.1 tls=false"),
        ({"version": "HTTP/2.0"}, "protocol=http2.0 tls=true"),
        ({"version": "HTTP/1.0"}, "protocol=http1.0 tls=true"),
        ({"queued": "35", "for any": "4"}, "tls=true queue=35ms queue_depth=4"),
        ({"queued": "35", "for its own": "1"}, "tls=true queue=35ms queue_depth=1"),
        ({"queued": "1200"}, "tls=true queue=1200ms"),
        ({"uri": "https://example-app.localhost/a/b?c"}, 'path="/a/b?c" '),
        ({"uri": "https://example-app.localhost"}, 'path="/" '),
        ({"uri": "*"}, 'path="*" '),
        ({"fwd": "192.0.2.1, 204.204.204.204"}, 'fwd="192.0.2.1, 204.204.204.204" '),
    ],
)
def test_a_line_tells_how_it_was_asked(changes: dict[str, str], told: str) -> None:
    assert f" {told}" in f" {text(**changes)} "


def test_the_time_a_request_was_held_is_not_the_dynos() -> None:
    assert "connect=1ms service=18ms" in text(receiving="800", total="819", active="819")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('1.2.3.4" dyno=web.9', "1.2.3.4%22 dyno=web.9"),
        ("1.2.3.4\tapp_0001\t-", "1.2.3.4?app_0001?-"),
        ("\x1b[2J", "?[2J"),
    ],
)
def test_a_client_cannot_forge_a_line(given: str, told: str) -> None:
    assert re.search(r'fwd="(.*)" dyno=web.1 connect', text(fwd=given))[1] == told  # type: ignore[index]


@pytest.mark.parametrize(
    "line",
    [
        raw(slot="-"),
        "",
        "3 1772366400250 19 0 0",
        # as versions before wrote it: no word of the format; tabs
        raw().removeprefix("3 "),
        raw().replace("3 ", "2 ", 1).replace(" ", "\t"),
    ],
)
def test_a_request_that_no_app_was_asked_is_in_no_log(line: str) -> None:
    assert requests.translate(line) is None


async def read(file: Path, logs: Logs) -> None:
    """A reader's life: it reads all there is, and is killed."""
    reader = requests.Requests(
        file, logs, lambda slot: "shop" if slot == 7 else None, saw=lambda app, at: None
    )
    task = asyncio.create_task(reader.serve())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def paths(logs: Logs) -> list[str]:
    lines, _ = await logs.last("shop", 1000)
    return [re.search(r'path="/(\w+)"', line.text)[1] for line in lines]  # type: ignore[index]


async def test_lines_are_told_once_whether_or_not_somebody_was_there(tmp_path: Path) -> None:
    file, logs = tmp_path / "requests.log", Logs(tmp_path / "logs")
    file.write_text(raw(uri="/a") + "\n" + raw(uri="/b") + "\n" + raw(uri="/c")[:30])
    await read(file, logs)
    with file.open("a") as haproxy:
        haproxy.write(raw(uri="/c")[30:] + "\n" + raw(uri="/d", slot="app_0002") + "\n")
    await read(file, logs)

    assert await paths(logs) == ["a", "b", "c"]


async def test_what_was_told_before_a_kill_but_not_marked_is_not_told_again(tmp_path: Path) -> None:
    file, logs = tmp_path / "requests.log", Logs(tmp_path / "logs")
    file.write_text(raw(uri="/a") + "\n")
    await read(file, logs)
    early = (tmp_path / "requests.mark").read_text()
    with file.open("a") as haproxy:
        haproxy.write(raw(uri="/b") + "\n")
    await read(file, logs)
    (tmp_path / "requests.mark").write_text(early)
    logs.close()
    again = Logs(tmp_path / "logs")
    await read(file, again)

    assert await paths(again) == ["a", "b"]


async def test_a_file_that_was_deleted_is_read_from_its_beginning(tmp_path: Path) -> None:
    file, logs = tmp_path / "requests.log", Logs(tmp_path / "logs")
    file.write_text(raw(uri="/a") + "\n" + raw(uri="/b") + "\n")
    await read(file, logs)
    file.unlink()
    file.write_text(raw(uri="/c") + "\n")
    await read(file, logs)

    assert await paths(logs) == ["a", "b", "c"]

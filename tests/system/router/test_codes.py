"""Every H code of the router, by its own cause: what the client sees and what the app's log tells."""

import asyncio
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from deodar.adapters.haproxy.table import Server, Tuning
from tests.system.router.harness import (
    Answer,
    App,
    Connection,
    Router,
    drain,
    hello,
    running,
    saying,
)

PAGE = b"Application error"


def asked(app: App, *, method: str = "GET") -> str:
    return (
        rf'method={method} path="/" host={re.escape(app.host)} request_id=\S{{36}} fwd="127.0.0.1"'
    )


TOOK = r"connect=\d+ms service=\d+ms"
NOBODY = r"dyno= connect= service= status=503 bytes="
HTTP = r"protocol=http1.1 tls=false"


async def silent(connection: Connection) -> None:
    """Takes a request and says nothing."""
    await connection.body(await connection.head())
    await connection.some()


@dataclass
class Long:
    """Requests that last as long as the platform lets them, begun before all other tests."""

    silence: App
    upload: App
    pause: App
    clients: list[socket.socket]


@pytest.fixture(scope="module", autouse=True)
def long(router: Router) -> Iterator[Long]:
    async def pausing(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await asyncio.sleep(31)
        await connection.send(b"b")

    silence, upload, pause = router.app(silent), router.app(silent), router.app(pausing)
    with ExitStack() as stack:
        clients = [stack.enter_context(router.connect()) for _ in range(3)]
        end = "Connection: close\r\n\r\n"
        clients[0].sendall(f"GET / HTTP/1.1\r\nHost: {silence.host}\r\n{end}".encode())
        clients[1].sendall(
            f"POST / HTTP/1.1\r\nHost: {upload.host}\r\nContent-Length: 5\r\n{end}hello".encode()
        )
        clients[2].sendall(f"GET / HTTP/1.1\r\nHost: {pause.host}\r\n{end}".encode())
        yield Long(silence, upload, pause, clients)


def told(app: App, code: str, answer: Answer, page: bytes = PAGE) -> None:
    """The app's own code is what answers."""
    assert (answer.status, page in answer.body) == (503, True)
    assert answer.headers["cache-control"] == "no-cache, no-store"
    assert code in app.line()


@pytest.mark.parametrize(
    ("code", "words", "page"),
    [
        ("H10", 'at=error code=H10 desc="App crashed"', PAGE),
        ("H14", 'at=error code=H14 desc="No web processes running"', PAGE),
        ("H80", 'at=info code=H80 desc="Maintenance mode"', b"Offline for maintenance"),
        ("H81", 'at=info code=H81 desc="Blank app"', b"Welcome to your new app!"),
    ],
)
def test_a_code_that_the_loop_shows_answers_instead_of_the_dynos(
    router: Router, code: str, words: str, page: bytes
) -> None:
    app = router.app(hello)
    router.call(router.haproxy.runtime.set_code(app.slot, code))

    answer = app.ask()

    told(app, code, answer, page)
    assert re.fullmatch(f"{words} {asked(app)} {NOBODY} {HTTP}", app.line())
    assert app.dyno.sent == b""


@pytest.mark.parametrize(
    ("said", "code", "desc"),
    [("H20", "H20", "App boot timeout"), ("H99", "H99", "Platform error")],
)
def test_a_held_request_shows_what_the_control_plane_says(
    router: Router, said: str, code: str, desc: str
) -> None:
    app = router.app()
    router.answers[app.slot] = said

    answer = app.ask()

    told(app, code, answer)
    assert re.fullmatch(
        f'at=error code={code} desc="{desc}" {asked(app)} {NOBODY} {HTTP}( queue=\\d+ms)?',
        app.line(),
    )


def test_more_requests_than_may_wait_are_h11(router: Router) -> None:
    app = router.app(silent, tuning=Tuning(concurrency=1, queue=1))
    request = f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode()

    with ExitStack() as stack:
        for waiting in range(3):  # one is with the dyno, two wait: the second is one too many
            client = stack.enter_context(router.connect())
            client.sendall(request)
            app.await_queue(waiting)
        answer = app.ask()

    told(app, "H11", answer)
    line = app.line()
    assert re.fullmatch(
        f'at=error code=H11 desc="Backlog too deep" {asked(app)} {NOBODY} {HTTP}', line
    )


def test_the_backlog_of_an_app_that_wishes_nothing_is_bounded_too(router: Router) -> None:
    """The only dyno has room for 1000 and 201 may wait: nobody else's connections are used up."""
    app = router.app(silent)
    request = f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode()

    with ExitStack() as stack:
        for _ in range(1000 + 201):
            client = stack.enter_context(router.connect())
            client.sendall(request)
        app.await_queue(201)
        answer = app.ask()

    assert answer.status == 503
    assert b"<code>H11</code>" in answer.body
    assert "code=H11" in app.line()


def test_who_had_to_wait_for_a_dyno_is_told_how_long_and_behind_how_many(router: Router) -> None:
    ready = asyncio.Event()

    async def one_by_one(connection: Connection) -> None:
        while True:
            await connection.head()
            await ready.wait()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app = router.app(one_by_one, tuning=Tuning(concurrency=1))
    request = f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode()
    with router.connect() as first, router.connect() as second:
        first.sendall(request)
        app.await_sessions(1)
        second.sendall(request)
        app.await_queue(1)
        time.sleep(0.02)
        router.call(set_event(ready))
        answers = [drain(first), drain(second)]

    assert all(answer.endswith(b"ok") for answer in answers)
    lines = app.await_lines(2)
    assert re.search(
        r" status=200 bytes=\d+ protocol=http1.1 tls=false queue=\d+ms queue_depth=1$", lines[1]
    )


async def set_event(event: asyncio.Event) -> None:
    event.set()


def test_no_first_byte_in_time_is_h12(router: Router) -> None:
    app = router.app(silent, tuning=Tuning(first=1))

    answer = app.ask()

    told(app, "H12", answer)
    line = app.line()
    assert re.fullmatch(
        f'at=error code=H12 desc="Request timeout" {asked(app)} dyno=web.1 {TOOK} status=503 '
        f"bytes=0 {HTTP}",
        line,
    )
    assert 1000 <= int(re.search(r"service=(\d+)ms", line)[1]) < 30_000  # type: ignore[index]


def test_a_dyno_that_closes_without_a_word_is_h13(router: Router) -> None:
    app = router.app(saying(b""))

    answer = app.ask()

    told(app, "H13", answer)
    assert re.fullmatch(
        f'at=error code=H13 desc="Connection closed without response" {asked(app)} dyno=web.1 '
        f"{TOOK} status=503 bytes=0 {HTTP}",
        app.line(),
    )


def test_a_silence_within_an_answer_is_h15(router: Router) -> None:
    app = router.app(
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", close=False),
        tuning=Tuning(idle=1),
    )

    with router.connect() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode())
        answer = Answer.parse(drain(client))

    assert (answer.status, answer.body) == (200, b"hello")
    assert re.fullmatch(
        f'at=error code=H15 desc="Idle connection" {asked(app)} dyno=web.1 {TOOK} status=503 '
        f"bytes=0 {HTTP}",
        app.line(),
    )


def test_a_silent_websocket_is_h15(router: Router) -> None:
    app = router.app(
        saying(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            close=False,
        ),
        tuning=Tuning(idle=1),
    )

    with router.connect() as client:
        client.sendall(
            f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        drain(client)

    assert app.line().startswith('at=error code=H15 desc="Idle connection" ')


def test_an_answer_that_breaks_off_is_h18(router: Router) -> None:
    app = router.app(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"))

    answer = app.ask()

    assert answer.body == b"hello"
    assert re.fullmatch(
        f'sock=backend at=error code=H18 desc="Server Request Interrupted" {asked(app)} dyno=web.1 '
        rf"{TOOK} status=503 bytes=\d+ {HTTP}",
        app.line(),
    )


@pytest.fixture
def deaf() -> Iterator[Server]:
    """A port that neither takes nor refuses a connection: its backlog is full."""
    with socket.socket() as listener, ExitStack() as others:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        yield Server(name="web.1-deafdeaf", address="127.0.0.1", port=listener.getsockname()[1])


def test_a_dyno_that_takes_no_connection_in_five_seconds_is_h19_and_then_h34(
    router: Router, deaf: Server
) -> None:
    """The first request finds out; whoever comes later waits a while for one that recovers."""
    app = router.app()
    router.call(router.haproxy.runtime.add(app.slot, deaf))
    router.answers[app.slot] = "ok"

    first = app.ask()
    second = app.ask()

    assert (first.status, second.status) == (503, 503)
    lines = app.await_lines(2)
    assert re.match(
        f'at=error code=H19 desc="Backend connection timeout" {asked(app)} dyno=(web.1)? connect= '
        f"service= status=503 bytes= {HTTP}",
        lines[0],
    )
    assert re.match(
        f'at=error code=H34 desc="All up dynos are quarantined" {asked(app)} {NOBODY} {HTTP}',
        lines[1],
    )


def test_a_dyno_that_refuses_is_h21(router: Router) -> None:
    app = router.app()
    router.call(router.haproxy.runtime.add(app.slot, refusing()))

    answer = app.ask()

    told(app, "H21", answer)
    assert re.match(
        f'at=error code=H21 desc="Backend connection refused" {asked(app)} dyno=(web.1)? connect= '
        f"service= status=503 bytes= {HTTP}",
        app.line(),
    )


def refusing(name: str = "web.1-feedfeed") -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Server(name=name, address="127.0.0.1", port=probe.getsockname()[1])


def test_where_one_dyno_refuses_another_answers_and_the_first_is_left_alone(
    router: Router,
) -> None:
    app = router.app(hello)
    router.call(router.haproxy.runtime.add(app.slot, refusing("web.2-feedfeed")))

    answers = [app.ask() for _ in range(20)]

    assert {answer.status for answer in answers} == {200}
    assert all(" dyno=web.1 " in line for line in app.await_lines(20))


def test_a_dyno_that_recovers_is_asked_again_and_nobody_who_waited_is_lost(
    router: Router,
) -> None:
    app = router.app(tuning=Tuning(quarantine=1))
    server = refusing()
    router.call(router.haproxy.runtime.add(app.slot, server))
    router.answers[app.slot] = "ok"
    assert app.ask().status == 503

    with router.connect() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode())
        app.recover(server, hello)
        answer = Answer.parse(drain(client))

    assert (answer.status, answer.body) == (200, b"hello")


def test_a_request_that_a_dyno_may_have_begun_is_not_given_to_another(router: Router) -> None:
    app = router.app(saying(b""), saying(b""))

    answer = app.ask("POST / HTTP/1.1", "Content-Length: 5", body=b"hello")

    assert answer.status == 503
    assert sum(len(dyno.received) for dyno in app.dynos) == 1


def test_the_last_connections_are_told_h22() -> None:
    with running(connections=60) as router:
        app = router.app(silent)
        request = f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode()
        with ExitStack() as stack:
            for _ in range(55):
                stack.enter_context(router.connect()).sendall(request)
            app.await_sessions(55)
            answer = app.ask()

        told(app, "H22", answer)
        assert re.fullmatch(
            f'at=error code=H22 desc="Connection limit reached" {asked(app)} {NOBODY} {HTTP}',
            app.line(),
        )


def test_a_request_that_outlasts_its_dyno_is_h24(router: Router) -> None:
    app = router.app(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", close=False))

    with router.connect() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode())
        heard = b""
        while not heard.endswith(b"hello"):
            heard += client.recv(1000)
        router.call(router.haproxy.runtime.cut(app.slot, app.dyno.name))
        drain(client)

    assert re.fullmatch(
        f'at=error code=H24 desc="Forced close" {asked(app)} dyno=web.1 {TOOK} status=503 '
        rf"bytes=\d+ {HTTP}",
        app.line(),
    )


def test_an_expectation_that_nobody_can_meet_is_h26(router: Router) -> None:
    app = router.app(silent)

    answer = app.ask("POST / HTTP/1.1", "Expect: 200-ok", "Content-Length: 0")

    assert answer.status == 417
    assert re.fullmatch(
        f'at=error code=H26 desc="Request Error" {asked(app, method="POST")} dyno= connect= service= '
        f"status=417 bytes=\\d+ {HTTP}",
        app.line(),
    )


def test_a_body_that_turns_out_to_be_none_is_h26(router: Router) -> None:
    app = router.app(silent)

    with router.connect() as client:
        client.sendall(
            f"POST / HTTP/1.1\r\nHost: {app.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\n".encode()
        )
        app.until(lambda: b"hello" in app.dyno.sent)
        client.sendall(b"not a size\r\n")
        answer = Answer.parse(drain(client))

    assert answer.status == 400
    assert re.fullmatch(
        f'at=error code=H26 desc="Request Error" {asked(app, method="POST")} dyno=web.1 {TOOK} '
        f"status=400 bytes=\\d+ {HTTP}",
        app.line(),
    )


def test_a_client_that_leaves_is_h27(router: Router) -> None:
    app = router.app(silent)

    with router.connect() as client:
        client.sendall(
            f"POST / HTTP/1.1\r\nHost: {app.host}\r\nContent-Length: 9\r\n\r\nhello".encode()
        )
        app.await_sessions(1)

    assert re.fullmatch(
        f'sock=client at=warning code=H27 desc="Client Request Interrupted" {asked(app, method="POST")} '
        rf"dyno=web.1 {TOOK} status=499 bytes=\d+ {HTTP}",
        app.line(),
    )


def test_over_a_connection_for_one_host_another_that_is_none_is_h31(router: Router) -> None:
    app = router.app(hello)

    with router.connect(tls=app.host) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n")
        answer = Answer.parse(drain(client))

    assert (answer.status, answer.body) == (421, b"Misdirected request.\n")
    assert re.fullmatch(
        r'at=error code=H31 desc="Misdirected Request" method=GET path="/" host=nobody.localhost '
        r'request_id=\S{36} fwd="127.0.0.1" dyno= connect= service= status=421 bytes= '
        "protocol=http1.1 tls=true",
        app.line(),
    )


# ----- pages of the app's own -----------------------------------------------------------------------

OWN = Tuning(
    first=1,
    error_page="https://example.com/error?a=1&b=2",
    maintenance_page="https://example.com/later",
)
ERROR = b'<iframe src="https://example.com/error?a=1&b=2"></iframe>'
LATER = b'<iframe src="https://example.com/later"></iframe>'


@pytest.mark.parametrize("code", ["H10", "H14"])
def test_an_app_has_its_own_error_page_for_what_the_loop_shows(router: Router, code: str) -> None:
    app = router.app(hello, tuning=OWN)
    router.call(router.haproxy.runtime.set_code(app.slot, code))

    answer = app.ask()

    assert (answer.status, ERROR in answer.body) == (503, True)


@pytest.mark.parametrize(
    ("script", "code"),
    [(silent, "H12"), (saying(b""), "H13"), (saying(b"hello\r\n\r\n"), "H17")],
    ids=["H12", "H13", "H17"],
)
def test_an_app_has_its_own_error_page_for_what_its_dyno_does(
    router: Router, script: Callable[[Connection], object], code: str
) -> None:
    app = router.app(script, tuning=OWN)  # type: ignore[arg-type]

    answer = app.ask()

    assert (answer.status, ERROR in answer.body) == (503, True)
    assert "x-router-error" not in answer.headers
    assert f"code={code}" in app.line()
    assert " status=503 " in app.line()


def test_an_app_has_its_own_maintenance_page(router: Router) -> None:
    app = router.app(hello, tuning=OWN)
    router.call(router.haproxy.runtime.set_code(app.slot, "H80"))

    answer = app.ask()

    assert (answer.status, LATER in answer.body) == (503, True)


def test_an_error_that_is_the_dynos_own_is_left_alone(router: Router) -> None:
    app = router.app(saying(b"HTTP/1.1 504 Mine\r\nContent-Length: 4\r\n\r\nmine"), tuning=OWN)

    answer = app.ask()

    assert (answer.status, answer.body) == (504, b"mine")


# ----- what else an app may wish --------------------------------------------------------------------


def test_who_asks_by_http_is_sent_to_https(router: Router) -> None:
    app = router.app(hello, tuning=Tuning(https_only=True))

    answer = app.ask("GET /a?b=c HTTP/1.1")
    with router.connect(tls="localhost") as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode())
        over_tls = Answer.parse(drain(client))

    place = f"https://{app.host}:{router.settings.ports.https}/a?b=c"
    assert (answer.status, answer.headers["location"]) == (301, place)
    assert over_tls.body == b"hello"


def test_a_client_stays_with_its_dyno_until_that_leaves(router: Router) -> None:
    app = router.app(hello, hello, tuning=Tuning(affinity=True))

    first = app.ask()
    cookie = first.headers["set-cookie"]
    value = cookie.partition(";")[0]
    again = [app.ask("GET / HTTP/1.1", f"Cookie: a=b; {value}") for _ in range(8)]

    assert re.fullmatch(r"heroku-session-affinity=[0-9a-f]{8}; path=/; HttpOnly", cookie)
    assert all("set-cookie" not in answer.headers for answer in again)
    mine = next(dyno for dyno in app.dynos if dyno.name.endswith(value.partition("=")[2]))
    assert [len(re.findall(b"GET", dyno.sent)) for dyno in app.dynos if dyno is mine] == [9]

    router.call(router.haproxy.runtime.drain(app.slot, mine.name))
    moved = app.ask("GET / HTTP/1.1", f"Cookie: {value}")

    assert moved.status == 200
    assert moved.headers["set-cookie"] != cookie


def test_the_dyno_with_the_fewest_requests_is_asked(router: Router) -> None:
    app = router.app(silent, hello, tuning=Tuning(least=True))
    request = f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode()

    with ExitStack() as stack:
        while not app.dynos[0].sent:
            stack.enter_context(router.connect()).sendall(request)
            time.sleep(0.005)
        before = len(app.dynos[0].received)
        answers = [app.ask() for _ in range(10)]

    assert {answer.status for answer in answers} == {200}
    assert len(app.dynos[0].received) == before


def test_a_wish_takes_effect_while_requests_run_and_none_is_lost(router: Router) -> None:
    ready = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.head()
        await ready.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    app = router.app(slow)
    with router.connect() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode())
        app.await_sessions(1)
        router.call(router.haproxy.runtime.tune(app.slot, Tuning(affinity=True)))
        seen = router.call(router.haproxy.runtime.slot(app.slot))
        router.call(set_event(ready))
        running = Answer.parse(drain(client))
    after = app.ask()

    assert [(each.mode.value, each.sessions) for each in seen.servers.values()] == [("ready", 1)]
    assert running.body == b"hello"
    assert "heroku-session-affinity" in after.headers["set-cookie"]

    router.call(router.haproxy.runtime.tune(app.slot, Tuning()))
    assert "set-cookie" not in app.ask().headers


# ----- what must not use up the router --------------------------------------------------------------


def rss(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_gigabyte_is_uploaded_in_constant_memory(router: Router) -> None:
    size = 1 << 30

    async def swallow(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await connection.reader.read(1 << 20))
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    app = router.app(swallow)
    block = memoryview(bytes(1 << 20))
    before = rss(router.worker)
    most = 0
    with router.connect() as client:
        client.sendall(
            f"PUT / HTTP/1.1\r\nHost: {app.host}\r\nContent-Length: {size}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        for number in range(size // len(block)):
            client.sendall(block)
            if number % 64 == 0:
                most = max(most, rss(router.worker))
        answer = drain(client)

    assert answer.endswith(b"ok")
    assert most - before < 16 << 20


def test_clients_that_never_finish_their_request_do_not_keep_others_out(router: Router) -> None:
    app = router.app(hello)
    before = rss(router.worker)

    with ExitStack() as stack:
        for _ in range(1000):
            client = stack.enter_context(router.connect())
            client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nX-A: ".encode())
        answers = [app.ask() for _ in range(10)]
        more = rss(router.worker) - before

    assert {answer.status for answer in answers} == {200}
    assert len(app.dyno.received) >= 1
    assert more < 100 << 20  # a buffer of 16 KB each, and what belongs to it


# ----- the platform's own limits, last since they take their time -----------------------------------


@pytest.mark.parametrize(("number", "method"), [(0, "GET"), (1, "POST")])
def test_no_first_byte_within_thirty_seconds_is_h12(long: Long, number: int, method: str) -> None:
    app = (long.silence, long.upload)[number]

    answer = Answer.parse(drain(long.clients[number]))

    told(app, "H12", answer)
    service = re.fullmatch(
        f'at=error code=H12 desc="Request timeout" {asked(app, method=method)} dyno=web.1 '
        rf"connect=\d+ms service=(\d+)ms status=503 bytes=0 {HTTP}",
        app.line(),
    )
    assert service is not None
    assert int(service[1]) >= 29_900


def test_an_answer_that_has_begun_may_pause_for_longer(long: Long) -> None:
    answer = Answer.parse(drain(long.clients[2]))

    assert (answer.status, answer.body) == (200, b"ab")
    assert long.pause.line().startswith("at=info ")

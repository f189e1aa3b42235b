"""What a client is sent for what a dyno answered, byte by byte: the cases of Heroku's own router."""

import re
import time

import pytest

from tests.system.router.harness import Answer, Connection, Router, drain, hello, saying


@pytest.mark.parametrize(
    ("answered", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 200 Very Well Indeed\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 299 Odd\r\nContent-Length: 5\r\n\r\nhello", 299, b"hello"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", 404, b"hello"),
        (b"HTTP/1.1 503 Mine\r\nContent-Length: 5\r\n\r\nhello", 503, b"hello"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        # Until the dyno hangs up: so does the router.
        (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            200,
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
            200,
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        # Chunks win over a length, and two equal lengths are one.
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\n\r\n",
            200,
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            200,
            b"hello",
        ),
        # What follows the end of an answer was never asked for.
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
            200,
            b"hello",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 100, None),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            103,
            None,
        ),
    ],
    ids=lambda value: value[:60].decode() if isinstance(value, bytes) else str(value),
)
def test_an_answer_arrives_as_it_was_given(
    router: Router, answered: bytes, status: int, body: bytes | None
) -> None:
    app = router.app(saying(answered))

    answer = app.ask()

    assert answer.status == status
    if body is None:
        assert answer.body.endswith(b"\r\n\r\nok")
        assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in answer.raw
    else:
        assert answer.body == body


@pytest.mark.parametrize(
    "answered",
    [
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/11 200 OK\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX A: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\rX-B: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, cow\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 1001 + b"\r\n",
    ],
    ids=lambda value: value[:60].decode(),
)
def test_what_is_no_answer_is_h17(router: Router, answered: bytes) -> None:
    app = router.app(saying(answered))

    answer = app.ask()

    assert answer.status == 503
    assert b"Application error" in answer.body
    assert f"request_id={answer.headers['x-request-id']} " in app.line()
    assert re.fullmatch(
        rf'at=error code=H17 desc="Poorly formatted HTTP response" method=GET path="/" host={app.host} '
        r'request_id=\S{36} fwd="127.0.0.1" dyno=web.1 connect=\d+ms service=\d+ms status=503 bytes=0 '
        "protocol=http1.1 tls=false",
        app.line(),
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("X-A: 1", {"x-a": "1"}),
        ("Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2", {"set-cookie": "a=1; Path=/ & b=2"}),
        ("Set-Cookie: a=" + "a" * 8000, {"set-cookie": "a=" + "a" * 8000}),
        ("Location: http://example.com/", {"location": "http://example.com/"}),
        ("Server: mine\r\nDate: never", {"server": "mine", "date": "never"}),
        ("X-A: 1\r\n 2", {"x-a": "1   2"}),
        ("Connection: keep-alive", {}),
        ("Via: 1.0 mine", {"via": "1.0 mine & 1.1 heroku-router"}),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_headers_of_an_answer_arrive(router: Router, given: str, told: dict[str, str]) -> None:
    app = router.app(saying(f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{given}\r\n\r\n".encode()))

    raw = app.ask().raw

    found: dict[str, str] = {}
    for line in raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        found[name] = f"{found[name]} & {value}" if name in found else value
    assert re.fullmatch(r"\S{36}", found.pop("x-request-id"))
    assert found == {"content-length": "0", "via": "1.1 heroku-router"} | told


@pytest.mark.parametrize(
    "answered",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        # One that does not know what HEAD means.
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["length", "chunked", "neither", "a body"],
)
def test_head_is_answered_without_a_body(router: Router, answered: bytes) -> None:
    app = router.app(saying(answered))

    answer = app.ask("HEAD / HTTP/1.1")

    assert (answer.status, answer.body) == (200, b"")


def test_a_dyno_knows_that_its_client_speaks_http_1_0(router: Router) -> None:
    """Then it sends no chunks; HAProxy would not take them apart."""
    app = router.app(saying(b"HTTP/1.0 200 OK\r\n\r\nhello"))

    answer = app.ask("GET / HTTP/1.0")

    assert app.dyno.head.startswith(b"GET / HTTP/1.0\r\n")
    assert answer.body == b"hello"
    assert app.line().endswith("protocol=http1.0 tls=false")


def test_a_client_of_http_1_0_may_keep_its_connection(router: Router) -> None:
    app = router.app(hello)

    with router.connect() as client:
        for _ in range(2):
            client.sendall(
                f"GET / HTTP/1.0\r\nHost: {app.host}\r\nConnection: keep-alive\r\n\r\n".encode()
            )
            answer = Answer.parse(client.recv(65536))
            assert (answer.body, answer.headers["connection"]) == (b"hello", "keep-alive")


def test_a_connection_to_a_dyno_is_used_again(router: Router) -> None:
    app = router.app(hello)

    with router.connect() as client:
        for _ in range(3):
            client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode())
            assert client.recv(65536).endswith(b"hello")

    assert len(app.dyno.received) == 1


def test_a_dyno_that_wants_to_close_is_connected_to_anew(router: Router) -> None:
    app = router.app(
        saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
    )

    with router.connect() as client:
        for _ in range(2):
            client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\n\r\n".encode())
            assert client.recv(65536).endswith(b"hello")

    assert len(app.dyno.received) == 2


def test_an_event_stream_arrives_as_it_is_said(router: Router) -> None:
    async def events(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for word in (b"one", b"two"):
            await connection.send(b"data: %s\n\n" % word)
            # Only when the client has this one does it ask for the next, by a connection's byte.
            await connection.some()

    app = router.app(events)
    with router.connect() as client:
        client.sendall(
            f"POST / HTTP/1.1\r\nHost: {app.host}\r\nAccept: text/event-stream\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        heard = b""
        for word in (b"one", b"two"):
            while b"data: %s\n\n" % word not in heard:
                heard += client.recv(1000)
            client.sendall(b"1\r\n.\r\n")

    assert b"two" in heard


def test_a_large_answer_arrives_whole_at_a_client_that_is_slow_to_read(router: Router) -> None:
    size = 20_000_000
    app = router.app(
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size, close=False)
    )

    with router.connect() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode())
        while not app.dyno.sent:
            time.sleep(0.001)  # the dyno is asked, and the client has read nothing yet
        answer = drain(client)

    assert answer.count(b"x") >= size


def test_a_request_is_logged_as_heroku_does(router: Router) -> None:
    app = router.app(hello)

    app.ask("GET /a?b=c HTTP/1.1", "X-Request-ID: " + "a" * 20)

    assert re.fullmatch(
        rf'at=info method=GET path="/a\?b=c" host={app.host} request_id=a{{20}} fwd="127.0.0.1" '
        r"dyno=web.1 connect=\d+ms service=\d+ms status=200 bytes=\d+ protocol=http1.1 tls=false",
        app.line(),
    )

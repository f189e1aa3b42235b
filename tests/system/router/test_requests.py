"""What a dyno is sent for what a client sent, byte by byte: the cases of Heroku's own router."""

import re
from collections.abc import Callable

import pytest

from tests.system.router.harness import Connection, Router, drain, hello, saying

OURS = {
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
    "x-request-start",
}


@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        ("GET / HTTP/1.1", "GET / HTTP/1.1"),
        ("GET /a?b=c&d HTTP/1.1", "GET /a?b=c&d HTTP/1.1"),
        ("GET /%00%0d%0a HTTP/1.1", "GET /%00%0d%0a HTTP/1.1"),
        ("GET //a/../b HTTP/1.1", "GET //a/../b HTTP/1.1"),
        ("HEAD / HTTP/1.1", "HEAD / HTTP/1.1"),
        ("DELETE / HTTP/1.1", "DELETE / HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("TRACE / HTTP/1.1", "TRACE / HTTP/1.1"),
        ("PURGE / HTTP/1.1", "PURGE / HTTP/1.1"),
        ("get / HTTP/1.1", "get / HTTP/1.1"),
        ("GET / HTTP/1.0", "GET / HTTP/1.0"),
        # Newer minor versions are ours to understand, and 1.1 what we speak.
        ("GET / HTTP/1.2", "GET / HTTP/1.1"),
        ("GET  /  HTTP/1.1", "GET / HTTP/1.1"),
        ("GET /" + "a" * 8000 + " HTTP/1.1", "GET /" + "a" * 8000 + " HTTP/1.1"),
    ],
    ids=lambda line: line[:24],
)
def test_a_request_line_arrives_as_it_was_meant(router: Router, sent: str, arrived: str) -> None:
    app = router.app(hello)

    assert app.ask(sent).status == 200
    assert app.dyno.head.split(b"\r\n")[0].decode() == arrived


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: other.localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST, other.localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST/path\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@HOST\r\n\r\n", 400),
        (b"GET http://other.localhost/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET http://HOST/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/11\r\nHost: HOST\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b" GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: HOST\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nA: " + b"a" * 17_000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n" + b"A: 1\r\n" * 1000 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n: no name\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX-\xe9: 1\r\n\r\n", 400),
        (b"CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: HOST\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n", 417),
        (b"GET / HTTP/1.0\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n", 404),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_what_cannot_be_meant_is_refused_and_no_dyno_asked(
    router: Router, sent: bytes, status: int
) -> None:
    app = router.app(hello)

    answer = app.raw(sent)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert app.dyno.sent == b""


@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        ("X-A: 1", {"x-a": "1"}),
        ("X-A:1", {"x-a": "1"}),
        ("X-A: \t 1 \t ", {"x-a": "1"}),
        ("X-A:", {"x-a": ""}),
        ("x_a: 1", {"x_a": "1"}),
        ("X-A: 1\r\nX-B: 2\r\nX-A: 3", {"x-a": "1 & 3", "x-b": "2"}),
        ("X-A: 1\r\n 2\r\n\t3", {"x-a": "1   2  \t3"}),
        ("X-A: caf\xe9", {"x-a": "caf\xe9"}),
        ("Cookie: a=1; b=2", {"cookie": "a=1; b=2"}),
        ("Authorization: Basic YTpi", {"authorization": "Basic YTpi"}),
        ("X-A: " + "a" * 8100, {"x-a": "a" * 8100}),
        # For this hop alone.
        ("Connection: close", {}),
        ("Connection: close, X-A\r\nX-A: 1", {"x-a": "1"}),
        ("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive", {}),
        ("Proxy-Authorization: Basic YTpi", {}),
        (
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
            {"http2-settings": "AAMAAABk"},
        ),
        ("TE: trailers", {"te": "trailers"}),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_headers_arrive_as_they_were_sent_but_for_those_of_the_hop(
    router: Router, sent: str, arrived: dict[str, str]
) -> None:
    app = router.app(hello)

    app.ask("GET / HTTP/1.1", sent)

    told = {name: value for name, value in app.dyno.headers.items() if name not in OURS}
    assert told == arrived


def test_a_thousand_headers_pass(router: Router) -> None:
    app = router.app(hello)

    app.ask("GET / HTTP/1.1", *(f"A{number}: 1" for number in range(980)))

    assert sum(name.startswith("a") for name in app.dyno.headers) == 980


def test_a_dyno_is_told_who_asked_how_and_when(router: Router) -> None:
    app = router.app(hello)

    answer = app.ask()

    headers = app.dyno.headers
    assert re.fullmatch(r"\d{13}", headers.pop("x-request-start"))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", headers.pop("x-request-id"))
    assert headers == {
        "host": app.host,
        "via": "1.1 heroku-router",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-port": str(router.settings.ports.http),
        "x-forwarded-proto": "http",
    }
    assert answer.headers["via"] == "1.1 heroku-router"


def test_over_tls_the_dyno_is_told_so(router: Router) -> None:
    app = router.app(hello)

    with router.connect(tls="localhost") as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {app.host}\r\nConnection: close\r\n\r\n".encode())
        drain(client)

    headers = app.dyno.headers
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == (
        "https",
        str(router.settings.ports.https),
    )


@pytest.mark.parametrize(
    ("name", "value", "arrived"),
    [
        ("X-Forwarded-For", "192.0.2.1", "192.0.2.1, 127.0.0.1"),
        ("X-Forwarded-For", "192.0.2.1, 10.0.0.1", "192.0.2.1, 10.0.0.1, 127.0.0.1"),
        ("X-Forwarded-Proto", "https", "http"),
        ("X-Request-ID", "a" * 20, "a" * 20),
        ("X-Request-ID", "A+/=-" * 40, "A+/=-" * 40),
        ("Via", "1.0 proxy", "1.0 proxy & 1.1 heroku-router"),
    ],
)
def test_what_the_client_says_of_itself_is_kept_where_it_may_say_so(
    router: Router, name: str, value: str, arrived: str
) -> None:
    app = router.app(hello)

    app.ask("GET / HTTP/1.1", f"{name}: {value}")

    assert app.dyno.headers[name.lower()] == arrived


@pytest.mark.parametrize("name", ["X-Request-Start", "X-Forwarded-Port"])
def test_what_only_the_router_can_know_is_not_the_clients_to_say(router: Router, name: str) -> None:
    app = router.app(hello)

    app.ask("GET / HTTP/1.1", f"{name}: 1", f"{name}: 2")

    assert re.fullmatch(r"\d{4,}", app.dyno.headers[name.lower()])


@pytest.mark.parametrize("given", ["short", "x" * 201, "has spaces in its words", "a" * 20 + "_"])
def test_a_request_id_that_is_none_is_replaced(router: Router, given: str) -> None:
    app = router.app(hello)

    app.ask("GET / HTTP/1.1", f"X-Request-ID: {given}")

    assert re.fullmatch(r"[0-9a-f-]{36}", app.dyno.headers["x-request-id"])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "PURGE"])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 0", b""),
        ("Content-Length: 5", b"hello"),
        ("Content-Length: 100000", b"x" * 100_000),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["empty", "short", "long", "chunked"],
)
def test_a_body_arrives_whole_whatever_the_method(
    router: Router, method: str, framing: str, body: bytes
) -> None:
    app = router.app(hello)

    answer = app.ask(f"{method} / HTTP/1.1", framing, body=body)

    assert answer.body == b"hello"
    assert app.dyno.sent[len(app.dyno.head) :] == body
    name, value = framing.lower().split(": ")
    assert app.dyno.headers[name] == value


@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", b"hello!"),
        (b"5;name=value\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"0\r\n\r\n", b""),
    ],
    ids=["two", "extension", "zeros", "hexadecimal", "none"],
)
def test_chunks_arrive_with_their_bytes(router: Router, sent: bytes, arrived: bytes) -> None:
    app = router.app(hello)

    app.ask("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=sent)

    body = app.dyno.sent[len(app.dyno.head) :]
    assert unchunked(body) == arrived


def unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        whole += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return whole


def test_requests_on_one_connection_are_answered_in_turn(router: Router) -> None:
    app = router.app(hello)
    host = app.host.encode()

    with router.connect() as client:
        client.sendall(
            b"GET /1 HTTP/1.1\r\nHost: %s\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello"
            b"\r\nGET /3 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (host, host, host)
        )
        answers = drain(client)

    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert re.findall(rb"(?:GET|POST) /\d", app.dyno.sent) == [b"GET /1", b"POST /2", b"GET /3"]


def test_requests_on_one_connection_may_be_for_two_apps(router: Router) -> None:
    one, two = router.app(hello), router.app(hello)

    with router.connect() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {one.host}\r\n\r\n".encode())
        client.sendall(f"GET / HTTP/1.1\r\nHost: {two.host}\r\nConnection: close\r\n\r\n".encode())
        answers = drain(client)

    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert [app.dyno.headers["host"] for app in (one, two)] == [one.host, two.host]


@pytest.mark.parametrize(
    ("host", "finds"),
    [
        (str.upper, True),
        (lambda host: host + ":80", True),
        (lambda host: "www." + host, False),
        (lambda host: host + ".evil", False),
    ],
    ids=["upper case", "a port", "a name before it", "a name after it"],
)
def test_a_host_is_found_by_its_name_alone(
    router: Router, host: Callable[[str], str], finds: bool
) -> None:
    app = router.app(hello)

    answer = router.say(f"GET / HTTP/1.1\r\nHost: {host(app.host)}\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 200 " if finds else b"HTTP/1.1 404 ")


async def reluctant(connection: Connection) -> None:
    """Says that it wants the body, and takes it."""
    head = await connection.head()
    await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await connection.body(head)
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_who_waits_for_leave_to_send_a_body_is_given_it_by_the_dyno(router: Router) -> None:
    app = router.app(reluctant)

    with router.connect() as client:
        client.sendall(
            f"POST / HTTP/1.1\r\nHost: {app.host}\r\nExpect: 100-continue\r\n"
            "Content-Length: 5\r\nConnection: close\r\n\r\n".encode()
        )
        leave = client.recv(25)
        client.sendall(b"hello")
        answer = drain(client)

    assert leave == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.endswith(b"ok")


def test_a_dyno_may_decline_a_body_before_it_comes(router: Router) -> None:
    async def declining(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n")

    app = router.app(declining)

    with router.connect() as client:
        client.sendall(
            f"POST / HTTP/1.1\r\nHost: {app.host}\r\nExpect: 100-continue\r\n"
            "Content-Length: 5\r\n\r\n".encode()
        )
        answer = client.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert app.dyno.sent == app.dyno.head


async def switching(connection: Connection) -> None:
    """A WebSocket server, or whatever was wished, that says everything back in capitals."""
    await connection.head()
    await connection.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nwelcome "
    )
    while said := await connection.some():
        await connection.send(said.upper())


UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_a_websocket_goes_both_ways_until_one_side_leaves(router: Router) -> None:
    app = router.app(switching)

    with router.connect() as client:
        client.sendall(UPGRADE.format(app.host).encode())
        head = b""
        while not head.endswith(b"welcome "):
            head += client.recv(1)
        client.sendall(b"hello")
        echoed = client.recv(5)

    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert echoed == b"HELLO"
    assert app.dyno.headers["upgrade"] == "websocket"
    assert app.line().startswith("at=info method=GET ")
    assert " status=101 " in app.line()


def test_an_upgrade_that_a_dyno_declines_is_answered_as_it_declines(router: Router) -> None:
    app = router.app(saying(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"))

    answer = router.say(UPGRADE.format(app.host).encode())

    assert answer.startswith(b"HTTP/1.1 426 ")
    assert answer.endswith(b"no")

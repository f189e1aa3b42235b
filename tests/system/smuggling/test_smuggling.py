"""Request smuggling: whatever a client sends, a dyno is sent whole requests, each of them asked for.

Router and dyno must never read one stream of bytes in two ways. What arrived is read here by the
letter of the standard, so that no leniency of a test's own hides a second meaning.
"""

import re
import socket
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest

from tests.system.router.harness import Connection, Dyno, Router, drain, hello

Seen = list[tuple[str, bytes]]  #: request lines without the version, and bodies

SECOND = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def seen(dyno: Dyno) -> Seen:
    """Every request that a dyno was sent. Fails where the bytes are not requests and nothing else."""
    requests: Seen = []
    for connection in dyno.received:
        data = bytes(connection)
        while data:
            head, end, data = data.partition(b"\r\n\r\n")
            assert end, f"a head without an end: {head!r}"
            first, *lines = head.split(b"\r\n")
            assert re.fullmatch(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]", first), first
            headers: dict[bytes, bytes] = {}
            for line in lines:
                match = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ([^\x00\r\n]*)", line)
                assert match, f"no header: {line!r}"
                if match[1] in (b"content-length", b"transfer-encoding", b"host"):
                    assert match[1] not in headers, f"two of {match[1]!r}"
                headers[match[1]] = match[2]
            assert not {b"content-length", b"transfer-encoding"} <= headers.keys()
            body, data = framed(headers, data)
            requests.append((first.rpartition(b" ")[0].decode(), body))
    return requests


def framed(headers: dict[bytes, bytes], data: bytes) -> tuple[bytes, bytes]:
    """The body as its framing says, and what follows it."""
    if b"transfer-encoding" not in headers:
        length = headers.get(b"content-length", b"0")
        assert re.fullmatch(rb"\d+", length)
        return data[: int(length)], data[int(length) :]
    assert headers[b"transfer-encoding"] == b"chunked"
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        assert re.fullmatch(rb"[0-9a-fA-F]{1,8}", size), f"no chunk's size: {size!r}"
        if int(size, 16) == 0:
            _, _, data = (b"\r\n" + data).partition(b"\r\n\r\n")
            return body, data
        chunk, data = data[: int(size, 16)], data[int(size, 16) :]
        body += chunk
        if data:
            assert data.startswith(b"\r\n")
            data = data[2:]
    return body, data


async def naive(connection: Connection) -> None:
    """Answers each head at once, as a server that ignores bodies."""
    while True:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def post(framing: bytes, body: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST /first HTTP/%s\r\nHost: HOST\r\n%s\r\n\r\n%s" % (version, framing, body)


FIRST = "POST /first"
CHUNKED = b"Transfer-Encoding: chunked"
EMPTY = b"0\r\n\r\n"

REFUSED = [
    # A length that is none, or two.
    post(b"Content-Length: 5\r\nContent-Length: 6", b"hello!"),
    post(b"Content-Length: 6\r\nContent-Length: 5", b"hello!"),
    post(b"Content-Length: 5, 6", b"hello!"),
    post(b"Content-Length: 0\r\nContent-Length: 44", SECOND),
    post(b"Content-Length:\r\nContent-Length: 44", SECOND),
    post(b"Content-Length: ", SECOND),
    post(b"Content-Length: +5", b"hello"),
    post(b"Content-Length: -5", b"hello"),
    post(b"Content-Length: 0x5", b"hello"),
    post(b"Content-Length: 5.0", b"hello"),
    post(b"Content-Length: 5 a", b"hello"),
    post(b"Content-Length: five", b"hello"),
    post(b"Content-Length: 5;", b"hello"),
    post(b"Content-Length: \xb2", b"hello"),
    post(b"Content-Length: 18446744073709551621", b"hello"),
    post(b"Content-Length: 99999999999999999999999999", b"hello"),
    # A name that another reader may take for one.
    post(b"Content-Length : 5", b"hello"),
    post(b"Content-Length\t: 5", b"hello"),
    post(b"Content-\nLength: 5", b"hello"),
    post(b"Content-Length\x00: 5", b"hello"),
    post(b"Content-Length: 5\x00", b"hello"),
    post(b"Transfer-Encoding : chunked", EMPTY + SECOND),
    post(b"Transfer-Encoding\t: chunked", EMPTY + SECOND),
    post(b"Transfer-Encoding\x00: chunked", EMPTY + SECOND),
    post(b"Transfer\rEncoding: chunked", EMPTY + SECOND),
    b"POST /first HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: HOST\r\n\r\n" + EMPTY + SECOND,
    # An encoding that is not chunked, or not at its end, or not once.
    post(b"Transfer-Encoding: xchunked", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunkedx", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked, identity", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked, cow", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", EMPTY + SECOND),
    post(b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked, chunked", EMPTY + SECOND),
    post(b"Transfer-Encoding: gzip, chunked", EMPTY + SECOND),
    post(b"Transfer-Encoding: identity", EMPTY + SECOND),
    post(b'Transfer-Encoding: "chunked"', EMPTY + SECOND),
    post(b"Transfer-Encoding: 'chunked'", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked;a=b", EMPTY + SECOND),
    post(b"Transfer-Encoding: \x0bchunked", EMPTY + SECOND),
    post(b"Transfer-Encoding: \x0cchunked", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked\x00", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked\x0b", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked\x7f", EMPTY + SECOND),
    post(b"Transfer-Encoding: \xffchunked", EMPTY + SECOND),
    post(b"Transfer-Encoding:\rchunked", EMPTY + SECOND),
    post(b"Transfer-Encoding: chunked\r\r\nX: 1", EMPTY + SECOND),
    # Chunks in a version that has none.
    post(CHUNKED, EMPTY + SECOND, version=b"1.0"),
    post(CHUNKED + b"\r\nContent-Length: 5", EMPTY + SECOND, version=b"1.0"),
    # Heads whose lines have more than one end.
    b"POST /first HTTP/1.1\r\nHost: HOST\r\nX-A: 1\rContent-Length: 44\r\n\r\n" + SECOND,
    b"POST /first HTTP/1.1\r\nHost: HOST\r\nX-A: 1\x00\r\n\r\n" + SECOND,
    b"GET /first\rGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /first\x00 HTTP/1.1\r\nHost: HOST\r\n\r\n" + SECOND,
    # Two answers to whose request it is.
    b"GET http://other.localhost/first HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: HOST\r\nHost: other.localhost\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: other.localhost\r\nHost: HOST\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost : HOST\r\nHost: HOST\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: HOST other.localhost\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: HOST,other.localhost\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: other.localhost@HOST\r\n\r\n",
]


def name_of(payload: bytes) -> str:
    return repr(payload)[2:-1].replace("\\r\\nHost: HOST", "")[:70]


@pytest.mark.parametrize("payload", REFUSED, ids=name_of)
def test_what_has_two_meanings_is_refused(router: Router, payload: bytes) -> None:
    app = router.app(naive)

    answer = app.raw(payload)

    assert re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert seen(app.dyno) == []


#: bodies that break off in the midst of a chunk: the dyno has what came before, and no more
BROKEN = [
    post(CHUNKED, b"fffffffffffffffff\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"100000000000000005\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"-5\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"+5\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"0x5\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b" 5\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"5_0\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"g\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b";a\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"5\nhello\n0\n\n" + SECOND),
    post(CHUNKED, b"5\rXhello\r\n" + EMPTY),
    post(CHUNKED, b"5;a\nb\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"5;a\rb\r\nhello\r\n" + EMPTY),
    post(CHUNKED, b"5\r\nhelloXX" + EMPTY),
    post(CHUNKED, b"5\r\nhello\n" + EMPTY),
    post(CHUNKED, b"5\r\nhello" + EMPTY),
    post(CHUNKED, b"5\r\nhello!\r\n" + EMPTY),
    post(CHUNKED, b"0\r\nX\x00: 1\r\n\r\n" + SECOND),
    post(CHUNKED, b"0\r\nno colon\r\n\r\n" + SECOND),
]


@pytest.mark.parametrize("payload", BROKEN, ids=name_of)
def test_a_body_that_is_none_ends_the_connection(router: Router, payload: bytes) -> None:
    app = router.app(naive)

    answer = app.raw(payload)

    assert answer.count(b"HTTP/1.1 ") <= 1
    assert [line for line, _ in seen(app.dyno)] in ([], [FIRST])
    assert b"smuggled" not in app.dyno.sent


#: what has one meaning, and which; nothing that follows is taken for a second request's beginning
MEANT: list[tuple[bytes, Seen]] = [
    # Chunks win over a length, whatever it says; the connection ends with the request.
    (post(CHUNKED + b"\r\nContent-Length: 6", EMPTY + SECOND), [(FIRST, b"")]),
    (post(b"Content-Length: 6\r\n" + CHUNKED, EMPTY + SECOND), [(FIRST, b"")]),
    (
        post(CHUNKED + b"\r\nContent-Length: 4", b"%x\r\n%s\r\n" % (len(SECOND), SECOND) + EMPTY),
        [(FIRST, SECOND)],
    ),
    (post(b"TRANSFER-ENCODING: CHUNKED", EMPTY), [(FIRST, b"")]),
    (post(b"Transfer-Encoding:chunked", EMPTY), [(FIRST, b"")]),
    (post(b"Transfer-Encoding: \t chunked \t ", EMPTY), [(FIRST, b"")]),
    (post(b"Transfer-Encoding:\r\n chunked", EMPTY), [(FIRST, b"")]),
    (post(b"Content-Length: 5\r\nContent-Length: 5", b"hello"), [(FIRST, b"hello")]),
    (post(b"Content-Length: 5, 5", b"hello"), [(FIRST, b"hello")]),
    (post(b"Content-Length: 05", b"hello"), [(FIRST, b"hello")]),
    (post(b"Content-Length: 5\r\nConnection: Content-Length", b"hello"), [(FIRST, b"hello")]),
    (post(CHUNKED + b"\r\nConnection: Transfer-Encoding", EMPTY), [(FIRST, b"")]),
    (post(b"Content-Length: %d" % len(SECOND), SECOND), [(FIRST, SECOND)]),
    (post(CHUNKED, b"5 \r\nhello\r\n" + EMPTY), [(FIRST, b"hello")]),
    (post(CHUNKED, b'5;a="b"\r\nhello\r\n' + EMPTY), [(FIRST, b"hello")]),
    (post(CHUNKED, b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), [(FIRST, b"hello")]),
    (post(CHUNKED, b"5\r\nhello\r\n0\r\nContent-Length: 44\r\n\r\n"), [(FIRST, b"hello")]),
    # A line that ends with LF alone is one line, and sent on with both.
    (b"POST /first HTTP/1.1\nHost: HOST\nContent-Length: 5\n\nhello", [(FIRST, b"hello")]),
    (b"POST /first HTTP/1.1\r\nHost: HOST\nContent-Length: 5\r\n\r\nhello", [(FIRST, b"hello")]),
    (
        b"\r\n\r\nPOST /first HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
        [(FIRST, b"hello")],
    ),
    (
        b"GET /first HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\n Content-Length: 44\r\n\r\n",
        [("GET /first", b"")],
    ),
    (
        b"GET /first HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
        [("GET /first", b"hello")],
    ),
]


@pytest.mark.parametrize(
    ("payload", "meant"),
    MEANT,
    ids=lambda value: name_of(value) if isinstance(value, bytes) else "",
)
def test_what_has_one_meaning_arrives_with_no_other(
    router: Router, payload: bytes, meant: Seen
) -> None:
    app = router.app(hello)

    answer = app.raw(payload)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert seen(app.dyno) == meant


def test_the_answer_to_one_client_is_never_anothers(router: Router) -> None:
    """The classic: what the first client leaves behind must not begin the second one's request."""
    app = router.app(naive)

    app.raw(post(CHUNKED + b"\r\nContent-Length: 6", EMPTY + b"GET /smuggled HTTP/1.1\r\nX: "))
    answer = app.ask("GET /second HTTP/1.1")

    assert answer.status == 200
    assert [line for line, _ in seen(app.dyno)] == [FIRST, "GET /second"]


# ----- HTTP/2, which has lengths and ends of its own ------------------------------------------------


def speak_h2(router: Router, headers: list[tuple[bytes, bytes]], body: bytes) -> str:
    """How the router answers these headers: a status, `reset`, or `closed`."""
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
    )
    with router.connect(tls="localhost", alpn=("h2",)) as client:
        connection.initiate_connection()
        connection.send_headers(1, headers, end_stream=not body)
        if body:
            connection.send_data(1, body, end_stream=True)
        client.sendall(connection.data_to_send())
        return answered(connection, client)


def answered(connection: h2.connection.H2Connection, client: socket.socket) -> str:
    with suppress(ConnectionError, h2.exceptions.ProtocolError):
        while data := client.recv(65536):
            for event in connection.receive_data(data):
                match event:
                    case h2.events.ResponseReceived(headers=headers):
                        return dict(headers)[b":status"].decode()
                    case h2.events.StreamReset():
                        return "reset"
                    case h2.events.ConnectionTerminated():
                        return "closed"
    return "closed"


def h2_post(*more: tuple[bytes, bytes], path: bytes = b"/first") -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"HOST"),
        (b":path", path),
        *more,
    ]


H2_REFUSED = [
    h2_post((b"content-length", b"3")),
    h2_post((b"content-length", b"500")),
    h2_post((b"content-length", b"5"), (b"content-length", b"6")),
    h2_post((b"content-length", b"-5")),
    h2_post((b"transfer-encoding", b"chunked")),
    h2_post((b"connection", b"close")),
    h2_post((b"keep-alive", b"1")),
    h2_post((b"upgrade", b"websocket")),
    h2_post((b"te", b"gzip")),
    h2_post((b"x-a", b"1\r\ntransfer-encoding: chunked")),
    h2_post((b"x-a", b"1\ntransfer-encoding: chunked")),
    h2_post((b"x-a", b"1\r2")),
    h2_post((b"x-a", b"1\x002")),
    h2_post((b"x-a: 1\r\ntransfer-encoding", b"chunked")),
    h2_post((b"x a", b"1")),
    h2_post((b"x:a", b"1")),
    h2_post((b"X-A", b"1")),
    h2_post((b"", b"1")),
    h2_post(path=b"/first HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: "),
    h2_post(path=b"/fi rst"),
    h2_post(path=b""),
    h2_post(path=b"first"),
    h2_post((b":path", b"/other")),
    [(b":method", b"POST /smuggled HTTP/1.1\r\nx:"), *h2_post()[1:]],
    [(b":method", b"PO ST"), *h2_post()[1:]],
    [*h2_post()[:2], (b":authority", b"HOST\r\nx: 1"), (b":path", b"/first")],
    [*h2_post()[:2], (b":authority", b"HOST other.localhost"), (b":path", b"/first")],
    [h2_post()[0], (b":scheme", b"https://other.localhost/?"), *h2_post()[2:]],
    h2_post()[1:],
    h2_post()[:3],
    [(b"x-a", b"1"), *h2_post()],
    h2_post((b":status", b"200")),
    h2_post((b":unknown", b"1")),
]


def named(headers: list[tuple[bytes, bytes]]) -> str:
    return "; ".join(
        repr(name + b"=" + value)[2:-1] for name, value in headers if (name, value) not in h2_post()
    )[:60]


@pytest.mark.parametrize("headers", H2_REFUSED, ids=named)
def test_what_http2_may_say_but_http1_would_read_otherwise_is_refused(
    router: Router, headers: list[tuple[bytes, bytes]]
) -> None:
    app = router.app(naive)
    host = app.host.encode()

    answer = speak_h2(
        router, [(name, value.replace(b"HOST", host)) for name, value in headers], b"hello"
    )

    assert answer in ("reset", "closed", "400", "404", "421", "502")
    assert b"smuggled" not in app.dyno.sent
    assert all(line == FIRST and body != b"hello" for line, body in seen(app.dyno))


def test_http2_arrives_as_one_request_with_its_body(router: Router) -> None:
    app = router.app(hello)
    named_twice = h2_post((b"host", b"other.localhost"), (b"x-a", b"1"))
    headers = [(name, value.replace(b"HOST", app.host.encode())) for name, value in named_twice]

    assert speak_h2(router, headers, SECOND) == "200"
    assert seen(app.dyno) == [(FIRST, SECOND)]
    assert app.dyno.headers["host"] == app.host
    assert app.line().endswith("protocol=http2.0 tls=true")


def test_an_upgrade_to_http2_in_the_clear_does_not_open_a_tunnel(router: Router) -> None:
    app = router.app(naive)

    with router.connect() as client:
        client.sendall(
            f"GET /first HTTP/1.1\r\nHost: {app.host}\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n".encode()
        )
        client.shutdown(socket.SHUT_WR)
        answer = drain(client)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nupgrade:" not in app.dyno.sent

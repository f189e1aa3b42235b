"""The ACME authority as our adapter asks it, against one that checks all that it is told."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import josepy
import pytest
from acme import jws
from cryptography.hazmat.primitives.asymmetric import ec
from josepy import jwa, jwk

from deodar.adapters import certificates
from deodar.adapters.acme import Authority, Issued, Later
from deodar.model import errors
from deodar.model.app import AppId
from deodar.model.certificate import AcmeAccount, Order
from tests.acme_server import AcmeServer, serve
from tests.web import free_ports

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOST = "www.example.com"


class Router:
    """Answers ACME as the router does: what it was told to."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.port = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        host = next(line[6:] for line in head.split("\r\n") if line.lower().startswith("host: "))
        said = self.answers.get(f"{host}{path}".lower(), "")
        status = "200 OK" if said else "404 Not Found"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\n".encode())
        writer.write(f"Connection: close\r\n\r\n{said}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    router = Router()
    server = await router.start()
    yield router
    server.close()


@pytest.fixture
def server(router: Router) -> AcmeServer:
    return AcmeServer(router.port)


@pytest.fixture
def trust(server: AcmeServer, tmp_path: Path) -> Iterator[Path]:
    with serve(server, tmp_path) as bundle:
        yield bundle


@pytest.fixture
def authority(server: AcmeServer, trust: Path) -> Authority:
    return Authority(server.url, email="owner@example.com", trust=trust)


@pytest.fixture
async def account(authority: Authority) -> AcmeAccount:
    fresh = AcmeAccount(directory=authority.directory, key=certificates.new_key(), url=None)
    url = await authority.register(fresh)
    return AcmeAccount(directory=authority.directory, key=fresh.key, url=url)


async def ask(authority: Authority, account: AcmeAccount, host: str = HOST) -> Order:
    return await authority.order(
        account,
        host,
        key=certificates.new_key(),
        domain_id="domain-id",
        app_id=AppId("app-id"),
        now=NOW,
    )


async def finish(authority: Authority, account: AcmeAccount, order: Order) -> Issued:
    async with asyncio.timeout(30):
        while True:
            match await authority.advance(account, order):
                case Later(seconds):
                    await asyncio.sleep(min(seconds, 0.05))
                case Issued() as issued:
                    return issued


async def test_a_name_that_leads_here_is_certified(
    authority: Authority, account: AcmeAccount, router: Router
) -> None:
    order = await ask(authority, account)
    assert order.place is not None
    assert order.answer is not None
    router.answers[order.place] = order.answer

    issued = await finish(authority, account, order)

    made = certificates.read(issued.chain, order.key, now=datetime.now(UTC))
    assert (made.facts.names, made.facts.issuer) == ((HOST,), "/CN=Test ACME Issuer")


async def test_an_order_is_finished_by_another_process(
    authority: Authority, account: AcmeAccount, router: Router, trust: Path
) -> None:
    order = await ask(authority, account)
    assert order.place is not None
    assert order.answer is not None
    router.answers[order.place] = order.answer
    await authority.advance(account, order)

    another = Authority(authority.directory, email=None, trust=trust)

    for _ in range(2):  # also one that is finished already
        assert (await finish(another, account, order)).chain.startswith("-----BEGIN CERTIFICATE")


async def test_a_name_that_leads_elsewhere_is_refused_with_what_was_found_there(
    authority: Authority, account: AcmeAccount
) -> None:
    order = await ask(authority, account)

    with pytest.raises(errors.Unavailable) as caught:
        await finish(authority, account, order)

    assert caught.value.message == (
        f"http://{HOST}/.well-known/acme-challenge/{order.token} answered '404 '"
    )


async def test_an_account_is_registered_once(
    authority: Authority, account: AcmeAccount, server: AcmeServer
) -> None:
    assert await authority.register(account) == account.url
    assert len(server.accounts) == 1


async def test_a_refusal_is_told_as_the_authority_words_it(
    authority: Authority, account: AcmeAccount, server: AcmeServer
) -> None:
    server.refusing = "too many certificates for example.com"

    with pytest.raises(errors.Unavailable) as caught:
        await ask(authority, account)

    assert caught.value.message == (
        "The certificate authority refuses: too many certificates for example.com"
    )


async def test_an_authority_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    authority = Authority(f"http://127.0.0.1:{port}/directory", email=None, trust=None)

    with pytest.raises(errors.Unavailable, match="cannot be reached"):
        await authority.register(
            AcmeAccount(directory=authority.directory, key=certificates.new_key(), url=None)
        )


async def test_an_authority_that_this_machine_does_not_trust_is_not_asked(
    server: AcmeServer, trust: Path
) -> None:
    authority = Authority(server.url, email=None, trust=None)

    with pytest.raises(errors.Unavailable, match="does not trust"):
        await authority.register(
            AcmeAccount(directory=server.url, key=certificates.new_key(), url=None)
        )
    assert server.asked == []


# The authority of these tests is honest.


@pytest.fixture
def client(trust: Path) -> httpx.Client:
    return httpx.Client(verify=ssl.create_default_context(cafile=str(trust)), trust_env=False)


def signed(server: AcmeServer, nonce: str, *, url: str, key: jwk.JWK, body: bytes) -> bytes:
    made = jws.JWS.sign(body, key, jwa.ES256, josepy.b64.b64decode(nonce), url=url)
    return bytes(made.json_dumps().encode())


def key() -> jwk.JWK:
    return jwk.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("replayed", "badNonce"),
        ("invented", "badNonce"),
        ("url", "unauthorized"),
        ("signature", "unauthorized"),
        ("none", None),
    ],
)
def test_the_authority_of_these_tests_refuses(
    server: AcmeServer, client: httpx.Client, fault: str, kind: str | None
) -> None:
    url = f"{server.base}/newAccount"
    wish = json.dumps({"termsOfServiceAgreed": True}).encode()
    headers = {"Content-Type": "application/jose+json"}
    nonce = client.head(f"{server.base}/newNonce").headers["Replay-Nonce"]
    if fault == "invented":
        nonce = "A" * 22
    body = signed(server, nonce, url=url + ("x" if fault == "url" else ""), key=key(), body=wish)
    if fault == "replayed":
        client.post(url, content=body, headers=headers)
    if fault == "signature":
        parsed = json.loads(body)
        other = json.loads(signed(server, nonce, url=url, key=key(), body=wish))
        body = json.dumps(parsed | {"signature": other["signature"]}).encode()

    answer = client.post(url, content=body, headers=headers)

    assert answer.json().get("type", "").rpartition(":")[2] == (kind or "")
    assert (answer.status_code == 201) == (kind is None)

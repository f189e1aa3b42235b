"""A small ACME authority (RFC 8555) for tests, which believes nothing that it has not checked.

Every request must be signed by the key that its account has, for this URL, with a nonce that was given
out and not used before. A name is certified once the router has answered for it over HTTP, and only to
a signing request for exactly that name. Where a name leads is told, not looked up: to the router.
"""

import base64
import json
import secrets
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import josepy
from acme import jws
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from josepy import b64

from tests import pem
from tests.pem import DAY, Pair

ERRORS = "urn:ietf:params:acme:error:"


class Problem(Exception):
    def __init__(self, kind: str, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.status = kind, detail, status


@dataclass
class Answer:
    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Authorization:
    hostname: str
    account: str
    status: str = "pending"
    challenge: str = "pending"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    error: dict[str, str] | None = None


@dataclass
class Order:
    account: str
    authorization: str
    certificate: str | None = None


class AcmeServer:
    """Its state, and what it answers; `url` is its directory's."""

    def __init__(self, router: int, *, lasts: timedelta = 90 * DAY) -> None:
        self.router = router  #: the port where every name leads
        self.lasts = lasts
        self.root = pem.authority("Test ACME Root")
        self.issuer = pem.authority("Test ACME Issuer", signer=self.root)
        self.accounts: dict[str, Any] = {}  #: URL → public key
        self.orders: dict[str, Order] = {}
        self.authorizations: dict[str, Authorization] = {}
        self.refusing: str | None = None  #: new orders, with this reason
        self.asked: list[str] = []  #: every question, as the path without its number
        self._nonces: set[str] = set()
        self._lock = threading.RLock()
        self.base = ""

    @property
    def url(self) -> str:
        return f"{self.base}/directory"

    def nonce(self) -> str:
        made = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        with self._lock:
            self._nonces.add(made)
        return made

    # ---- requests ----

    def get(self, path: str) -> Answer:
        match path:
            case "/directory":
                names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
                return Answer(200, {name: f"{self.base}/{name}" for name in names})
            case "/newNonce":
                return Answer(204)
        raise Problem("malformed", f"GET of {path}", 405)

    def post(self, path: str, body: bytes) -> Answer:
        what, _, number = path.lstrip("/").partition("/")
        self.asked.append(what)
        account, key, payload = self._signed(self.base + path, body, new=what == "newAccount")
        with self._lock:
            match what:
                case "newAccount":
                    return self._new_account(key, payload)
                case "newOrder":
                    return self._new_order(account, payload)
                case "order":
                    return Answer(200, self._order(self._mine(self.orders, number, account)))
                case "authorization":
                    mine = self._mine(self.authorizations, number, account)
                    return Answer(200, self._authorization(number, mine), {"Retry-After": "0"})
                case "challenge":
                    return self._challenge(number, account, key)
                case "finalize":
                    return self._finalize(number, account, payload)
                case "certificate":
                    return Answer(200, self._mine(self.orders, number, account).certificate)
        raise Problem("malformed", f"no such resource: {path}", 404)

    def _signed(self, url: str, body: bytes, *, new: bool) -> tuple[str, Any, bytes]:
        """Account, key and payload of a request that is what it says."""
        try:
            signed = jws.JWS.json_loads(body.decode())
            header = signed.signature.combined
        except (josepy.errors.Error, ValueError) as error:
            raise Problem("malformed", f"no JWS: {error}") from error
        nonce = b64.b64encode(header.nonce or b"").decode()
        with self._lock:
            if nonce not in self._nonces:
                raise Problem("badNonce", "this nonce was not given out, or used before")
            self._nonces.remove(nonce)
        if header.url != url:
            raise Problem("unauthorized", f"signed for {header.url}, not for {url}", 403)
        if new:
            account, key = "", header.jwk
        else:
            account = header.kid or ""
            key = self.accounts.get(account)
        if key is None:
            raise Problem("accountDoesNotExist", f"no account {account}")
        if not signed.verify(key):
            raise Problem("unauthorized", "the signature is not that of the account's key", 403)
        return account, key, signed.payload

    def _mine(self, things: Mapping[str, Any], number: str, account: str) -> Any:
        thing = things.get(number)
        if thing is None or thing.account != account:
            raise Problem("unauthorized", "no such thing of this account", 403)
        return thing

    # ---- resources ----

    def _new_account(self, key: Any, payload: bytes) -> Answer:
        for url, known in self.accounts.items():
            if known == key:
                return Answer(200, {"status": "valid"}, {"Location": url})
        wish = json.loads(payload)
        if wish.get("onlyReturnExisting"):
            raise Problem("accountDoesNotExist", "no account has this key")
        if not wish.get("termsOfServiceAgreed"):
            raise Problem("userActionRequired", "agree to the terms", 403)
        url = f"{self.base}/account/{len(self.accounts)}"
        self.accounts[url] = key
        return Answer(
            201, {"status": "valid", "contact": wish.get("contact", [])}, {"Location": url}
        )

    def _new_order(self, account: str, payload: bytes) -> Answer:
        if self.refusing is not None:
            raise Problem("rateLimited", self.refusing, 429)
        (identifier,) = json.loads(payload)["identifiers"]
        if identifier["type"] != "dns":
            raise Problem("unsupportedIdentifier", "only names")
        number = str(len(self.orders))
        self.authorizations[number] = Authorization(identifier["value"], account)
        self.orders[number] = Order(account, number)
        location = {"Location": f"{self.base}/order/{number}"}
        return Answer(201, self._order(self.orders[number]), location)

    def _order(self, order: Order) -> dict[str, Any]:
        number = order.authorization
        authorization = self.authorizations[number]
        if order.certificate is not None:
            status = "valid"
        else:
            status = {"valid": "ready"}.get(authorization.status, authorization.status)
        shown = {
            "status": status,
            "identifiers": [{"type": "dns", "value": authorization.hostname}],
            "authorizations": [f"{self.base}/authorization/{number}"],
            "finalize": f"{self.base}/finalize/{number}",
        }
        return shown | (
            {"certificate": f"{self.base}/certificate/{number}"} if order.certificate else {}
        )

    def _authorization(self, number: str, authorization: Authorization) -> dict[str, Any]:
        return {
            "status": authorization.status,
            "identifier": {"type": "dns", "value": authorization.hostname},
            "challenges": [self._shown(number, authorization)],
        }

    def _shown(self, number: str, authorization: Authorization) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "type": "http-01",
            "url": f"{self.base}/challenge/{number}",
            "status": authorization.challenge,
            "token": authorization.token,
        }
        return shown | ({"error": authorization.error} if authorization.error else {})

    def _challenge(self, number: str, account: str, key: Any) -> Answer:
        authorization = self._mine(self.authorizations, number, account)
        if authorization.challenge == "pending":
            authorization.challenge = "processing"
            threading.Thread(target=self._validate, args=(authorization, key), daemon=True).start()
        up = {"Link": f'<{self.base}/authorization/{number}>;rel="up"'}
        return Answer(200, self._shown(number, authorization), up)

    def _validate(self, authorization: Authorization, key: Any) -> None:
        """Asks the router, as the world would."""
        thumbprint = b64.b64encode(key.thumbprint()).decode()
        path = f"/.well-known/acme-challenge/{authorization.token}"
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{self.router}{path}",
                headers={"Host": authorization.hostname},
                timeout=10,
                trust_env=False,
            )
            said = f"{answer.status_code} {answer.text.strip()[:100]}"
        except httpx.HTTPError as error:
            said = repr(error)
        with self._lock:
            if said == f"200 {authorization.token}.{thumbprint}":
                authorization.status = authorization.challenge = "valid"
            else:
                authorization.status = authorization.challenge = "invalid"
                authorization.error = {
                    "type": f"{ERRORS}unauthorized",
                    "detail": f"http://{authorization.hostname}{path} answered {said!r}",
                }

    def _finalize(self, number: str, account: str, payload: bytes) -> Answer:
        order = self._mine(self.orders, number, account)
        authorization = self.authorizations[number]
        if authorization.status != "valid":
            raise Problem("orderNotReady", "the name is not proven", 403)
        request = x509.load_der_x509_csr(b64.b64decode(json.loads(payload)["csr"]))
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if not request.is_signature_valid:
            raise Problem("badCSR", "the signing request is not signed by its own key")
        if names.get_values_for_type(x509.DNSName) != [authorization.hostname]:
            raise Problem("badCSR", "the signing request is for other names")
        public = request.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        signed = pem.sign(
            public,
            [authorization.hostname],
            subject=authorization.hostname,
            signer=self.issuer,
            lasts=self.lasts,
            own=self.issuer.private,  # not used: the signer signs
        )
        order.certificate = signed.pem + self.issuer.pem
        return Answer(200, self._order(order))


@contextmanager
def serve(authority: AcmeServer, folder: Path) -> Iterator[Path]:
    """Serves it over TLS while the block runs; gives the bundle that a client must trust."""
    root = pem.authority("Test TLS Root")
    pair: Pair = pem.certificate("localhost", signer=root)
    bundle, both = folder / "acme-ca.pem", folder / "acme-server.pem"
    bundle.write_text(root.pem)
    both.write_text(pair.key + pair.pem)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._send(Answer(200), empty=True)

        def do_GET(self) -> None:
            self._answer(lambda: authority.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.headers.get("Content-Type") != "application/jose+json":
                self._send(Answer(415))
            else:
                self._answer(lambda: authority.post(self.path, body))

        def _answer(self, ask: Any) -> None:
            try:
                self._send(ask())
            except Problem as problem:
                body = {"type": ERRORS + problem.kind, "detail": problem.detail}
                self._send(Answer(problem.status, body))

        def _send(self, answer: Answer, *, empty: bool = False) -> None:
            text = isinstance(answer.body, str)
            data = answer.body.encode() if text else json.dumps(answer.body).encode()
            kind = "application/pem-certificate-chain" if text else "application/json"
            self.send_response(answer.status)
            self.send_header(
                "Content-Type", kind if answer.status < 400 else "application/problem+json"
            )
            self.send_header("Replay-Nonce", authority.nonce())
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0" if answer.status == 204 else str(len(data)))
            self.end_headers()
            if not empty and answer.status != 204:
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    authority.base = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield bundle
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

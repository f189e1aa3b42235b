"""Asks an ACME authority by the `acme` library: one question and its answer, in the thread that calls.

Foreign errors become Unavailable, in words that the app's owner can use.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import josepy.errors
import requests
from acme import challenges, client, messages
from acme import errors as foreign
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from josepy import jwa, jwk

from deodar.adapters.acme import Issued, Later
from deodar.model import errors
from deodar.model.certificate import AcmeAccount, Order

TIMEOUT = 30  #: seconds for one question
PAUSE = 1.0  #: seconds until an order is worth another look, where the authority says nothing
LONGEST_PAUSE = 60.0
AGENT = "deodar"


class Client:
    """What `acme.Authority` is asked, asked at once. Not for two threads at a time."""

    def __init__(self, directory: str, *, email: str | None, trust: Path | None) -> None:
        self._directory = directory
        self._email = email
        self._trust = trust
        self._client: client.ClientV2 | None = None

    def register(self, account: AcmeAccount) -> str:
        with self._explained():
            authority = self._connect(account)
            authority.net.account = None
            wish = messages.NewRegistration.from_data(
                email=self._email, terms_of_service_agreed=True
            )
            try:
                return str(authority.new_account(wish).uri)
            except foreign.ConflictError as error:
                return error.location  # it knows us already

    def order(
        self, account: AcmeAccount, hostname: str, key: str
    ) -> tuple[str, str | None, str | None]:
        """The order's URL, the token that the router will be asked for, and the answer to that; no
        token where the authority has been convinced before."""
        with self._explained():
            order = self._connect(account).new_order(_request(hostname, key))
            authorization = order.authorizations[0]
            if authorization.body.status == messages.STATUS_VALID:
                return order.uri, None, None
            challenge = _challenge(authorization.body)
            _, answer = challenge.chall.response_and_validation(_jwk(account.key))
            return order.uri, challenge.chall.encode("token"), answer

    def advance(self, account: AcmeAccount, order: Order) -> Later | Issued:
        with self._explained():
            authority = self._connect(account)
            response = _look(authority, order.url)
            body = messages.Order.from_json(response.json())
            match body.status:
                case messages.STATUS_PENDING:
                    return self._prove(authority, account, body)
                case messages.STATUS_READY:
                    authority.begin_finalization(
                        messages.OrderResource(
                            body=body,
                            uri=order.url,
                            csr_pem=_request(order.hostname, order.key),
                            authorizations=[],
                        )
                    )
                    return Later(0.0)
                case messages.STATUS_PROCESSING:
                    return Later(_pause(response))
                case messages.STATUS_VALID if body.certificate is not None:
                    return Issued(_look(authority, body.certificate).text)
            raise errors.Unavailable(_why(authority, body))

    def _prove(
        self, authority: client.ClientV2, account: AcmeAccount, body: messages.Order
    ) -> Later:
        """Has the authority ask the router, unless it does already."""
        pause = PAUSE
        for url in body.authorizations or ():
            response = _look(authority, url)
            challenge = _challenge(messages.Authorization.from_json(response.json()))
            if challenge.status == messages.STATUS_PENDING:
                authority.answer_challenge(challenge, challenge.chall.response(_jwk(account.key)))
            else:
                pause = _pause(response)
        return Later(pause)

    def _connect(self, account: AcmeAccount) -> client.ClientV2:
        if self._client is None:
            network = client.ClientNetwork(
                _jwk(account.key),
                alg=jwa.ES256,
                # requests takes the path of a bundle as well
                verify_ssl=cast(bool, str(self._trust) if self._trust else True),
                user_agent=AGENT,
                timeout=TIMEOUT,
            )
            directory = client.ClientV2.get_directory(self._directory, network)
            self._client = client.ClientV2(directory, network)
        if account.url is not None:
            self._client.net.account = messages.RegistrationResource(
                body=messages.Registration(), uri=account.url
            )
        return self._client

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (
            foreign.Error,
            josepy.errors.Error,
            requests.RequestException,
            ValueError,  # no JSON, no PEM
            KeyError,  # a directory without what must be in it
        ) as error:
            self._client = None  # what it knows of nonces and the directory may be old
            raise errors.Unavailable(explain(error)) from error


def explain(error: Exception) -> str:
    """A sentence for the app's owner."""
    match error:
        case messages.Error():
            return f"The certificate authority refuses: {error.detail or error.description}"
        case requests.exceptions.SSLError():
            return "The certificate authority has a certificate that this machine does not trust."
        case requests.RequestException():
            return "The certificate authority cannot be reached."
    return f"The certificate authority answers what nobody expects: {error!r}"


def _look(authority: client.ClientV2, url: str) -> requests.Response:
    """GET in the manner of ACME."""
    return authority.net.post(url, cast(Any, None), new_nonce_url=authority.directory["newNonce"])


def _challenge(authorization: messages.Authorization) -> messages.ChallengeBody:
    for each in authorization.challenges:
        if isinstance(each.chall, challenges.HTTP01):
            return each
    raise errors.Unavailable("The certificate authority does not offer to ask by HTTP.")


def _why(authority: client.ClientV2, body: messages.Order) -> str:
    """Why an order came to nothing: the authorization that failed says it best."""
    for url in body.authorizations or ():
        authorization = messages.Authorization.from_json(_look(authority, url).json())
        for each in authorization.challenges:
            if each.error is not None:
                return str(each.error.detail or each.error.description)
    if body.error is not None:
        return explain(body.error)
    return "The certificate authority gave no reason."


def _pause(response: requests.Response) -> float:
    """Until the next look: as the authority says, within reason."""
    seconds = PAUSE
    with suppress(ValueError):
        seconds = float(response.headers.get("Retry-After", PAUSE))
    return min(max(seconds, 0.2), LONGEST_PAUSE)


def _jwk(key: str) -> jwk.JWKEC:
    return jwk.JWKEC(key=serialization.load_pem_private_key(key.encode(), None))


def _request(hostname: str, key: str) -> bytes:
    """The signing request for one host name."""
    private = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    # A common name has 64 characters at most, and nobody needs one.
    name = [x509.NameAttribute(NameOID.COMMON_NAME, hostname)] if len(hostname) <= 64 else []
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(name))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .sign(private, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )

"""What people hand in as a certificate: what is taken, and what they are told is wrong with it."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from deodar.adapters import certificates
from deodar.model import errors
from deodar.model.certificate import Facts
from tests import pem
from tests.pem import DAY, Pair

NOW = datetime.now(UTC)
ROOT = pem.authority("Root")
MIDDLE = pem.authority("Middle", signer=ROOT)
LEAF = pem.certificate("www.example.com", "*.example.org", signer=MIDDLE)


def key_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def read(chain: str, key: str) -> certificates.Certificate:
    return certificates.read(chain, key, now=NOW)


@pytest.mark.parametrize(
    "given",
    [(LEAF, MIDDLE, ROOT), (ROOT, MIDDLE, LEAF), (MIDDLE, LEAF, ROOT)],
    ids=["in order", "upside down", "shuffled"],
)
def test_a_chain_is_put_in_order(given: tuple[Pair, ...]) -> None:
    made = read("".join(each.pem for each in given), LEAF.key)

    assert made.chain == LEAF.pem + MIDDLE.pem + ROOT.pem
    assert made.facts == Facts(
        names=("www.example.com", "*.example.org"),
        subject="/CN=www.example.com",
        issuer="/CN=Middle",
        starts_at=LEAF.certificate.not_valid_before_utc,
        expires_at=LEAF.certificate.not_valid_after_utc,
        self_signed=False,
        ca_signed=False,
    )


def test_one_that_signed_itself_is_said_to_be_so_and_may_have_a_common_name_only() -> None:
    own = pem.certificate(common_name="www.example.com")

    facts = read(own.pem, own.key).facts

    assert (facts.names, facts.self_signed) == (("www.example.com",), True)


def test_text_around_the_blocks_is_passed_over() -> None:
    assert read(f"Bag Attributes\n{LEAF.pem}\n\n{MIDDLE.pem}bye", LEAF.key).chain == (
        LEAF.pem + MIDDLE.pem
    )


ENCRYPTED = LEAF.private.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"secret"),
).decode()
OLD = pem.certificate("www.example.com", starts=NOW - 100 * DAY, lasts=90 * DAY)
NEXT = pem.certificate("www.example.com", starts=NOW + timedelta(hours=2))
STRANGER = pem.certificate("www.example.com")
NAMELESS = pem.certificate(common_name="nothing")
ED = ed25519.Ed25519PrivateKey.generate()
SHORT = rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        ("", LEAF.key, "The certificate could not be read. Give it as PEM"),
        ("certificate", LEAF.key, "The certificate could not be read. Give it as PEM"),
        (LEAF.key, LEAF.key, "The certificate could not be read. Give it as PEM"),
        (LEAF.pem, LEAF.pem, "The private key could not be read. Give it as PEM"),
        (LEAF.pem, "", "The private key could not be read. Give it as PEM"),
        (LEAF.pem, ENCRYPTED, "The private key is encrypted. Remove its passphrase: openssl pkey"),
        (LEAF.pem, STRANGER.key, "The private key does not belong to the certificate."),
        (LEAF.pem, key_pem(SHORT), "The private key has 1024 bits."),
        (LEAF.pem, key_pem(ED), "The private key is neither RSA nor of a curve"),
        (OLD.pem, OLD.key, "The certificate of /CN=www.example.com expired on"),
        (NEXT.pem, NEXT.key, "The certificate of /CN=www.example.com is not valid before"),
        (NAMELESS.pem, NAMELESS.key, "The certificate names no domain"),
        (
            LEAF.pem + ROOT.pem,
            LEAF.key,
            "The certificate of /CN=Root does not belong to the chain: "
            "it did not sign that of /CN=www.example.com.",
        ),
        (LEAF.pem * 11, LEAF.key, "The chain has more than 10 certificates."),
    ],
)
def test_what_is_wrong_is_said(chain: str, key: str, words: str) -> None:
    with pytest.raises(errors.InvalidParams) as caught:
        read(chain, key)

    assert caught.value.message.startswith(words)

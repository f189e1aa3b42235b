"""Reads certificates and keys that people hand in, and says what is wrong with them; keeps nothing.

Whatever passes here HAProxy must be able to load: one file that it cannot keeps all apps' router from
starting. So the same OpenSSL calls that a server makes are made here first.
"""

import os
import ssl
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from deodar.model import errors
from deodar.model.certificate import Facts

LONGEST = 10  #: certificates in a chain
SMALLEST_RSA = 2048  #: bits; OpenSSL loads no smaller ones
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
WEAK = (hashes.MD5, hashes.SHA1)

#: how a name's parts are spelled in one line
SHORT = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.EMAIL_ADDRESS: "emailAddress",
}

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that can be served."""

    chain: str  #: PEM, the app's own first, each signed by the next
    key: str = field(repr=False)  #: PEM, not encrypted
    facts: Facts


def read(chain: str, key: str, *, now: datetime) -> Certificate:
    """Raises InvalidParams, saying what is wrong and what to do."""
    private = _key(key)
    certificates = _order(_certificates(chain), private)
    leaf = certificates[0]
    for each in certificates:
        _check(each, now, is_own=each is leaf)
    names = _names(leaf)
    if not names:
        raise errors.InvalidParams("The certificate names no domain that it is for.")
    pem = "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)
    key_pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    _load(key_pem + pem)
    facts = Facts(
        names=names,
        subject=_line(leaf.subject),
        issuer=_line(leaf.issuer),
        starts_at=leaf.not_valid_before_utc,
        expires_at=leaf.not_valid_after_utc,
        self_signed=leaf.issuer == leaf.subject,
        ca_signed=_is_trusted(leaf, certificates[1:], names, now),
    )
    return Certificate(chain=pem, key=key_pem, facts=facts)


def new_key() -> str:
    """A private key of our own making, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _key(text: str) -> Key:
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except TypeError:
        raise errors.InvalidParams(
            "The private key is encrypted. Remove its passphrase: "
            "openssl pkey -in encrypted.key -out plain.key"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise errors.InvalidParams(
            "The private key could not be read. Give it as PEM: it begins with "
            "-----BEGIN PRIVATE KEY----- or alike."
        ) from None
    match key:
        case rsa.RSAPrivateKey():
            if key.key_size < SMALLEST_RSA:
                raise errors.InvalidParams(
                    f"The private key has {key.key_size} bits. RSA keys need {SMALLEST_RSA} or more."
                )
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, CURVES):
            return key
    raise errors.InvalidParams("The private key is neither RSA nor of a curve that browsers know.")


def _certificates(text: str) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise errors.InvalidParams(
            "The certificate could not be read. Give it as PEM: it begins with "
            "-----BEGIN CERTIFICATE-----."
        ) from None
    if len(found) > LONGEST:
        raise errors.InvalidParams(f"The chain has more than {LONGEST} certificates.")
    return found


def _order(certificates: list[x509.Certificate], key: Key) -> list[x509.Certificate]:
    """The one that the key belongs to first, then whoever signed it, and so on."""
    public = _public(key)
    own = [each for each in certificates if _public_of(each) == public]
    if not own:
        raise errors.InvalidParams("The private key does not belong to the certificate.")
    chain = own[:1]
    rest = [each for each in certificates if each != chain[0]]
    while rest:
        signer = next((each for each in rest if _signed(chain[-1], each)), None)
        if signer is None:
            raise errors.InvalidParams(
                f"The certificate of {_line(rest[0].subject)} does not belong to the chain: "
                f"it did not sign that of {_line(chain[-1].subject)}."
            )
        chain.append(signer)
        rest = [each for each in rest if each != signer]
    return chain


def _public(key: Key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _public_of(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, UnsupportedAlgorithm):
        return None


def _signed(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check(certificate: x509.Certificate, now: datetime, *, is_own: bool) -> None:
    whose = _line(certificate.subject)
    if certificate.not_valid_after_utc <= now:
        raise errors.InvalidParams(
            f"The certificate of {whose} expired on {certificate.not_valid_after_utc:%Y-%m-%d}."
        )
    if certificate.not_valid_before_utc > now:
        raise errors.InvalidParams(
            f"The certificate of {whose} is not valid before "
            f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
        )
    ends = (
        certificate.issuer == certificate.subject and not is_own
    )  # nobody checks how a root signs
    if isinstance(certificate.signature_hash_algorithm, WEAK) and not ends:
        raise errors.InvalidParams(
            f"The certificate of {whose} is signed with "
            f"{certificate.signature_hash_algorithm.name.upper()}, which browsers refuse. "
            "Have it signed anew with SHA-256."
        )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Those it says that it is for; its common name where it says nothing else."""
    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = said.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    except ValueError:
        raise errors.InvalidParams("The certificate's names could not be read.") from None
    if not names:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(each.value) for each in common if "." in str(each.value)]
    return tuple(dict.fromkeys(name.lower() for name in names))


def _line(name: x509.Name) -> str:
    """`/C=GB/O=Example/CN=www.example.com`."""
    return "".join(
        f"/{SHORT.get(each.oid, each.rfc4514_attribute_name)}="
        f"{each.value if isinstance(each.value, str) else each.value.hex()}"
        for each in name
    )


def _load(pem: str) -> None:
    """What a server does with it. OpenSSL wants a file: this one is in memory, and nobody else's."""
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, pem.encode())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{descriptor}")
    except (ssl.SSLError, OSError) as error:
        raise errors.InvalidParams(f"OpenSSL cannot serve the certificate: {error}.") from error
    finally:
        os.close(descriptor)


def _is_trusted(
    leaf: x509.Certificate,
    intermediates: list[x509.Certificate],
    names: tuple[str, ...],
    now: datetime,
) -> bool:
    roots = _roots()
    if roots is None:
        return False
    name = names[0].replace("*", "wildcard")
    try:
        verifier = (
            verification.PolicyBuilder()
            .store(roots)
            .time(now)
            .build_server_verifier(x509.DNSName(name))
        )
        verifier.verify(leaf, intermediates)
    except (verification.VerificationError, ValueError, UnsupportedAlgorithm):
        return False
    return True


@cache
def _roots() -> verification.Store | None:
    """The authorities that this machine trusts; None when it trusts none."""
    found = []
    with warnings.catch_warnings():
        # Some roots are older than today's rules, and nobody here can mend them.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for der in ssl.create_default_context().get_ca_certs(binary_form=True):
            with suppress(ValueError):
                found.append(x509.load_der_x509_certificate(der))
    return verification.Store(found) if found else None

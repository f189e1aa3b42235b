"""The platform's own certificate authority: made on first start, signs a leaf for each host name.

Knows keys and files; who is served with a certificate is told elsewhere. A wildcard for `*.localhost`
would spare most leaves, but OpenSSL refuses one that stands directly below a top-level name.
"""

import ipaddress
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deodar.kit import clock
from deodar.model import errors

CA_LIFE = timedelta(days=3652)
LEAF_LIFE = timedelta(days=397)  #: the longest that browsers accept
RENEW_BEFORE = timedelta(days=30)
BACKDATE = timedelta(hours=1)  #: for clients whose clocks are behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate with its key and chain in one PEM file, as HAProxy wants it."""

    path: Path
    expires: datetime


class Authority:
    """Issues certificates below `folder`. Raises Unavailable when its files cannot be used."""

    def __init__(self, folder: Path, *, now: clock.Clock = clock.wall) -> None:
        self.folder = folder
        self.certificate = folder / "ca.pem"  #: what clients are told to trust
        self._key_path = folder / "ca.key"
        self._hosts = folder / "hosts"
        self._now = now
        self._ca: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
        self._leaves: dict[str, Leaf] = {}

    def ensure(self) -> None:
        """Makes the authority unless it is there."""
        if self._ca is not None:
            return
        self._hosts.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.certificate.exists():
            self._create()
        self._ca = self._load()

    def leaf(self, host: str) -> Leaf:
        """The certificate for one host name, which may be a wildcard; renewed when it grows old."""
        known = self._leaves.get(host)
        if known is None:
            path = self.path_of(host)
            known = self._leaves[host] = Leaf(path=path, expires=self._issue_into(path, [host]))
        elif known.expires - self._now() < RENEW_BEFORE:
            known = self._leaves[host] = Leaf(
                path=known.path, expires=self._issue_into(known.path, [host])
            )
        return known

    def path_of(self, host: str) -> Path:
        """Where the certificate for this host lies, or would."""
        return self._hosts / f"{host.replace('*', '_')}.pem"

    def keep(self, hosts: Collection[str]) -> None:
        """Deletes the certificates of all hosts but these."""
        kept = {self.path_of(host) for host in hosts}
        for path in self._hosts.glob("*.pem"):
            if path not in kept:
                path.unlink()
        self._leaves = {host: leaf for host, leaf in self._leaves.items() if leaf.path in kept}

    def server_certificate(self, names: Sequence[str]) -> tuple[Path, Path]:
        """Files of certificate and key for a server of ours known by these names or IP addresses.

        Both are one file, which servers that ask for two take as well.
        """
        path = self.folder / "server.pem"
        self._issue_into(path, names)
        return path, path

    # ----- making and reading ---------------------------------------------------------------------

    def _issue_into(self, path: Path, names: Sequence[str]) -> datetime:
        """Writes a certificate for `names` unless a fresh one is there; answers when it expires."""
        self.ensure()
        present = _read(path)
        if present is not None and self._serves(present, names):
            return present.not_valid_after_utc
        certificate, pem = self._issue(names)
        _write(path, pem)
        return certificate.not_valid_after_utc

    def _serves(self, certificate: x509.Certificate, names: Sequence[str]) -> bool:
        assert self._ca is not None
        authority, _ = self._ca
        return (
            certificate.not_valid_after_utc - self._now() >= RENEW_BEFORE
            and certificate.issuer == authority.subject
            and certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            == _alternatives(names)
        )

    def _issue(self, names: Sequence[str]) -> tuple[x509.Certificate, bytes]:
        assert self._ca is not None
        authority, authority_key = self._ca
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0][:64]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(min(now + LEAF_LIFE, authority.not_valid_after_utc))
            .add_extension(_alternatives(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        chain = _pem(certificate) + _pem(authority)
        return certificate, _key_pem(key) + chain

    def _create(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        # The serial in the name tells the authorities of two machines apart in one trust store.
        serial = x509.random_serial_number()
        name = _name(f"Deodar CA {serial:x}"[:24])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        # The key first: a certificate on disk says that the authority is whole.
        _write(self._key_path, _key_pem(key))
        _write(self.certificate, _pem(certificate), mode=0o644)

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            key = serialization.load_pem_private_key(self._key_path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise errors.Unavailable(
                f"The certificate authority in {self.folder} cannot be read: {error}. Restore it, "
                "or remove it to have a new one made, which clients must trust anew."
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise errors.Unavailable(f"{self._key_path} is not a key that was made here.")
        return certificate, key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative(name) for name in names])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read(path: Path) -> x509.Certificate | None:
    """The certificate in this file; None when there is none, or none that can be read."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Whole or not at all: a half-written certificate would keep HAProxy from starting."""
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    fresh.replace(path)

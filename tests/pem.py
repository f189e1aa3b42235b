"""Certificates for tests, made as people get them: by an authority, or signed by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key(self) -> str:
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()


def certificate(
    *names: str,
    signer: Pair | None = None,
    authority: bool = False,
    common_name: str | None = None,
    starts: datetime | None = None,
    lasts: timedelta = 90 * DAY,
) -> Pair:
    """One for `names`, signed by `signer` or else by itself; without names only a common name."""
    key = ec.generate_private_key(ec.SECP256R1())
    return sign(
        key.public_key(),
        names,
        subject=common_name or names[0],
        signer=signer,
        authority=authority,
        starts=starts,
        lasts=lasts,
        own=key,
    )


def sign(
    public: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    *,
    subject: str,
    signer: Pair | None,
    authority: bool = False,
    starts: datetime | None = None,
    lasts: timedelta = 90 * DAY,
    own: ec.EllipticCurvePrivateKey,
) -> Pair:
    starts = starts or datetime.now(UTC) - DAY
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signer.certificate.subject if signer else name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(starts + lasts)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(alternatives, critical=False)
    if not authority:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    signed = builder.sign(signer.private if signer else own, hashes.SHA256())
    return Pair(signed, own)


def authority(name: str = "Test CA", *, signer: Pair | None = None) -> Pair:
    return certificate(common_name=name, signer=signer, authority=True, lasts=3650 * DAY)

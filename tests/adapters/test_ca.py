"""The certificate authority, against OpenSSL: what it signs must be trusted, and last."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from deodar.adapters import ca
from deodar.kit import clock
from deodar.model import errors

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> ca.Authority:
    authority = ca.Authority(tmp_path / "ca", now=lambda: NOW)
    authority.ensure()
    return authority


def verify(authority: ca.Authority, path: Path, name: x509.GeneralName) -> None:
    store = Store([x509.load_pem_x509_certificate(authority.certificate.read_bytes())])
    subject = name if isinstance(name, x509.DNSName) else x509.IPAddress(name.value)
    assert isinstance(subject, x509.DNSName | x509.IPAddress)
    verifier = PolicyBuilder().store(store).time(NOW).build_server_verifier(subject)
    verifier.verify(x509.load_pem_x509_certificate(path.read_bytes()), [])


@pytest.mark.parametrize("host", ["example-app.localhost", "www.example.com", "*.example.com"])
def test_a_leaf_is_trusted_for_its_host(authority: ca.Authority, host: str) -> None:
    leaf = authority.leaf(host)

    verify(authority, leaf.path, x509.DNSName(host.replace("*", "any")))
    assert leaf.expires == NOW + ca.LEAF_LIFE


def test_the_servers_certificate_is_trusted_for_names_and_addresses(
    authority: ca.Authority,
) -> None:
    path, key = authority.server_certificate(
        ["localhost", "127.0.0.1", "::1", "deodar.example.com"]
    )

    verify(authority, path, x509.DNSName("localhost"))
    verify(authority, path, x509.DNSName("deodar.example.com"))
    verify(authority, path, x509.IPAddress(ipaddress.ip_address("::1")))
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path, key)


def test_a_restart_finds_the_same_authority_and_the_same_leaf(authority: ca.Authority) -> None:
    before = authority.leaf("one.localhost").path.read_bytes(), authority.certificate.read_bytes()

    again = ca.Authority(authority.folder, now=lambda: NOW)
    again.ensure()

    assert (again.leaf("one.localhost").path.read_bytes(), again.certificate.read_bytes()) == before


def test_a_leaf_is_renewed_before_it_expires(authority: ca.Authority) -> None:
    first = authority.leaf("one.localhost")
    later = NOW + ca.LEAF_LIFE - ca.RENEW_BEFORE + timedelta(seconds=1)

    renewed = ca.Authority(authority.folder, now=lambda: later).leaf("one.localhost")

    assert renewed == ca.Leaf(path=first.path, expires=later + ca.LEAF_LIFE)


def test_a_server_that_got_another_name_gets_another_certificate(authority: ca.Authority) -> None:
    before = authority.server_certificate(["localhost"])[0].read_bytes()

    assert authority.server_certificate(["localhost"])[0].read_bytes() == before
    assert authority.server_certificate(["localhost", "box.local"])[0].read_bytes() != before


def test_a_lost_authority_takes_its_leaves_with_it(authority: ca.Authority) -> None:
    authority.leaf("one.localhost")
    authority.certificate.unlink()

    again = ca.Authority(authority.folder, now=lambda: NOW)

    verify(again, again.leaf("one.localhost").path, x509.DNSName("one.localhost"))


def test_certificates_of_hosts_that_are_no_more_go(authority: ca.Authority) -> None:
    kept, gone = authority.leaf("*.example.com").path, authority.leaf("gone.localhost").path

    authority.keep({"*.example.com"})

    assert (kept.exists(), gone.exists()) == (True, False)
    assert authority.leaf("gone.localhost").path.exists()


def test_keys_are_for_the_owner_only(authority: ca.Authority) -> None:
    authority.leaf("one.localhost")

    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in authority.folder.rglob("*")
        if path.is_file()
    }

    assert modes == {"ca.key": 0o600, "ca.pem": 0o644, "one.localhost.pem": 0o600}


def test_a_damaged_key_is_said_and_never_overwritten(authority: ca.Authority) -> None:
    (authority.folder / "ca.key").write_text("damaged")

    with pytest.raises(errors.Unavailable, match="cannot be read"):
        ca.Authority(authority.folder, now=clock.wall).ensure()

    assert (authority.folder / "ca.key").read_text() == "damaged"

"""Which names a certificate is good for, and which no public authority would certify."""

import pytest

from deodar.model import certificate


@pytest.mark.parametrize(
    ("names", "hostname", "good"),
    [
        (["www.example.com"], "www.example.com", True),
        (["WWW.example.com"], "www.example.com", True),
        (["example.com"], "www.example.com", False),
        (["*.example.com"], "www.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "a.b.example.com", False),
        (["*.example.com"], "*.example.com", True),
        (["www.example.com"], "*.example.com", False),
        (["a.example.org", "b.example.org"], "b.example.org", True),
    ],
)
def test_a_certificate_covers(names: list[str], hostname: str, good: bool) -> None:
    assert certificate.covers(names, hostname) is good


@pytest.mark.parametrize(
    ("hostname", "private"),
    [
        ("www.example.com", False),
        ("shop.localhost", True),
        ("localhost", True),
        ("intranet", True),
        ("printer.local", True),
        ("nas.home.arpa", True),
        ("app.test", True),
        ("192.0.2.1", True),
        ("arpa.home.org", False),
    ],
)
def test_a_name_is_private(hostname: str, private: bool) -> None:
    assert certificate.is_private(hostname) is private

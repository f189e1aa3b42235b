"""Certificates by the official CLI, from its commands to what a TLS client is shown."""

import re
from pathlib import Path

from cryptography import x509

from tests import pem, tls
from tests.system.harness import Platform, eventually

HOST = "www.certified-shop.com"


def test_the_official_cli_adds_shows_replaces_and_removes_certificates(
    platform: Platform, tmp_path: Path
) -> None:
    platform.create("certified")
    first, second = pem.certificate(HOST), pem.certificate("*.certified-shop.com")

    platform.api("POST", "/apps/certified/domains", {"hostname": HOST, "sni_endpoint": None})
    endpoint = platform.api("POST", "/apps/certified/sni-endpoints", wish(first))["name"]
    updated = platform.heroku("domains:update", HOST, "--cert", endpoint, "-a", "certified")
    assert updated.status == 0, updated.all
    eventually(lambda: shown(platform).serial_number == first.certificate.serial_number)

    info = platform.heroku("certs:info", "-a", "certified", "--show-domains").all
    assert re.search(rf"Domain\(s\): +{HOST}", info)
    assert "SSL certificate is self signed." in info

    files = tmp_path / "new.crt", tmp_path / "new.key"
    files[0].write_text(second.pem)
    files[1].write_text(second.key)
    replaced = platform.heroku(
        *("certs:update", str(files[0]), str(files[1])), *("-a", "certified"), "--confirm=certified"
    )
    assert replaced.status == 0, replaced.all
    eventually(lambda: shown(platform).serial_number == second.certificate.serial_number)

    removed = platform.heroku("certs:remove", "-a", "certified", "--confirm=certified")
    assert removed.status == 0, removed.all
    eventually(lambda: "Deodar CA" in shown(platform).issuer.rfc4514_string())


def wish(pair: pem.Pair) -> dict[str, str]:
    return {"certificate_chain": pair.pem, "private_key": pair.key}


def shown(platform: Platform) -> x509.Certificate:
    return tls.look(int(platform.settings["DEODAR_HTTPS_PORT"]), HOST)

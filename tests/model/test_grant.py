import base64

import pytest

from deodar.model import errors, grant
from deodar.model.grant import Grant

KEY = b"\0\0\0\7ssh-rsa" + b"\0\0\0\1\3" + b"\0\0\0\1\5"
LINE = f"ssh-rsa {base64.b64encode(KEY).decode()}"


@pytest.mark.parametrize("line", [LINE, f"{LINE} ", f"{LINE} ada@example.com", f" {LINE}\n"])
def test_a_key_is_read_whatever_stands_after_it(line: str) -> None:
    assert grant.key_of(line) == KEY


@pytest.mark.parametrize(
    "line",
    ["", "ssh-rsa", "ssh-rsa !!!!", LINE.replace("ssh-rsa", "ssh-dss"), "-----BEGIN RSA KEY-----"],
)
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(errors.InvalidParams, match="client_key must be a public key"):
        grant.key_of(line)


def test_a_grant_is_read_as_it_was_written() -> None:
    given = Grant("dyno-id", grant.fingerprint(KEY))

    assert Grant.parse(str(given)) == given


def test_another_key_has_another_fingerprint() -> None:
    assert grant.fingerprint(KEY) != grant.fingerprint(KEY + b"\1")

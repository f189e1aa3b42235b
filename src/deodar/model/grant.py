"""What lets a person into a running dyno by SSH: which dyno, and with which key. Signing it is others'."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from deodar.model import errors


@dataclass(frozen=True, slots=True)
class Grant:
    """Whoever holds the key may enter the dyno."""

    dyno_id: str
    fingerprint: str  #: of the public key, as `fingerprint` gives it

    def __str__(self) -> str:
        return f"{self.dyno_id} {self.fingerprint}"

    @classmethod
    def parse(cls, text: str) -> "Grant":
        dyno_id, _, fingerprint = text.partition(" ")
        return cls(dyno_id, fingerprint)


def fingerprint(key: bytes) -> str:
    """SHA-256 of a public key in SSH's own form."""
    return hashlib.sha256(key).hexdigest()


def key_of(line: str) -> bytes:
    """The key of a line such as `ssh-rsa AAAAB3Nza… comment`. Raises InvalidParams."""
    kind, data = (*line.split(None, 2), "", "")[:2]
    try:
        key = base64.b64decode(data, validate=True)
    except binascii.Error:
        key = b""
    # a key begins with its kind, after that word's length in four bytes
    name = kind.encode()
    if not name or not key.startswith(len(name).to_bytes(4, "big") + name):
        raise errors.InvalidParams("client_key must be a public key as OpenSSH writes it.")
    return key

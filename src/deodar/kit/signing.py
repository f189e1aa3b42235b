"""Tokens that carry their own meaning: a signed text with an end, for URLs that are their own secret."""

import base64
import hashlib
import hmac
from datetime import datetime, timedelta


class Signer:
    """Signs and opens tokens for one purpose; a token of another purpose does not open here."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.digest(key, purpose.encode(), hashlib.sha256)

    def sign(self, text: str, *, now: datetime, lasts: timedelta) -> str:
        """A token for `text`, letters that need no escaping in a URL, good until `now + lasts`."""
        payload = f"{int((now + lasts).timestamp())}:{text}".encode()
        return f"{_encode(payload)}.{_encode(self._seal(payload))}"

    def open(self, token: str, *, now: datetime) -> str | None:
        """The signed text; None for a token that is not ours, was tampered with, or is over."""
        body, _, seal = token.partition(".")
        try:
            payload, given = _decode(body), _decode(seal)
        except ValueError:
            return None
        if not hmac.compare_digest(given, self._seal(payload)):
            return None
        end, _, text = payload.decode().partition(":")
        return text if now.timestamp() < int(end) else None

    def _seal(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

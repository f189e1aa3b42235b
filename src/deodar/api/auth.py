"""Whose request it is: reads a token from the Authorization header and finds its account."""

import base64
import binascii

from deodar.model import errors
from deodar.model.app import Account
from deodar.store import accounts
from deodar.store.db import Database


def token_of(header: str) -> str | None:
    """The token in `Bearer TOKEN`, or in `Basic …` as the password; the user name is not looked at."""
    scheme, _, credentials = header.strip().partition(" ")
    credentials = credentials.strip()
    match scheme.lower():
        case "bearer":
            return credentials or None
        case "basic":
            return _password(credentials) or None
    return None


async def authenticate(db: Database, token: str | None) -> Account:
    """The account with that token. Raises Unauthorized."""
    if token is None:
        raise errors.Unauthorized()
    async with db.read() as tx:
        account = await accounts.by_token(tx, token)
    if account is None:
        raise errors.Unauthorized()
    return account


def user_of(header: str) -> str | None:
    """The user name in `Basic …`."""
    scheme, _, credentials = header.strip().partition(" ")
    pair = _pair(credentials.strip()) if scheme.lower() == "basic" else None
    return pair[0] if pair else None


def _password(credentials: str) -> str | None:
    pair = _pair(credentials)
    return pair[1] if pair else None


def _pair(credentials: str) -> tuple[str, str] | None:
    try:
        pair = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, _, password = pair.partition(":")
    return user, password

"""Sees to it that the machine's owner has an account."""

import uuid
from datetime import datetime

from deodar.model.app import Account
from deodar.store import accounts
from deodar.store.db import Tx


async def ensure_owner(tx: Tx, *, email: str, token: str, now: datetime) -> Account:
    """The owner's account, made if there is none; its API token is `token` from now on."""
    owner = await accounts.first(tx)
    if owner is None:
        owner = Account(id=str(uuid.uuid4()), email=email, created_at=now)
        await accounts.create(tx, owner, token=token)
    elif await accounts.by_token(tx, token) != owner:
        await accounts.set_token(tx, owner.id, token)
    return owner

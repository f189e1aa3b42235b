from typing import Any

from deodar.actions import accounts
from deodar.store import accounts as stored

Given = Any


async def test_the_owner_is_made_once_and_the_last_token_counts(ground: Given) -> None:
    async with ground.db.write() as tx:
        again = await accounts.ensure_owner(
            tx, email="other@example.com", token="new", now=ground.now
        )

    assert again == ground.owner
    async with ground.db.read() as tx:
        known = [await stored.by_token(tx, token) for token in ("token", "new")]
    assert known == [None, ground.owner]

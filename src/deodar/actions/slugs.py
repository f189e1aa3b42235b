"""Slugs that are made elsewhere: says what such a slug is, and enters it once its archive lies in its
place. A build's slugs are the compiler's.
"""

from collections.abc import Mapping

from deodar.model import errors, formation
from deodar.model.release import SLUG_LIMIT, Slug
from deodar.store import releases
from deodar.store.db import Tx

TYPES_LIMIT = 16 * 1024  #: bytes of all process types; they travel in a URL
TEXT_LIMIT = 2000  #: characters of each description


def check(process_types: Mapping[str, str], *texts: str | None) -> None:
    """Raises InvalidParams for process types and descriptions that no slug can have."""
    for name, command in process_types.items():
        if not formation.TYPE.fullmatch(name):
            raise errors.InvalidParams(f"Type {name[:80]!r} is not a valid process type.")
        if not command.strip() or "\0" in command:
            raise errors.InvalidParams(
                f"The command of {name} can't be blank or contain a NUL byte."
            )
    if sum(len((name + command).encode()) for name, command in process_types.items()) > TYPES_LIMIT:
        raise errors.InvalidParams(f"Process types are too long (maximum is {TYPES_LIMIT} bytes).")
    if any(len(text or "") > TEXT_LIMIT for text in texts):
        raise errors.InvalidParams(f"A description is over {TEXT_LIMIT} characters.")


def check_size(size: int) -> None:
    if size > SLUG_LIMIT:
        raise errors.TooLarge(
            f"The slug is too large: {size / 1_000_000:.1f}M (max is {SLUG_LIMIT // 1_000_000}M)."
        )


async def enter(tx: Tx, slug: Slug) -> None:
    """Raises Conflict for one that was entered before: a slug never changes."""
    if await releases.slug(tx, slug.id) is not None:
        raise errors.Conflict("That slug was uploaded already. Ask for a new one.")
    await releases.insert_slug(tx, slug)

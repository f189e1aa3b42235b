"""What the shapes share: small references, moments as the API writes them, ids for what has none."""

import uuid
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

#: ids of things that no row stands for (a stack, a region, a process type) are derived under this
NAMESPACE = uuid.UUID("b8a7d2f4-6f0c-5c0e-9a56-1d0d0a2c7b11")


class Shape(msgspec.Struct):
    """A JSON object of the API. Unknown fields of a request are passed over, as Heroku does."""


class Id(Shape):
    id: str


class Named(Shape):
    id: str
    name: str


class Person(Shape):
    id: str
    email: str


class Empty(Shape):
    """`{}`: the answer of what has nothing to tell."""


def stamp(at: datetime) -> str:
    """`2015-01-01T12:00:00Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp_or_none(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


@lru_cache(maxsize=1024)
def derived_id(*parts: str) -> str:
    """The same id for the same parts, always."""
    return str(uuid.uuid5(NAMESPACE, "\0".join(parts)))


def named(kind: str, name: str) -> Named:
    """A reference to something that is known by its name alone, such as a stack."""
    return Named(id=derived_id(kind, name), name=name)

"""Time, as a thing that can be handed over: the wall clock for facts, the loop's for waiting."""

from collections.abc import Callable
from datetime import UTC, datetime

#: the present moment in UTC; tests hand in one of their own
Clock = Callable[[], datetime]


def wall() -> datetime:
    return datetime.now(UTC)

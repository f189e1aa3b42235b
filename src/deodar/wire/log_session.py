"""A log session as the API shows it: a URL that is good for a while."""

import uuid
from datetime import datetime

from deodar.wire.base import Shape, stamp


class LogSession(Shape):
    created_at: str
    id: str
    logplex_url: str
    updated_at: str


class Wanted(Shape):
    """What a client wants to see. The official CLI says `dyno` where the schema says `dyno_name`."""

    dyno: str | None = None
    dyno_name: str | None = None
    lines: int | None = None
    source: str | None = None
    tail: bool | None = None


def present_log_session(url: str, now: datetime) -> LogSession:
    return LogSession(
        created_at=stamp(now), id=str(uuid.uuid4()), logplex_url=url, updated_at=stamp(now)
    )

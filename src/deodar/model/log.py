"""What a LogLine is and how it is printed (devcenter: logging); keeping lines is the store's."""

from dataclasses import dataclass
from datetime import UTC, datetime

LINE_LIMIT = 10_000  #: bytes; longer lines are split (devcenter: logging)
HISTORY = 1_500  #: lines that a log session may look back


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of an app's log: `source` is `app` or `heroku`, `dyno` such as `web.1` or `router`."""

    at: datetime
    source: str
    dyno: str
    text: str

    def __str__(self) -> str:
        stamp = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
        return f"{stamp} {self.source}[{self.dyno}]: {self.text}"


def matches(line: LogLine, *, source: str | None, dyno: str | None) -> bool:
    """Whether a log session asks for this line; `dyno` is a dyno's name or a process type."""
    if source is not None and line.source != source:
        return False
    return dyno is None or line.dyno == dyno or line.dyno.split(".")[0] == dyno

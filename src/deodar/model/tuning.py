"""The config vars by which an app's owner tunes what the platform does for it: names and values.

What a value brings about is told where it is used; here stands only what may be said. A config var is
the one thing that the official CLI can set which Heroku has no word for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import quote

from deodar.model import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A whole number within bounds; what it counts, its kinds say."""

    kind: ClassVar[str]

    name: str
    at_least: int
    at_most: int

    def check(self, value: str) -> None:
        """Raises InvalidParams where the value is none of these."""
        number = _number(value)
        if number is None or not self.at_least <= number <= self.at_most:
            raise errors.InvalidParams(
                f"{self.name} must be {self.kind} from {self.at_least} to {self.at_most}."
            )


class Seconds(Bounded):
    """A whole number of seconds within bounds."""

    __slots__ = ()
    kind = "a number of seconds"

    def of(self, config: Mapping[str, str], default: float) -> float:
        """What the app says, or else the platform's default."""
        own = config.get(self.name)
        return float(own) if own is not None else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """On or off."""

    name: str

    def check(self, value: str) -> None:
        """Raises InvalidParams where the value is neither."""
        if value not in ("on", "off"):
            raise errors.InvalidParams(f"{self.name} must be on or off.")

    def of(self, config: Mapping[str, str], *, default: bool) -> bool:
        """What the app says, or else the platform's default."""
        own = config.get(self.name)
        return own == "on" if own is not None else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Minutes:
    """A whole number of minutes, or `never`."""

    name: str
    at_most: int

    def check(self, value: str) -> None:
        """Raises InvalidParams where the value is neither."""
        if value != "never" and not 1 <= (_number(value) or 0) <= self.at_most:
            raise errors.InvalidParams(
                f"{self.name} must be never or a number of minutes from 1 to {self.at_most}."
            )

    def parse(self, value: str) -> timedelta | None:
        """What a value says; None for never, and for one that was set before it meant anything."""
        return timedelta(minutes=int(value)) if value.isdigit() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of some words."""

    name: str
    words: tuple[str, ...]

    def check(self, value: str) -> None:
        """Raises InvalidParams where the value is none of them."""
        if value not in self.words:
            raise errors.InvalidParams(f"{self.name} must be one of {', '.join(self.words)}.")

    def of(self, config: Mapping[str, str], *, default: str) -> str:
        """What the app says, or else the platform's default."""
        own = config.get(self.name)
        return own if own in self.words else default


class Count(Bounded):
    """A whole number within bounds."""

    __slots__ = ()
    kind = "a number"

    def of(self, config: Mapping[str, str], default: int) -> int:
        """What the app says, or else the platform's default."""
        own = config.get(self.name)
        return int(own) if own is not None else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A web page of the app's choice. The name is Heroku's own, and may have been set to anything
    before it came here."""

    name: str
    at_most: int = 2000  #: bytes

    def check(self, value: str) -> None:
        """Raises InvalidParams where the value is no web page's URL. Empty is none, as on Heroku."""
        if value and not self.of({self.name: value}):
            raise errors.InvalidParams(
                f"{self.name} must be a URL that begins with https:// or http://."
            )

    def of(self, config: Mapping[str, str]) -> str:
        """The URL, fit to stand in a page of ours between quotes; empty where there is none."""
        own = config.get(self.name, "").strip()
        url = quote(own, safe=URL_SIGNS)
        return url if URL.match(own) and len(url) <= self.at_most else ""


def _number(value: str) -> int | None:
    """A whole number in plain digits; None for anything else."""
    return int(value) if value.isascii() and value.isdigit() else None


URL = re.compile(r"https?://[^/?#\s]", re.IGNORECASE)
URL_SIGNS = ":/?#[]@!$&()*+,=%~-._"  #: not `"`, `'`, `;`, `|`, `<`, nor a space

Setting = Seconds | Switch | Minutes | Choice | Count | Address

#: how long its web dynos may take to bind to $PORT
BOOT_TIMEOUT = Seconds(name="DEODAR_BOOT_TIMEOUT", at_least=1, at_most=600)

#: how long nobody may ask for it until it is put to sleep
IDLE_AFTER = Minutes(name="DEODAR_IDLE_AFTER", at_most=30 * 24 * 60)
#: whether its other dynos sleep with its web dynos
IDLE_WORKERS = Switch(name="DEODAR_IDLE_WORKERS")
#: how deep it may sleep
IDLE_DEPTH = Choice(name="DEODAR_IDLE_DEPTH", words=("sink", "freeze", "stop"))

#: whether a newer build ends those of the app that wait or run
NEWEST_BUILD = Switch(name="DEODAR_NEWEST_BUILD")

#: how long a request may wait for its first byte
REQUEST_TIMEOUT = Seconds(name="DEODAR_REQUEST_TIMEOUT", at_least=1, at_most=3600)
#: how long a request that has begun to be answered, or a WebSocket, may be silent
IDLE_TIMEOUT = Seconds(name="DEODAR_IDLE_TIMEOUT", at_least=1, at_most=24 * 60 * 60)
#: how long a dyno that took no connection is left alone
QUARANTINE = Seconds(name="DEODAR_QUARANTINE", at_least=1, at_most=300)
#: how many requests one dyno is given at once
CONCURRENCY = Count(name="DEODAR_CONCURRENCY", at_least=1, at_most=10_000)
#: how many requests may wait until a dyno has room
QUEUE = Count(name="DEODAR_QUEUE", at_least=0, at_most=10_000)
#: which dyno is asked
BALANCE = Choice(name="DEODAR_BALANCE", words=("random", "least-connections"))
#: whether who asks by http:// is sent to https://
HTTPS_ONLY = Switch(name="DEODAR_HTTPS_ONLY")
#: what is shown instead of our pages (devcenter: error-pages)
ERROR_PAGE = Address(name="ERROR_PAGE_URL")
MAINTENANCE_PAGE = Address(name="MAINTENANCE_PAGE_URL")

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        each.name: each
        for each in (
            BOOT_TIMEOUT,
            IDLE_AFTER,
            IDLE_WORKERS,
            IDLE_DEPTH,
            NEWEST_BUILD,
            REQUEST_TIMEOUT,
            IDLE_TIMEOUT,
            QUARANTINE,
            CONCURRENCY,
            QUEUE,
            BALANCE,
            HTTPS_ONLY,
            ERROR_PAGE,
            MAINTENANCE_PAGE,
        )
    }
)


def check(name: str, value: str) -> None:
    """Raises InvalidParams if `name` is one of these config vars and the value none that it may have."""
    setting = SETTINGS.get(name)
    if setting is not None:
        setting.check(value)

"""The config vars by which an app's owner tunes what the platform does for it: names and values.

What a value brings about is told where it is used; here stands only what may be said. A config var is
the one thing that the official CLI can set which Heroku has no word for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deodar.model import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """A whole number of seconds within bounds."""

    name: str
    at_least: int
    at_most: int

    def check(self, value: str) -> None:
        """Raises InvalidParams where the value is none of these."""
        number = int(value) if value.isascii() and value.isdigit() else None
        if number is None or not self.at_least <= number <= self.at_most:
            raise errors.InvalidParams(
                f"{self.name} must be a number of seconds from {self.at_least} to {self.at_most}."
            )

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


Setting = Seconds | Switch

#: how long its web dynos may take to bind to $PORT
BOOT_TIMEOUT = Seconds(name="DEODAR_BOOT_TIMEOUT", at_least=1, at_most=600)

SETTINGS: Mapping[str, Setting] = MappingProxyType({each.name: each for each in (BOOT_TIMEOUT,)})


def check(name: str, value: str) -> None:
    """Raises InvalidParams if `name` is one of these config vars and the value none that it may have."""
    setting = SETTINGS.get(name)
    if setting is not None:
        setting.check(value)

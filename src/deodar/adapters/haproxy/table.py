"""What HAProxy is told to hold, and what it is seen to hold, as values; leaves writing them to others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One dyno as HAProxy knows it."""

    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that a fresh HAProxy must know to route as the last one did."""

    hosts: Mapping[str, int] = field(default_factory=dict)  #: host → slot
    states: Mapping[int, str] = field(default_factory=dict)  #: slot → H code
    servers: Mapping[int, tuple[Server, ...]] = field(default_factory=dict)  #: slot → dynos
    certificates: tuple[str, ...] = ()  #: PEM files; the first answers for unknown names


class Mode(StrEnum):
    READY = "ready"
    DRAIN = "drain"  #: finishes what it has, is given nothing new
    MAINT = "maint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One server as HAProxy has it."""

    server: Server
    mode: Mode
    sessions: int  #: requests and tunnels running on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What HAProxy holds for one app."""

    hosts: frozenset[str] = frozenset()
    code: str | None = None  #: answers instead of a dyno
    servers: Mapping[str, Seen] = field(default_factory=dict)  #: by name


SLOT_PREFIX = "app_"


def slot_name(slot: int) -> str:
    return f"{SLOT_PREFIX}{slot:04d}"


def slot_number(name: str) -> int:
    return int(name.removeprefix(SLOT_PREFIX))

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


class Family(StrEnum):
    """Which of its slot's backends an app has. Most have the first, whose requests pay for no wish."""

    PLAIN = "app"
    OWN = "own"  #: looks up what the app wishes
    LEAST = "least"  #: the same, and asks the dyno with the fewest requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What an app wishes of the router. Left alone, it is the platform's word."""

    first: int = 0  #: seconds until the first byte; 0: 30
    idle: int = 0  #: seconds between two bytes; 0: 55
    concurrency: int = 1000  #: what one dyno is given at once
    queue: int = 200  #: requests that may wait for a dyno
    quarantine: int = 5  #: seconds until a dyno that took no connection is tried again
    least: bool = False  #: the dyno with the fewest requests instead of a random one
    affinity: bool = False  #: a client stays with its dyno
    https_only: bool = False
    error_page: str = ""  #: URL; as `model.tuning.Address` lets it through
    maintenance_page: str = ""

    @property
    def family(self) -> Family:
        if self.least:
            return Family.LEAST
        return Family.PLAIN if self == Tuning() else Family.OWN

    def encode(self) -> str:
        """As it stands in HAProxy's map, whose rules count the fields from 1."""
        return "|".join(
            (
                str(self.first * 1000),
                str(self.idle * 1000),
                str(self.queue),
                str(int(self.https_only)),
                str(int(self.affinity)),
                self.error_page,
                self.maintenance_page,
                str(self.concurrency),
                str(self.quarantine),
                str(int(self.least)),
            )
        )

    @classmethod
    def decode(cls, text: str) -> "Tuning":
        first, idle, queue, https, affinity, error, maintenance, *rest = text.split("|")
        concurrency, quarantine, least = rest
        return cls(
            first=int(first) // 1000,
            idle=int(idle) // 1000,
            concurrency=int(concurrency),
            queue=int(queue),
            quarantine=int(quarantine),
            least=least == "1",
            affinity=affinity == "1",
            https_only=https == "1",
            error_page=error,
            maintenance_page=maintenance,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that a fresh HAProxy must know to route as the last one did."""

    hosts: Mapping[str, int] = field(default_factory=dict)  #: host → slot
    states: Mapping[int, str] = field(default_factory=dict)  #: slot → H code
    servers: Mapping[int, tuple[Server, ...]] = field(default_factory=dict)  #: slot → dynos
    tunings: Mapping[int, Tuning] = field(default_factory=dict)  #: slot → wishes, if it has any
    certificates: Mapping[str, str] = field(
        default_factory=dict
    )  #: host → key and chain, PEM; the first answers for unknown names
    challenges: Mapping[str, str] = field(
        default_factory=dict
    )  #: host and path that ACME will ask for → what it wants to hear


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


MIXED = "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What HAProxy holds for one app."""

    hosts: frozenset[str] = frozenset()
    code: str | None = None  #: answers instead of a dyno; `MIXED` if it does for some hosts
    tuning: Tuning = field(default_factory=Tuning)
    servers: Mapping[str, Seen] = field(default_factory=dict)  #: by name


def backend_name(slot: int, family: Family = Family.PLAIN) -> str:
    return f"{family}_{slot:04d}"


def lead_name(slot: int, *, family: Family = Family.PLAIN, code: str | None = None) -> str:
    """Where a host leads to: the app's backend, or the H code that answers and whose it is."""
    return backend_name(slot, family) if code is None else f"{code}_{slot:04d}"


def lead_end(slot: int) -> str:
    """What everything that leads to this slot ends with."""
    return f"_{slot:04d}"


def slot_number(name: str) -> int:
    """The slot of a backend's name, or of a code's."""
    return int(name.rpartition("_")[2])


def code_of(lead: str) -> str | None:
    return lead.partition("_")[0] if lead.startswith("H") else None


def seat(server: str) -> str:
    """What a client's cookie says of its dyno: `1a2b3c4d` of `web.1-1a2b3c4d`."""
    return server.rpartition("-")[2]

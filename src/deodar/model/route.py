"""Hosts, domains and what the router answers when no dyno can: facts of the H codes, as data."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from deodar.model import errors
from deodar.model.app import AppId
from deodar.model.certificate import Acm, Chosen

HOST = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)


class DomainKind(StrEnum):
    HEROKU = "heroku"  #: the platform's own name for the app
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A host name that is routed to one app (devcenter: custom-domains)."""

    id: str
    app_id: AppId
    hostname: str
    kind: DomainKind
    sni_endpoint: Chosen | None = None  #: None: a certificate of the platform's own authority
    acm: Acm = field(default_factory=Acm)
    created_at: datetime
    updated_at: datetime


def check_hostname(hostname: str) -> str:
    """The host name in lower case; raises InvalidParams if no DNS name could be so."""
    name = hostname.strip().rstrip(".").lower()
    if len(name) > 253 or not HOST.fullmatch(name):
        raise errors.InvalidParams(
            f"{hostname!r} is not a valid hostname: give a full name such as www.example.com."
        )
    return name


#: code → desc as the router line spells it (devcenter: error-codes)
H_CODES = MappingProxyType(
    {
        "H10": "App crashed",
        "H11": "Backlog too deep",
        "H12": "Request timeout",
        "H13": "Connection closed without response",
        "H14": "No web processes running",
        "H15": "Idle connection",
        "H17": "Poorly formatted HTTP response",
        "H18": "Server Request Interrupted",
        "H19": "Backend connection timeout",
        "H20": "App boot timeout",
        "H21": "Backend connection refused",
        "H22": "Connection limit reached",
        "H24": "Forced close",
        "H26": "Request Error",
        "H27": "Client Request Interrupted",
        "H28": "Client Connection Idle",
        "H31": "Misdirected Request",
        "H34": "All up dynos are quarantined",
        "H80": "Maintenance mode",
        "H81": "Blank app",
        "H99": "Platform error",
    }
)

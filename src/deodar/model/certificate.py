"""Certificates that an app's domains are served with, and how far ACME has come with those it gets.

Facts and rules; reading PEM, asking a certificate authority and serving belong to others. Private keys
are in none of these nouns: the store gives them to those that serve them.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from deodar.model.app import AppId

RENEW_BEFORE = timedelta(days=30)  #: before a certificate expires, at the most
WELL_KNOWN = "/.well-known/acme-challenge/"  #: where HTTP-01 looks (RFC 8555, section 8.3)

#: top-level names that no public authority certifies (RFC 6761, RFC 8375, and what is in use)
PRIVATE = frozenset(
    {"localhost", "local", "internal", "test", "invalid", "example", "lan", "home", "corp", "onion"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a certificate says of itself."""

    names: tuple[str, ...]
    subject: str  #: as `/C=GB/O=Example/CN=www.example.com`
    issuer: str
    starts_at: datetime
    expires_at: datetime
    self_signed: bool
    ca_signed: bool  #: by an authority that this machine trusts


@dataclass(frozen=True, slots=True, kw_only=True)
class SniEndpoint:
    """A certificate of an app (devcenter: ssl); domains choose it by its name."""

    id: str
    app_id: AppId
    name: str
    chain: str  #: PEM, the app's own certificate first
    facts: Facts
    acm: bool  #: made and renewed by the platform
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The certificate that a domain is served with."""

    id: str
    name: str
    acm: bool
    starts_at: datetime
    expires_at: datetime
    updated_at: datetime  #: another when the certificate is another

    @property
    def renew_at(self) -> datetime:
        """When the next is asked for: one that lasts a week must not be renewed all the time."""
        return self.expires_at - min(RENEW_BEFORE, (self.expires_at - self.starts_at) / 3)


class AcmStatus(StrEnum):
    """How far ACM has come with a domain, in words that the official CLI knows."""

    WAITING = "pending"
    IN_PROGRESS = "verified"
    ISSUED = "cert issued"
    FAILING = "failing"
    FAILED = "failed"  #: so often that its owner should look


@dataclass(frozen=True, slots=True, kw_only=True)
class Acm:
    """What ACM did for a domain so far."""

    status: AcmStatus | None = None  #: None while ACM is off
    reason: str | None = None
    failures: int = 0  #: in a row
    next_at: datetime | None = None  #: no order before


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A certificate that was asked for and is not there yet."""

    domain_id: str
    app_id: AppId
    hostname: str
    url: str  #: the order at the authority
    key: str = field(repr=False)  #: PEM, of the certificate to come
    token: str | None  #: what the authority will ask the router for; None: it asks no more
    answer: str | None
    routed: bool  #: the router knows the answer
    created_at: datetime

    @property
    def place(self) -> str | None:
        """Host and path of the question, in lower case, as the router looks it up."""
        return None if self.token is None else f"{self.hostname}{WELL_KNOWN}{self.token}".lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeAccount:
    """Who we are to an authority."""

    directory: str
    key: str = field(repr=False)  #: PEM
    url: str | None  #: None until the authority knows us


def is_private(hostname: str) -> bool:
    """Whether no public authority could certify this name."""
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        labels = hostname.rstrip(".").lower().split(".")
        return len(labels) < 2 or labels[-1] in PRIVATE or labels[-2:] == ["home", "arpa"]
    return True


def covers(names: Iterable[str], hostname: str) -> bool:
    """Whether a certificate for `names` is good for the host name, which may itself be a wildcard."""
    _, _, parent = hostname.partition(".")
    return any(name.lower() in (hostname, f"*.{parent}") for name in names)

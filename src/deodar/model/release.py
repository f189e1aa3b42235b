"""What a Slug and a Release are, and the words a release is described in; storing is the store's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from deodar.model.app import AppId, ConfigVars

SLUG_LIMIT = 500 * 1000 * 1000  #: bytes; `500M` in Heroku's message (devcenter: slug-compiler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slug:
    """An app's code, compiled, packed and ready to be mounted. Immutable once it is in the store."""

    id: str
    app_id: AppId
    checksum: str  #: `SHA256:<hex>` of the archive; its name on disk
    size: int  #: bytes of the archive
    stack: str
    commit: str | None = None
    commit_description: str | None = None
    buildpack_description: str | None = None  #: such as `Python`
    process_types: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime


#: the process type that runs before a release's dynos boot, and never in the formation
PHASE = "release"


class ReleaseStatus(StrEnum):
    PENDING = "pending"  #: its release phase runs, or waits for that of an older release
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"  #: its slug is gone; cannot be rolled back to


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A Slug with ConfigVars and a number. The ledger only grows (devcenter: releases)."""

    id: str
    app_id: AppId
    version: int
    slug_id: str | None  #: None until the first build or import
    description: str
    user: str  #: email of who caused it
    status: ReleaseStatus = ReleaseStatus.SUCCEEDED
    current: bool
    command: str | None = None  #: of its release phase; None if it has none
    config: ConfigVars
    created_at: datetime
    updated_at: datetime

    @property
    def name(self) -> str:
        return f"v{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the ledger by which a slug is kept: all of a Release but what one reads it for."""

    version: int
    slug_id: str
    current: bool
    created_at: datetime


def describe_deploy(commit: str | None) -> str:
    """`Deploy 1a2b3c4d`, as Heroku describes the release of a push."""
    return f"Deploy {commit[:8]}" if commit else "Deploy"


def describe_config(changes: Mapping[str, str | None]) -> str:
    """`Set A, B config vars`, `Remove C config vars`, or both."""
    given = [key for key, value in changes.items() if value is not None]
    removed = [key for key, value in changes.items() if value is None]
    parts = [
        f"{verb} {', '.join(keys)} config vars"
        for verb, keys in (("Set", given), ("Remove", removed))
        if keys
    ]
    return " and ".join(parts) or "No config vars changed"


def describe_rollback(version: int) -> str:
    return f"Rollback to v{version}"

"""What a Build is and how it may end; running it is the compiler's."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from deodar.model.app import AppId

#: why a build ended that our own end cut short (decision 0007)
INTERRUPTED = "The platform restarted during the build. Push again."

#: who has canceled a build that a newer one supersedes; no email reads so
NEWER = "a newer build"


class BuildStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One attempt to turn a Source into a Slug and a Release (Platform API: build).

    The source's tar lies in a file named after the build's id; the output in another.
    """

    id: str
    app_id: AppId
    user: str  #: email of who asked for it
    status: BuildStatus = BuildStatus.PENDING
    stack: str
    commit: str | None = None  #: source version
    commit_description: str | None = None  #: the commit's first line
    buildpacks: tuple[str, ...] = ()  #: those asked for, in order; empty means detect
    slug_id: str | None = None
    release_id: str | None = None
    canceled_by: str | None = None  #: email of who wishes that it end, or NEWER
    message: str | None = None  #: why it failed, in a sentence
    started_at: datetime | None = None  #: when the compiler took it up
    created_at: datetime
    updated_at: datetime

    @property
    def interrupted(self) -> bool:
        """Whether it ended only because the platform did: it may go well next time."""
        return self.message == INTERRUPTED

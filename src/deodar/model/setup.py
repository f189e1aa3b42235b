"""What the set-up of an app from a source with an app.json is, and the one table of its life; moving it
on is the set-up loop's.

The API shows `pending` until it has succeeded or failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from deodar.model import errors
from deodar.model.app import AppId, ConfigVars


class State(StrEnum):
    SOURCE = "source"  #: its source is to be fetched, and the app.json in there to be read
    BUILD = "build"  #: the app is as app.json says, and is built
    POSTDEPLOY = "postdeploy"  #: the app is released; its postdeploy command runs
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Event(StrEnum):
    APPLIED = "applied"  #: app.json was read and the build wished
    INTERRUPTED = "interrupted"  #: the platform restarted during the build, which is wished again
    DEPLOYED = "deployed"  #: the build made its release, and there is a postdeploy command
    FINISHED = "finished"  #: nothing is left to do
    FAILED = "failed"


MOVES: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.SOURCE, Event.APPLIED): State.BUILD,
        (State.SOURCE, Event.FAILED): State.FAILED,
        (State.BUILD, Event.INTERRUPTED): State.BUILD,
        (State.BUILD, Event.DEPLOYED): State.POSTDEPLOY,
        (State.BUILD, Event.FINISHED): State.SUCCEEDED,
        (State.BUILD, Event.FAILED): State.FAILED,
        (State.POSTDEPLOY, Event.FINISHED): State.SUCCEEDED,
        (State.POSTDEPLOY, Event.FAILED): State.FAILED,
    }
)

ENDED = frozenset({State.SUCCEEDED, State.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One app's set-up (Platform API: app-setup). It outlives an app whose set-up failed."""

    id: str
    app_id: AppId
    app_name: str  #: as it was created
    user: str  #: email of who asked for it
    state: State = State.SOURCE
    source: ConfigVars  #: `url`, `checksum`, `version`; sealed, since a URL may hold a token
    stack: str | None = None  #: asked for, over app.json's
    env: ConfigVars = field(default_factory=ConfigVars)  #: asked for, over app.json's
    buildpacks: tuple[str, ...] | None = None  #: asked for, over app.json's
    manifest: str | None = None  #: the text of app.json, once it was read
    notes: tuple[str, ...] = ()  #: what is wrong with app.json, or was passed over in it
    build_id: str | None = None
    builds: int = 0  #: how often the build was begun
    dyno_id: str | None = None  #: of the postdeploy command
    output: str | None = None  #: of the postdeploy command
    exit_code: int | None = None
    failure: str | None = None  #: why it failed, in a sentence
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> str:
        """As the API shows it."""
        return self.state.value if self.state in ENDED else "pending"

    def on(self, event: Event, now: datetime) -> "Setup":
        """This set-up after `event`. Raises IllegalTransition where the table has no such move."""
        target = MOVES.get((self.state, event))
        if target is None:
            raise errors.IllegalTransition(f"A set-up is {self.state}: cannot take {event}")
        return replace(self, state=target, updated_at=now)

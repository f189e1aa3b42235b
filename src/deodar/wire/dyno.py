"""The shapes of dynos."""

from deodar.model import dyno as dyno_rules
from deodar.model.app import App
from deodar.model.dyno import Dyno as DynoNoun
from deodar.model.dyno import State
from deodar.wire.base import Named, Shape, stamp


class ReleaseRef(Shape):
    id: str
    version: int


class Dyno(Shape):
    id: str
    name: str
    type: str
    command: str
    size: str
    state: str
    app: Named
    release: ReleaseRef
    attach_url: str | None
    exit_status: int | None  #: ours: how it ended, if it did
    reason: str | None  #: ours: why it, or the crashed one that it stands in for, ended
    created_at: str
    updated_at: str


class DynoCreate(Shape):
    """The CLI sends COLUMNS and LINES as numbers, so `env` takes those too."""

    command: str
    attach: bool | None = None
    env: dict[str, str | int] | None = None
    force_no_tty: bool | None = None
    size: str | None = None
    type: str | None = None
    time_to_live: int | None = None


def present_dyno(dyno: DynoNoun, app: App, *, attach_url: str | None = None) -> Dyno:
    """`attach_url` is told once, to whom asked for the dyno."""
    return Dyno(
        id=dyno.id,
        name=dyno.name,
        type=dyno.type,
        command=dyno.command,
        size=dyno.size,
        state=dyno_rules.SHOWN[dyno.state],
        app=Named(id=app.id, name=app.name),
        release=ReleaseRef(id=dyno.release_id, version=dyno.release_version),
        attach_url=attach_url,
        exit_status=dyno.exit_status,
        reason=dyno.cause if dyno.state is State.CRASHED else dyno.fate,
        created_at=stamp(dyno.created_at),
        updated_at=stamp(dyno.state_since),
    )

"""What a dyno's process is given at its start, and the words that tell of its changes. Pure."""

from collections.abc import Iterator

from deodar.engines.base import Spec
from deodar.model.app import App, ConfigVars
from deodar.model.dyno import GONE, Dyno, Kind, State
from deodar.model.formation import size_of
from deodar.model.release import Slug

#: what PORT tells a web dyno; each has a network of its own, so all may have the same
PORT = 5000

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: sources .profile.d/*.sh, then .profile, then becomes the command (devcenter: profile-d-scripts)
SHELL = (
    'for f in .profile.d/*.sh; do [ -r "$f" ] && . "$f"; done; '
    "[ -r .profile ] && . ./.profile; "
    'exec bash -c "$1"'
)


def spec(app: App, dyno: Dyno, config: ConfigVars, slug: Slug | None) -> Spec:
    """All that the engine needs to run `dyno` with the config vars of its release."""
    return Spec(
        id=dyno.id,
        app_id=app.id,
        name=dyno.name,
        uid=app.uid,
        argv=("bash", "--norc", "--noprofile", "-c", SHELL, "bash", dyno.command),
        env=environment(dyno, config),
        stack=slug.stack if slug else app.stack,
        slug=slug.checksum if slug else None,
        size=size_of(dyno.size),
        port=dyno.port,
        terminal=dyno.tty,
        stdin=dyno.attached,
        keep_output=not dyno.attached,
    )


def environment(dyno: Dyno, config: ConfigVars) -> ConfigVars:
    """Config vars over a plain environment, and over both what only the platform can say."""
    env = ConfigVars({"PATH": PATH, "LANG": "C.UTF-8", **config, **dyno.env})
    env |= {"HOME": "/app", "DYNO": dyno.name}
    if dyno.port is not None:
        env["PORT"] = str(dyno.port)
    return env


def changes(before: Dyno, after: Dyno) -> Iterator[str]:
    """The lines of the app's log that tell of a dyno's move from one state to another."""
    if before.state is after.state:
        return
    if (
        after.state in GONE
        and before.state is not State.PROVISIONING
        and after.exit_status is not None
    ):
        yield f"Process exited with status {after.exit_status}"
    if after.state is State.CRASHED and after.reason and not after.killed:
        yield after.reason
    for was, now in steps(before, after):
        yield f"State changed from {was} to {now}"


def steps(before: Dyno, after: Dyno) -> Iterator[tuple[str, str]]:
    """The moves that Heroku logs; a stopped dyno's record simply goes."""
    match before.state, after.state:
        case State.PROVISIONING, State.UP:
            yield "starting", "up"
        case State.PROVISIONING, State.CRASHED:
            yield "starting", "crashed"
        case State.PROVISIONING, State.STARTING:
            yield "provisioning", "starting"
        case (State.STARTING | State.UP) as was, (State.UP | State.CRASHED | State.COMPLETE) as now:
            yield was.value, now.value
        case State.STOPPING, State.DOWN if after.kind is Kind.ONE_OFF:
            yield "up", "complete"

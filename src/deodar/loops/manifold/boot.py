"""What a dyno's process is given at its start, and the words that tell of its changes. Pure."""

import shlex
from collections.abc import Iterator

from deodar.engines.base import Sighting, Spec
from deodar.model.app import App, ConfigVars
from deodar.model.dyno import EXIT_CODE, GONE, Dyno, Kind, State
from deodar.model.formation import MB, size_of
from deodar.model.release import Release, Slug, describe_deploy

#: what PORT tells a web dyno; each has a network of its own, so all may have the same
PORT = 5000

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: sources .profile.d/*.sh, then .profile, then becomes the command (devcenter: profile-d-scripts)
PROFILE = (
    'for f in .profile.d/*.sh; do [ -r "$f" ] && . "$f"; done; [ -r .profile ] && . ./.profile; '
)
SHELL = PROFILE + 'exec bash -c "$1"'
#: the same for what a person typed: where the shell cannot read it, it is taken word by word
TYPED = PROFILE + 'bash -n -c "$1" 2>/dev/null || shift; exec bash -c "$1"'


def spec(app: App, dyno: Dyno, release: Release, slug: Slug | None) -> Spec:
    """All that the engine needs to run `dyno` with the config vars of its release."""
    return Spec(
        id=dyno.id,
        app_id=app.id,
        name=dyno.name,
        uid=app.uid,
        argv=typed(dyno.command) if dyno.kind is Kind.ONE_OFF else argv(dyno.command),
        env=environment(app, dyno, release, slug),
        stack=slug.stack if slug else app.stack,
        slug=slug.checksum if slug else None,
        size=size_of(dyno.size),
        port=dyno.port,
        terminal=dyno.tty,
        stdin=dyno.attached,
        keep_output=not dyno.attached,
    )


def argv(command: str) -> tuple[str, ...]:
    """What runs `command` as a dyno's process is run, everything set up by its .profile.d."""
    return ("bash", "--norc", "--noprofile", "-c", SHELL, "bash", command)


def typed(command: str) -> tuple[str, ...]:
    """What runs the command of a one-off.

    The CLI takes the quotes off what somebody typed: `heroku run python -c 'print(6*7)'` comes as
    `python -c print(6*7)`, which no shell can read.
    """
    return ("bash", "--norc", "--noprofile", "-c", TYPED, "bash", command, by_words(command))


def by_words(command: str) -> str:
    """The command with every word quoted, but for what the CLI added to learn the exit status."""
    body = command.removesuffix(EXIT_CODE)
    try:
        words = shlex.split(body)
    except ValueError:
        return command  # quotes without their end: there is nothing to make of it
    return shlex.join(words) + command[len(body) :]


def environment(app: App, dyno: Dyno, release: Release, slug: Slug | None) -> ConfigVars:
    """Config vars over a plain environment, and over both what only the platform can say."""
    memory = str(size_of(dyno.size).memory // MB)
    plain = {"PATH": PATH, "LANG": "C.UTF-8", "MEMORY_AVAILABLE": memory}
    env = ConfigVars(plain | metadata(app, dyno, release, slug))
    env |= release.config
    env |= dyno.env
    env |= {"HOME": "/app", "DYNO": dyno.name}
    if dyno.port is not None:
        env["PORT"] = str(dyno.port)
    return env


def metadata(app: App, dyno: Dyno, release: Release, slug: Slug | None) -> dict[str, str]:
    """What a dyno may know of itself (devcenter: dyno-metadata). Heroku asks for a switch to be turned
    on first; here every dyno has it."""
    known = {
        "HEROKU_APP_ID": app.id,
        "HEROKU_APP_NAME": app.name,
        "HEROKU_DYNO_ID": dyno.id,
        "HEROKU_RELEASE_CREATED_AT": release.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "HEROKU_RELEASE_VERSION": release.name,
    }
    if slug is not None:
        known["HEROKU_SLUG_COMMIT"] = slug.commit or ""
        known["HEROKU_SLUG_DESCRIPTION"] = describe_deploy(slug.commit)
    return known


def overrun(before: Dyno, after: Dyno, sighting: Sighting | None) -> Iterator[str]:
    """How much memory a dyno had when the kernel ended it for that. Of one that we killed it is told."""
    ended = before.runs and not after.runs and not before.killed
    if ended and sighting is not None and sighting.peak is not None:
        yield f"Process running mem={size_of(after.size).share(sighting.peak)}"


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
    """The moves that Heroku logs. That a dyno is to be stopped is told when the signal is sent."""
    match before.state, after.state:
        case State.PROVISIONING, State.UP:
            yield "starting", "up"
        case State.PROVISIONING, State.CRASHED:
            yield "starting", "crashed"
        case State.PROVISIONING, State.STARTING:
            yield "provisioning", "starting"
        case State.UP, State.IDLE:
            yield "up", "down"
        case State.IDLE, State.UP:
            yield "down", "up"
        case State.PARKED, now:
            yield "down", "starting"
            if now is not State.STARTING:
                yield "starting", now.value
        case State.IDLE, State.CRASHED:
            yield "down", "crashed"
        case (
            (State.STARTING | State.UP) as was,
            (State.UP | State.CRASHED | State.COMPLETE) as now,
        ):
            yield was.value, now.value
        case State.STOPPING, State.DOWN:
            yield "up", "complete" if after.kind is Kind.ONE_OFF else "down"

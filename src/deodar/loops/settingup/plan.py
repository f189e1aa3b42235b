"""What is to be done next for one app that is being set up? Answers with one step; takes none itself."""

from dataclasses import dataclass

from deodar.model.app import App
from deodar.model.build import Build, BuildStatus
from deodar.model.dyno import GONE, Dyno
from deodar.model.dyno import State as DynoState
from deodar.model.release import Release, ReleaseStatus
from deodar.model.setup import Setup, State

TRIES = 3  #: builds, where the platform ended each before it was ready

DESTROYED = "The app was destroyed while it was set up."


@dataclass(frozen=True, slots=True)
class Read:
    """Fetch the source, read its app.json, and make the app so."""

    app: App


@dataclass(frozen=True, slots=True)
class BuildAgain:
    app: App


@dataclass(frozen=True, slots=True)
class TakeUp:
    """The app is released: scale it, and begin its postdeploy command."""

    app: App


@dataclass(frozen=True, slots=True)
class Collect:
    """The postdeploy command has ended: keep what it printed, and how it ended."""

    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Fail:
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Others are at work; the bell rings when they have ended."""


Step = Read | BuildAgain | TakeUp | Collect | Fail | Wait


def plan(
    setup: Setup,
    *,
    app: App | None,
    build: Build | None,
    release: Release | None,
    dyno: Dyno | None,
) -> Step:
    """The step for a set-up that has not ended; `build`, `release` and `dyno` are those that it made."""
    if app is None:
        return Fail(DESTROYED)
    match setup.state:
        case State.SOURCE:
            return Read(app)
        case State.BUILD:
            return _of_build(setup, app, build, release)
        case State.POSTDEPLOY:
            return _of_postdeploy(dyno)
    return Wait()


def _of_build(setup: Setup, app: App, build: Build | None, release: Release | None) -> Step:
    if build is None:
        return Fail("The build is gone.")
    match build.status:
        case BuildStatus.PENDING:
            return Wait()
        case BuildStatus.FAILED if build.interrupted and setup.builds < TRIES:
            return BuildAgain(app)
        case BuildStatus.FAILED:
            return Fail(f"The build failed: {build.message or 'its output says why.'}")
    if release is None or release.status is ReleaseStatus.FAILED:
        return Fail("The release failed: see `heroku releases:output` and `heroku logs`.")
    return TakeUp(app)


def _of_postdeploy(dyno: Dyno | None) -> Step:
    if dyno is None:
        return Fail("The dyno of the postdeploy command is gone.")
    return Collect(dyno) if dyno.state in GONE else Wait()


def exit_code(dyno: Dyno) -> int:
    """The postdeploy command's, from how its dyno ended; one that was stopped or never started failed."""
    if dyno.state is DynoState.COMPLETE and dyno.exit_status is not None:
        return dyno.exit_status
    return dyno.exit_status or 1

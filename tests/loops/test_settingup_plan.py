"""What is next for an app that is being set up."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deodar.loops.settingup.plan import (
    DESTROYED,
    BuildAgain,
    Collect,
    Fail,
    Read,
    Step,
    TakeUp,
    Wait,
    plan,
)
from deodar.model.app import ConfigVars
from deodar.model.build import INTERRUPTED, Build, BuildStatus
from deodar.model.dyno import Dyno, Kind
from deodar.model.dyno import State as DynoState
from deodar.model.release import Release, ReleaseStatus
from deodar.model.setup import Setup, State
from tests.loops.conftest import SHOP

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SETUP = Setup(
    id="1",
    app_id=SHOP.id,
    app_name="shop",
    user="ada@example.com",
    source=ConfigVars(url="x"),
    builds=1,
    created_at=NOW,
    updated_at=NOW,
)
BUILD = Build(id="b", app_id=SHOP.id, user="", stack="deodar-12", created_at=NOW, updated_at=NOW)
DONE = replace(BUILD, status=BuildStatus.SUCCEEDED, release_id="r")
FAILED = replace(BUILD, status=BuildStatus.FAILED, message="No Procfile.")
CUT = replace(FAILED, message=INTERRUPTED)
RELEASE = Release(
    id="r",
    app_id=SHOP.id,
    version=3,
    slug_id="s",
    description="Deploy",
    user="",
    current=True,
    config=ConfigVars(),
    created_at=NOW,
    updated_at=NOW,
)
DYNO = Dyno(
    id="d",
    app_id=SHOP.id,
    type="postdeploy",
    number=1000,
    kind=Kind.ONE_OFF,
    size="Basic",
    command="seed",
    release_id="r",
    release_version=3,
    slug_id="s",
    state_since=NOW,
    created_at=NOW,
)
BROKEN = Fail("The release failed: see `heroku releases:output` and `heroku logs`.")


@pytest.mark.parametrize(
    ("build", "release", "builds", "step"),
    [
        (BUILD, None, 1, Wait()),
        (FAILED, None, 1, Fail("The build failed: No Procfile.")),
        (CUT, None, 1, BuildAgain(SHOP)),
        (CUT, None, 2, BuildAgain(SHOP)),
        (CUT, None, 3, Fail(f"The build failed: {INTERRUPTED}")),
        (DONE, RELEASE, 1, TakeUp(SHOP)),
        (DONE, replace(RELEASE, status=ReleaseStatus.FAILED), 1, BROKEN),
        (DONE, None, 1, BROKEN),
        (None, None, 1, Fail("The build is gone.")),
    ],
)
def test_after_a_build(
    build: Build | None, release: Release | None, builds: int, step: Step
) -> None:
    setup = replace(SETUP, state=State.BUILD, builds=builds)

    assert plan(setup, app=SHOP, build=build, release=release, dyno=None) == step


@pytest.mark.parametrize(
    ("state", "waits"),
    [(state, state not in ("crashed", "complete", "down")) for state in DynoState],
)
def test_after_the_postdeploy_command(state: DynoState, waits: bool) -> None:
    setup, dyno = replace(SETUP, state=State.POSTDEPLOY), replace(DYNO, state=state)

    step = plan(setup, app=SHOP, build=DONE, release=RELEASE, dyno=dyno)

    assert step == (Wait() if waits else Collect(dyno))


def test_a_postdeploy_command_that_is_nowhere_has_failed() -> None:
    setup = replace(SETUP, state=State.POSTDEPLOY)

    assert plan(setup, app=SHOP, build=DONE, release=RELEASE, dyno=None) == Fail(
        "The dyno of the postdeploy command is gone."
    )


def test_a_setup_begins_with_its_source() -> None:
    assert plan(SETUP, app=SHOP, build=None, release=None, dyno=None) == Read(SHOP)


@pytest.mark.parametrize("state", [State.SOURCE, State.BUILD, State.POSTDEPLOY])
def test_without_its_app_there_is_nothing_to_set_up(state: State) -> None:
    setup = replace(SETUP, state=state)

    assert plan(setup, app=None, build=None, release=None, dyno=None) == Fail(DESTROYED)

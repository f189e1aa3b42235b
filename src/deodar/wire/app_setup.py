"""The shapes of an app's set-up."""

from urllib.parse import urljoin

from deodar.model import manifest
from deodar.model.app import App
from deodar.model.build import Build
from deodar.model.setup import Setup as SetupNoun
from deodar.model.setup import State
from deodar.wire.app import AppCreate
from deodar.wire.base import Named, Shape, stamp
from deodar.wire.build import SourceBlob
from deodar.wire.places import Places


class BuildpackOverride(Shape):
    url: str


class Overrides(Shape):
    env: dict[str, str] | None = None
    buildpacks: list[BuildpackOverride] | None = None


class SetupCreate(Shape):
    source_blob: SourceBlob
    app: AppCreate | None = None
    overrides: Overrides | None = None


class SetupBuild(Shape):
    id: str
    status: str
    output_stream_url: str


class Postdeploy(Shape):
    output: str
    exit_code: int


class Setup(Shape):
    id: str
    app: Named
    build: SetupBuild | None
    status: str
    failure_message: str | None
    manifest_errors: list[str]
    postdeploy: Postdeploy | None
    resolved_success_url: str | None
    created_at: str
    updated_at: str


def present_setup(
    setup: SetupNoun, app: App | None, build: Build | None, places: Places, *, output_url: str
) -> Setup:
    """`app` and `build` are None once they are gone; the set-up is told of all the same."""
    ran = setup.exit_code is not None
    return Setup(
        id=setup.id,
        app=Named(id=setup.app_id, name=setup.app_name if app is None else app.name),
        build=None
        if build is None
        else SetupBuild(id=build.id, status=build.status, output_stream_url=output_url),
        status=setup.status,
        failure_message=setup.failure,
        manifest_errors=list(setup.notes),
        postdeploy=Postdeploy(output=setup.output or "", exit_code=setup.exit_code or 0)
        if ran
        else None,
        resolved_success_url=_success_url(setup, app, places),
        created_at=stamp(setup.created_at),
        updated_at=stamp(setup.updated_at),
    )


def _success_url(setup: SetupNoun, app: App | None, places: Places) -> str | None:
    """Where to go once it has succeeded: app.json's `success_url`, from the app's own on."""
    if app is None or setup.state is not State.SUCCEEDED:
        return None
    wanted = manifest.parse(setup.manifest or "{}").success_url
    return urljoin(places.web_url(app), wanted or "")

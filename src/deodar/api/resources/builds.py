"""/apps/X/builds: lists and shows builds. Their output is streamed by the logs' door."""

from starlette.responses import Response

from deodar.api.call import Call, answer
from deodar.api.context import DOWNLOAD
from deodar.model import errors
from deodar.model.app import App
from deodar.model.build import Build
from deodar.store import builds
from deodar.wire import build as wire


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        found = await builds.of_app(tx, app.id)
    return call.page([_present(call, each, app) for each in found], "created_at", "id")


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        build = await builds.find(tx, app.id, call.word("build"))
    if build is None:
        raise errors.NotFound("build")
    return answer(_present(call, build, app))


def _present(call: Call, build: Build, app: App) -> wire.Build:
    token = call.context.signers.build_output.sign(
        f"{app.id}/{build.id}", now=call.now, lasts=DOWNLOAD
    )
    return wire.present_build(
        build,
        app,
        source_url=call.places.git_url(app),
        output_url=call.url(f"/builds/{token}/output"),
    )


TABLE = (
    ("GET", "/apps/{app}/builds", index),
    ("GET", "/apps/{app}/builds/{build}", info),
)

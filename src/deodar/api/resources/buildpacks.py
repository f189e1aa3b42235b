"""/buildpacks: the registry of buildpacks, as far as a client asks it whether one exists.

Those of this platform are files that it ships; what they do is the compiler's matter. Heroku's registry
asks nobody who they are, and neither does this one.
"""

from functools import partial
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deodar.api.call import answer
from deodar.model import errors
from deodar.wire import app as wire

NAMESPACE = "heroku"


def shipped() -> list[wire.RegisteredBuildpack]:
    """The built-in buildpacks by name."""
    folder = resources.files("deodar") / "buildpacks"
    names = [each.name for each in folder.iterdir() if (each / "bin" / "detect").is_file()]
    return [wire.present_registered(NAMESPACE, name) for name in sorted(names)]


async def index(known: list[wire.RegisteredBuildpack], request: Request) -> Response:
    """Searched by namespace, name or a word of the description, as `buildpacks:search` does."""
    namespaces = request.query_params.getlist("in[namespace][]")
    names = request.query_params.getlist("in[name][]")
    word = request.query_params.get("like[description]", "")
    return answer(
        [
            each
            for each in known
            if (not namespaces or each.namespace in namespaces)
            and (not names or each.name in names)
            and word in each.description
        ]
    )


async def info(known: list[wire.RegisteredBuildpack], request: Request) -> Response:
    wanted = (request.path_params["namespace"], request.path_params["name"])
    for each in known:
        if (each.namespace, each.name) == wanted:
            return answer(each)
    raise errors.NotFound("buildpack")


def open_routes() -> list[Route]:
    known = shipped()
    return [
        Route("/buildpacks", partial(index, known)),
        Route("/buildpacks/{namespace}/{name}", partial(info, known)),
    ]

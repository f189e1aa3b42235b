"""/buildpacks: the registry of buildpacks, as clients search it and look one up.

Those of this platform are files that it ships; what they do is the compiler's matter. Heroku's registry
asks nobody who they are, and neither does this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata, resources
from itertools import takewhile
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deodar.api.call import answer
from deodar.model import errors
from deodar.wire import registry as wire

NAMESPACE = "heroku"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A built-in buildpack, and all that is told of it."""

    about: wire.RegisteredBuildpack
    revision: wire.Revision
    readme: wire.Readme


def shipped() -> dict[str, Shipped]:
    """The built-in buildpacks by full name."""
    version = metadata.version("deodar")
    found = {}
    with resources.as_file(resources.files("deodar") / "buildpacks") as folder:
        for each in sorted(folder.iterdir()):
            compile_ = each / "bin" / "compile"
            if not compile_.is_file():
                continue
            full = f"{NAMESPACE}/{each.name}"
            at = datetime.fromtimestamp(compile_.stat().st_mtime, UTC)
            found[full] = Shipped(
                wire.present_registered(NAMESPACE, each.name),
                wire.present_revision(full, version=version, at=at),
                wire.present_readme(introduction(compile_)),
            )
    return found


def introduction(script: Path) -> str:
    """What a script says of itself: the comment below its first line."""
    comment = takewhile(lambda line: line.startswith("#"), script.read_text().splitlines()[1:])
    return " ".join(line.removeprefix("#").strip() for line in comment) + "\n"


async def index(known: Mapping[str, Shipped], request: Request) -> Response:
    """Searched by namespace, name or a word of the description, as `buildpacks:search` does."""
    namespaces = request.query_params.getlist("in[namespace][]")
    names = request.query_params.getlist("in[name][]")
    word = request.query_params.get("like[description]", "")
    return answer(
        [
            each.about
            for each in known.values()
            if (not namespaces or each.about.namespace in namespaces)
            and (not names or each.about.name in names)
            and word in each.about.description
        ]
    )


async def info(known: Mapping[str, Shipped], request: Request) -> Response:
    return answer(_wanted(known, request).about)


async def revisions(known: Mapping[str, Shipped], request: Request) -> Response:
    return answer([_wanted(known, request).revision])


async def readme(known: Mapping[str, Shipped], request: Request) -> Response:
    return answer(_wanted(known, request).readme)


def _wanted(known: Mapping[str, Shipped], request: Request) -> Shipped:
    full = "{namespace}/{name}".format(**request.path_params)
    if full not in known:
        raise errors.NotFound("buildpack")
    return known[full]


def open_routes() -> list[Route]:
    known = shipped()
    one = "/buildpacks/{namespace}/{name}"
    return [
        Route("/buildpacks", partial(index, known)),
        Route(one, partial(info, known)),
        Route(f"{one}/revisions", partial(revisions, known)),
        Route(f"{one}/readme", partial(readme, known)),
    ]

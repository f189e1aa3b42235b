"""/apps/X/slugs: what a slug is made of, and its archive for whoever holds its URL."""

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from deodar.api.call import Call, answer
from deodar.api.context import DOWNLOAD, Context
from deodar.model import errors
from deodar.store import releases as ledger
from deodar.wire import release as wire


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        slug = await ledger.slug(tx, call.word("slug"))
    if slug is None or slug.app_id != app.id:
        raise errors.NotFound("slug")
    token = call.context.signers.slug.sign(slug.checksum, now=call.now, lasts=DOWNLOAD)
    return answer(wire.present_slug(slug, blob_url=call.url(f"/slugs/{token}")))


def open_routes(context: Context) -> list[Route]:
    """The archive itself: the URL is its own secret, clients send no Authorization."""

    async def download(request: Request) -> Response:
        checksum = context.signers.slug.open(request.path_params["token"], now=context.clock())
        if checksum is None:
            raise errors.NotFound("slug")
        archive = context.settings.paths.slugs / f"{checksum.removeprefix('SHA256:')}.tar.zst"
        if not archive.is_file():
            raise errors.NotFound("slug")
        return FileResponse(archive, media_type="application/zstd")

    return [Route("/slugs/{token}", download)]


TABLE = (("GET", "/apps/{app}/slugs/{slug}", info),)

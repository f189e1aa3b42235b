"""/sources: where to upload a source, and the upload itself for whoever holds its URL."""

import uuid
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from deodar.adapters.disk import Disk
from deodar.api.call import Call, answer
from deodar.api.context import UPLOAD, Context
from deodar.api.uploads import Uploads
from deodar.model import errors
from deodar.wire import build as wire


async def create(call: Call) -> Response:
    uploads_of(call.context).sweep(now=call.now, older_than=UPLOAD)
    Disk.of(call.context.settings).check()
    token = call.context.signers.source.sign(str(uuid.uuid4()), now=call.now, lasts=UPLOAD)
    url = call.url(f"/sources/{token}")
    return answer(wire.Source(source_blob=wire.SourceUrls(get_url=url, put_url=url)), status=201)


def uploads_of(context: Context) -> Uploads:
    return Uploads(context.settings.paths.sources)


def upload_id(context: Context, url: str) -> str | None:
    """The upload that one of our URLs means; None for any other URL, or one that is over."""
    return context.signers.source.open(url.rpartition("/")[2], now=context.clock())


async def hand_over(context: Context, identity: str, checksum: str | None, target: Path) -> None:
    """A copy of that upload at `target`. Raises NotFound, and InvalidParams for another checksum."""
    uploads = uploads_of(context)
    if checksum is not None:
        await uploads.check(identity, checksum)
    await uploads.hand_over(identity, target)


def open_routes(context: Context) -> list[Route]:
    """The uploads: the URL is its own secret, clients send no Authorization."""

    async def put_or_get(request: Request) -> Response:
        identity = upload_id(context, request.url.path)
        if identity is None:
            raise errors.NotFound("source")
        uploads = uploads_of(context)
        if request.method == "PUT":
            await uploads.receive(identity, request.stream())
            return Response(status_code=200)
        return FileResponse(uploads.find(identity), media_type="application/octet-stream")

    return [Route("/sources/{token}", put_or_get, methods=["GET", "PUT"])]


TABLE = (("POST", "/sources", create),)

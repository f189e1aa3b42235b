"""/apps/X/slugs: what a slug is made of, and its archive for whoever holds its URL.

A slug that is made elsewhere is nothing but its upload URL until its archive has come: what it is to be
is written in there.
"""

import asyncio
import shutil
import uuid
from datetime import datetime
from pathlib import Path

import msgspec
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from deodar.actions import slugs as wishes
from deodar.adapters import stacks, tarballs
from deodar.adapters.disk import Disk
from deodar.api.call import Call, answer
from deodar.api.context import DOWNLOAD, UPLOAD, Context
from deodar.api.uploads import Uploads
from deodar.model import errors
from deodar.model.app import AppId
from deodar.model.release import Slug
from deodar.store import apps
from deodar.store import releases as ledger
from deodar.wire import release as wire

TARBALL = "slug.tgz"


class Wish(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a slug is to be once its archive is there; the text of its upload's token."""

    id: str
    app_id: str
    stack: str
    process_types: dict[str, str]
    checksum: str | None = None
    commit: str | None = None
    commit_description: str | None = None
    buildpack_description: str | None = None


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        slug = await ledger.slug(tx, call.word("slug"))
    if slug is None or slug.app_id != app.id:
        raise errors.NotFound("slug")
    token = call.context.signers.slug.sign(slug.checksum, now=call.now, lasts=DOWNLOAD)
    blob = wire.Blob(method="get", url=call.url(f"/slugs/{token}"))
    return answer(wire.present_slug(slug, blob=blob))


async def create(call: Call) -> Response:
    wanted = await call.body(wire.SlugCreate)
    wishes.check(
        wanted.process_types,
        wanted.commit,
        wanted.commit_description,
        wanted.buildpack_provided_description,
    )
    Disk.of(call.context.settings).check()
    async with call.read() as tx:
        app = await call.app(tx)
    stack = wanted.stack or app.build_stack
    if stacks.present(call.context.settings.paths.stacks, stack) is None:
        raise errors.InvalidParams(f"The stack {stack!r} is not on this machine.")
    wish = Wish(
        id=str(uuid.uuid4()),
        app_id=app.id,
        stack=stack,
        process_types=wanted.process_types,
        checksum=wanted.checksum,
        commit=wanted.commit,
        commit_description=wanted.commit_description,
        buildpack_description=wanted.buildpack_provided_description,
    )
    token = call.context.signers.slug_upload.sign(
        msgspec.json.encode(wish).decode(), now=call.now, lasts=UPLOAD
    )
    slug = _slug(wish, now=call.now)
    blob = wire.Blob(method="put", url=call.url(f"/slugs/{token}"))
    return answer(wire.present_slug(slug, blob=blob), status=201)


def _slug(wish: Wish, *, now: datetime, checksum: str = "", size: int = 0) -> Slug:
    """Checksum and size are those of what is stored, and come with it."""
    return Slug(
        id=wish.id,
        app_id=AppId(wish.app_id),
        checksum=checksum,
        size=size,
        stack=wish.stack,
        commit=wish.commit,
        commit_description=wish.commit_description,
        buildpack_description=wish.buildpack_description,
        process_types=wish.process_types,
        created_at=now,
    )


def open_routes(context: Context) -> list[Route]:
    """The archives themselves: the URL is its own secret, clients send no Authorization."""

    async def put_or_get(request: Request) -> Response:
        token = request.path_params["token"]
        if request.method == "PUT":
            return await _upload(context, token, request)
        return await _download(context, token)

    return [Route("/slugs/{token}", put_or_get, methods=["GET", "PUT"])]


async def _download(context: Context, token: str) -> Response:
    checksum = context.signers.slug.open(token, now=context.clock())
    if checksum is None:
        raise errors.NotFound("slug")
    archive = context.settings.paths.slugs / f"{checksum.removeprefix('SHA256:')}.tar.zst"
    if not archive.is_file():
        raise errors.NotFound("slug")
    folder = _scratch(context)
    try:
        tarball = await tarballs.give_out(archive, scratch=folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    cleared = BackgroundTask(shutil.rmtree, folder)
    return FileResponse(tarball, media_type="application/gzip", background=cleared)


async def _upload(context: Context, token: str, request: Request) -> Response:
    text = context.signers.slug_upload.open(token, now=context.clock())
    if text is None:
        raise errors.NotFound("slug")
    wish = msgspec.json.decode(text, type=Wish)
    disk = Disk.of(context.settings)
    disk.check()
    folder = _scratch(context)
    try:
        with disk.filling():
            uploads = Uploads(folder)
            await uploads.receive(TARBALL, request.stream())
            if wish.checksum is not None:
                await uploads.check(TARBALL, wish.checksum)
            tree = folder / "tree"
            tree.mkdir()
            archive = await tarballs.take_in(
                uploads.find(TARBALL), context.settings.paths.slugs, scratch=tree
            )
        wishes.check_size(archive.size)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)
    slug = _slug(wish, now=context.clock(), checksum=archive.checksum, size=archive.size)
    async with context.db.write() as tx:
        if await apps.find(tx, wish.app_id) is None:
            raise errors.NotFound("app")
        await wishes.enter(tx, slug)
    return Response(status_code=200)


def _scratch(context: Context) -> Path:
    """A folder beside those of builds: what a killed process leaves there is cleared away."""
    folder = context.settings.paths.builds / str(uuid.uuid4())
    folder.mkdir(parents=True, mode=0o700)
    return folder


TABLE = (
    ("POST", "/apps/{app}/slugs", create),
    ("GET", "/apps/{app}/slugs/{slug}", info),
)

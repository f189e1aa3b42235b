"""/apps/X/builds: asks for builds of sources that were uploaded or lie elsewhere, lists and shows them.
Their output is streamed by the logs' door."""

import shutil
from pathlib import Path

import msgspec
from starlette.responses import Response

from deodar.actions import builds as wishes
from deodar.adapters import download
from deodar.adapters.disk import Disk
from deodar.api.call import Call, answer
from deodar.api.context import DOWNLOAD
from deodar.api.resources import sources
from deodar.model import errors
from deodar.model.app import App
from deodar.model.build import Build, BuildStatus
from deodar.store import builds
from deodar.wire import build as wire

VERSION_LIMIT = 64  #: characters; a commit's hash has 40


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        found = await builds.of_app(tx, app.id)
    return call.page([_present(call, each, app) for each in found], "created_at", "id")


async def create(call: Call) -> Response:
    wish = await call.body(wire.BuildCreate)
    source = wish.source_blob
    Disk.of(call.context.settings).check()
    async with call.read() as tx:
        await call.app(tx)
    build_id = wishes.new_id()
    folder = call.context.settings.paths.builds / build_id
    try:
        await _lay_source(call, source, folder)
        async with call.write() as tx:
            app = await call.app(tx)
            build = await wishes.create(
                tx,
                app,
                build_id=build_id,
                commit=source.version,
                commit_description=source.version_description,
                user=call.account.email,
                now=call.now,
                buildpacks=[each.url or each.name or "" for each in wish.buildpacks or ()],
            )
    except BaseException:
        # No build came of it: its source would lie there for ever.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return answer(_present(call, build, app), status=201)


async def _lay_source(call: Call, source: wire.SourceBlob, folder: Path) -> None:
    """What was uploaded here lies ready for the compiler; another address it is to fetch itself.

    Raises InvalidParams for what is neither, and NotFound.
    """
    check_version(source)
    identity = sources.upload_id(call.context, source.url)
    if identity is None:
        check_address(source)
        folder.mkdir(parents=True, mode=0o700)
        facts = {"url": source.url, "checksum": source.checksum}
        (folder / "address.json").write_bytes(msgspec.json.encode(facts))
    else:
        await sources.hand_over(call.context, identity, source.checksum, folder / "upload")


def check_address(source: wire.SourceBlob) -> None:
    """Raises InvalidParams for a source that could be nowhere."""
    if not download.is_address(source.url):
        raise errors.InvalidParams(
            "Invalid source_blob.url: give an http or https address, or ask `POST /sources` for one, "
            "PUT the archive there, and name its get_url."
        )


def check_version(source: wire.SourceBlob) -> None:
    if len(source.version or "") > VERSION_LIMIT:
        raise errors.InvalidParams(f"Invalid source_blob.version: over {VERSION_LIMIT} characters.")


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        build = await builds.find(tx, app.id, call.word("build"))
    if build is None:
        raise errors.NotFound("build")
    return answer(_present(call, build, app))


async def cancel(call: Call) -> Response:
    async with call.write() as tx:
        app = await call.app(tx)
        build = await builds.find(tx, app.id, call.word("build"))
        if build is None:
            raise errors.NotFound("build")
        canceled = await wishes.cancel(tx, build, user=call.account.email, now=call.now)
    if canceled.status is not BuildStatus.PENDING:
        # The compiler will not touch it any more.
        shutil.rmtree(call.context.settings.paths.builds / build.id, ignore_errors=True)
    call.tell(app, f"Build canceled by user {call.account.email}")
    return answer(_present(call, canceled, app), status=202)


def _present(call: Call, build: Build, app: App) -> wire.Build:
    return wire.present_build(
        build, app, source_url=call.places.git_url(app), output_url=output_url(call, build)
    )


def output_url(call: Call, build: Build) -> str:
    """Where the build's output streams; the URL is its own secret."""
    token = call.context.signers.build_output.sign(
        f"{build.app_id}/{build.id}", now=call.now, lasts=DOWNLOAD
    )
    return call.url(f"/builds/{token}/output")


TABLE = (
    ("GET", "/apps/{app}/builds", index),
    ("POST", "/apps/{app}/builds", create),
    ("GET", "/apps/{app}/builds/{build}", info),
    ("DELETE", "/apps/{app}/builds/{build}", cancel),
)

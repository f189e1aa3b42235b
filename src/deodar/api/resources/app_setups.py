"""/app-setups: wishes for an app from a source with an app.json, and shows how far that is."""

import shutil
import uuid

from starlette.responses import Response

from deodar.actions import setups
from deodar.actions.setups import Overrides
from deodar.adapters.disk import Disk
from deodar.api.call import Call, answer
from deodar.api.resources import builds, platform, sources
from deodar.model import errors
from deodar.model.setup import Setup
from deodar.store import apps
from deodar.store import builds as stored_builds
from deodar.store import setups as stored
from deodar.store.db import Tx
from deodar.wire import app_setup as wire
from deodar.wire.app import AppCreate
from deodar.wire.build import SourceBlob

UPLOAD = "upload"  #: the name by which the set-up's loop finds an upload


async def create(call: Call) -> Response:
    wish = await call.body(wire.SetupCreate)
    asked = wish.app or AppCreate()
    platform.check_region(asked.region)
    stack = asked.stack and platform.find_stack(call.context, asked.stack)
    builds.check_version(wish.source_blob)
    Disk.of(call.context.settings).check()
    overrides = wish.overrides or wire.Overrides()
    setup_id = str(uuid.uuid4())
    folder = call.context.settings.paths.setups / setup_id
    try:
        await _take_upload(call, wish.source_blob, setup_id)
        async with call.write() as tx:
            setup, app, begun = await setups.begin(
                tx,
                owner=call.account,
                setup_id=setup_id,
                source=_facts(wish.source_blob),
                overrides=Overrides(
                    name=asked.name,
                    stack=stack or None,
                    env=overrides.env or {},
                    buildpacks=None
                    if overrides.buildpacks is None
                    else [each.url for each in overrides.buildpacks],
                ),
                dice=call.context.dice,
                now=call.now,
            )
    except BaseException:
        # No set-up came of it: its source would lie there for long.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for release in begun:
        call.tell_release(app, release)
    async with call.read() as tx:
        return answer(await _present(call, tx, setup), status=202)


async def _take_upload(call: Call, source: SourceBlob, setup_id: str) -> None:
    """What was uploaded here is kept for the set-up; another address is fetched by its loop.

    Raises InvalidParams for what is neither, and NotFound.
    """
    identity = sources.upload_id(call.context, source.url)
    if identity is None:
        builds.check_address(source)
    else:
        target = call.context.settings.paths.setups / setup_id / UPLOAD
        await sources.hand_over(call.context, identity, source.checksum, target)


def _facts(source: SourceBlob) -> dict[str, str]:
    facts = {"url": source.url, "checksum": source.checksum, "version": source.version}
    return {name: value for name, value in facts.items() if value is not None}


async def info(call: Call) -> Response:
    async with call.read() as tx:
        setup = await stored.get(tx, call.word("setup"))
        if setup is None or setup.user != call.account.email:
            raise errors.NotFound("app_setup")
        return answer(await _present(call, tx, setup))


async def _present(call: Call, tx: Tx, setup: Setup) -> wire.Setup:
    build = await stored_builds.find(tx, setup.app_id, setup.build_id or "")
    return wire.present_setup(
        setup,
        await apps.find(tx, setup.app_id),
        build,
        call.places,
        output_url="" if build is None else builds.output_url(call, build),
    )


TABLE = (
    ("POST", "/app-setups", create),
    ("GET", "/app-setups/{setup}", info),
)

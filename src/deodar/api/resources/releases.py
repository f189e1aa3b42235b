"""/apps/X/releases: the ledger; appends to it by rolling back or by deploying a slug."""

from starlette.responses import Response

from deodar.actions import releases
from deodar.api.call import Call, answer
from deodar.api.context import DOWNLOAD
from deodar.model import errors, release
from deodar.model.app import App
from deodar.model.release import Release
from deodar.store import releases as ledger
from deodar.store.db import Tx
from deodar.wire import release as wire

BEYOND = 2  #: more than a page: one that its start leaves out, one that tells that there is a next


async def index(call: Call) -> Response:
    asked = call.range("version")
    low, high = asked.numbers()
    async with call.read() as tx:
        app = await call.app(tx)
        found = await ledger.between(
            tx,
            app.id,
            low=low,
            high=high,
            newest_first=asked.descending,
            limit=asked.max + BEYOND,
        )
    return call.page([_present(call, each, app) for each in found], "version")


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        found = await _find(tx, app, call.word("release"))
    return answer(_present(call, found, app))


async def create(call: Call) -> Response:
    wish = await call.body(wire.ReleaseCreate)
    async with call.write() as tx:
        app = await call.app(tx)
        made = await _append(call, tx, app, wish)
    call.tell_release(app, made)
    return answer(_present(call, made, app), status=201)


async def _append(call: Call, tx: Tx, app: App, wish: wire.ReleaseCreate) -> Release:
    user, now = call.account.email, call.now
    if wish.release is not None:
        target = await _find(tx, app, str(wish.release))
        return await releases.roll_back(tx, app, target, user=user, now=now)
    if wish.slug is None:
        raise errors.InvalidParams(
            "Invalid request: give a `release` to roll back to, or a `slug`."
        )
    slug = await ledger.slug(tx, wish.slug)
    if slug is None or slug.app_id != app.id:
        raise errors.NotFound("slug")
    description = wish.description or release.describe_deploy(slug.commit)
    return await releases.deploy(tx, app, slug, description=description, user=user, now=now)


async def _find(tx: Tx, app: App, identity: str) -> Release:
    found = await ledger.find(tx, app.id, identity)
    if found is None:
        raise errors.NotFound("release")
    return found


def _present(call: Call, release: Release, app: App) -> wire.Release:
    token = call.context.signers.phase_output.sign(
        f"{app.id}/{release.id}", now=call.now, lasts=DOWNLOAD
    )
    url = call.url(f"/releases/{token}/output")
    return wire.present_release(release, app, output_url=url if release.command else None)


TABLE = (
    ("GET", "/apps/{app}/releases", index),
    ("POST", "/apps/{app}/releases", create),
    ("GET", "/apps/{app}/releases/{release}", info),
)

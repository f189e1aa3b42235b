"""/apps: creates, lists, shows, changes and destroys apps; and who and what is on them."""

from starlette.responses import Response

from deodar.actions import apps
from deodar.api.call import Call, answer
from deodar.api.resources import platform
from deodar.model import errors
from deodar.model.app import App
from deodar.store import apps as stored
from deodar.store.db import Tx
from deodar.wire import account as account_wire
from deodar.wire import app as wire


async def index(call: Call) -> Response:
    async with call.read() as tx:
        found = [app for app in await stored.every(tx) if app.owner.id == call.account.id]
    return call.page([wire.present_app(app, call.places) for app in found], "name", "id")


async def create(call: Call) -> Response:
    wish = await call.body(wire.AppCreate)
    platform.check_region(wish.region)
    stack = platform.find_stack(call.context, wish.stack)
    async with call.write() as tx:
        app, begun = await apps.create(
            tx,
            owner=call.account,
            name=wish.name,
            stack=stack,
            dice=call.context.dice,
            now=call.now,
        )
    for release in begun:
        call.tell_release(app, release)
    return answer(wire.present_app(app, call.places), status=201)


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
    return answer(wire.present_app(app, call.places))


async def update(call: Call) -> Response:
    wish = await call.body(wire.AppUpdate)
    async with call.write() as tx:
        app = await _change(call, tx, await call.app(tx), wish)
    return answer(wire.present_app(app, call.places))


async def _change(call: Call, tx: Tx, app: App, wish: wire.AppUpdate) -> App:
    if wish.name is not None:
        app = await apps.rename(tx, app, wish.name, now=call.now)
    if wish.maintenance is not None:
        app = await apps.set_maintenance(tx, app, wish.maintenance, now=call.now)
    if wish.build_stack is not None:
        stack = platform.find_stack(call.context, wish.build_stack)
        app = await apps.set_build_stack(tx, app, stack, now=call.now)
    return app


async def destroy(call: Call) -> Response:
    async with call.write() as tx:
        app = await call.app(tx)
        await apps.destroy(tx, app)
    call.context.logs.delete(app.id)
    return answer(wire.present_app(app, call.places))


async def collaborators(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
    return call.page([account_wire.present_owner(app)], "id")


async def buildpacks(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
    return call.page(wire.present_buildpacks(app), "ordinal")


async def set_buildpacks(call: Call) -> Response:
    wish = await call.body(wire.BuildpackUpdates)
    wished = [_known(update.buildpack) for update in wish.updates]
    async with call.write() as tx:
        app = await apps.set_buildpacks(tx, await call.app(tx), wished, now=call.now)
    return answer(wire.present_buildpacks(app))


def _known(identifier: str | None) -> str:
    if identifier is None:
        raise errors.InvalidParams("Couldn't find that buildpack in the registry.")
    return identifier


async def not_of_a_team(call: Call) -> Response:
    """There are no teams, so no app is one's."""
    raise errors.NotFound("app")


TABLE = (
    ("GET", "/apps", index),
    ("POST", "/apps", create),
    ("GET", "/users/~/apps", index),
    ("GET", "/teams/apps/{app}", not_of_a_team),
    ("GET", "/apps/{app}", info),
    ("PATCH", "/apps/{app}", update),
    ("DELETE", "/apps/{app}", destroy),
    ("GET", "/apps/{app}/collaborators", collaborators),
    ("GET", "/apps/{app}/buildpack-installations", buildpacks),
    ("PUT", "/apps/{app}/buildpack-installations", set_buildpacks),
)

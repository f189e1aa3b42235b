"""/apps/X/formation: how many dynos of which process types are wished."""

from starlette.responses import Response

from deodar.actions import formations
from deodar.actions.formations import Wish
from deodar.api.call import Call, answer
from deodar.model.app import App
from deodar.model.formation import ProcessType
from deodar.store import formations as stored
from deodar.store.db import Tx
from deodar.wire import formation as wire


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        types = await stored.of_app(tx, app.id)
    return call.page([wire.present_formation(each, app) for each in types], "type", "id")


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        types = await stored.of_app(tx, app.id)
    found = formations.find(types, _type_of(call.word("type"), types, app))
    return answer(wire.present_formation(found, app))


async def update_batch(call: Call) -> Response:
    wish = await call.body(wire.FormationUpdates)
    async with call.write() as tx:
        app = await call.app(tx)
        known = await stored.of_app(tx, app.id)
        named = [(_type_of(update.type, known, app), update) for update in wish.updates]
        types = await formations.scale(tx, app, [_wish(name, update) for name, update in named])
    call.tell(app, f"{formations.describe(types)} by user {call.account.email}")
    asked = {name for name, _ in named}
    return answer([wire.present_formation(each, app) for each in types if each.type in asked])


async def update(call: Call) -> Response:
    wish = await call.body(wire.FormationUpdate)
    async with call.write() as tx:
        app = await call.app(tx)
        name = await _named(call, tx, app)
        types = await formations.scale(tx, app, [_wish(name, wish)])
    call.tell(app, f"{formations.describe(types)} by user {call.account.email}")
    return answer(wire.present_formation(formations.find(types, name), app))


async def _named(call: Call, tx: Tx, app: App) -> str:
    return _type_of(call.word("type"), await stored.of_app(tx, app.id), app)


def _type_of(identity: str, types: list[ProcessType], app: App) -> str:
    """Clients may name a process type by the id that the API gave them."""
    ids = {wire.formation_id(app, each.type): each.type for each in types}
    return ids.get(identity, identity)


def _wish(name: str, update: wire.FormationUpdate) -> Wish:
    return Wish(type=name, quantity=update.quantity, size=update.wished_size)


TABLE = (
    ("GET", "/apps/{app}/formation", index),
    ("PATCH", "/apps/{app}/formation", update_batch),
    ("GET", "/apps/{app}/formation/{type}", info),
    ("PATCH", "/apps/{app}/formation/{type}", update),
)

"""/apps/X/config-vars: shows and changes config vars; each change is a release."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from deodar.actions import releases
from deodar.api.call import Call, answer
from deodar.model import errors
from deodar.model.app import ConfigVars
from deodar.store import releases as ledger


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        release = await ledger.current(tx, app.id)
    return answer(release.config if release else ConfigVars())


async def update(call: Call) -> Response:
    changes = _changes(await call.body(dict[str, Any]))
    async with call.write() as tx:
        app = await call.app(tx)
        before = await ledger.last_version(tx, app.id)
        release = await releases.set_config(tx, app, changes, user=call.account.email, now=call.now)
    if release.version > before:
        call.tell_release(app, release)
    return answer(release.config)


def _changes(fields: Mapping[str, Any]) -> dict[str, str | None]:
    for name, value in fields.items():
        if not (value is None or isinstance(value, str)):
            raise errors.InvalidParams(f"Invalid {name}: give a text, or null to remove it.")
    return dict(fields)


async def of_release(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        release = await ledger.find(tx, app.id, call.word("release"))
    if release is None:
        raise errors.NotFound("release")
    return answer(release.config)


TABLE = (
    ("GET", "/apps/{app}/config-vars", info),
    ("PATCH", "/apps/{app}/config-vars", update),
    ("GET", "/apps/{app}/releases/{release}/config-vars", of_release),
)

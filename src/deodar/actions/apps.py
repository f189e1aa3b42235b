"""Creates apps, changes what is set on them, destroys them. What runs of them is the loops' to clean."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from deodar.actions import releases
from deodar.model import app as app_rules
from deodar.model import errors
from deodar.model.app import Account, App, AppId
from deodar.model.release import Release
from deodar.store import apps
from deodar.store.db import Tx

APP_LIMIT = 5000  #: the router has a slot for each, and 100 KB

BUILDPACK_LIMIT = 100  #: per app, and characters enough for a URL each
BUILDPACK_LENGTH = 255


async def create(
    tx: Tx,
    *,
    owner: Account,
    name: str | None,
    stack: str,
    dice: random.Random,
    now: datetime,
) -> tuple[App, list[Release]]:
    """A new app and its first releases. Without a name it gets one. Raises InvalidParams."""
    if name is None:
        name = await _free_name(tx, dice)
    else:
        await _check_free(tx, app_rules.check_name(name))
    slot = await apps.free_slot(tx)
    if slot >= APP_LIMIT:
        raise errors.InvalidParams(
            f"This machine has its limit of {APP_LIMIT} apps. Destroy one that is not needed."
        )
    app = App(
        id=AppId(str(uuid.uuid4())),
        name=name,
        owner=owner,
        stack=stack,
        build_stack=stack,
        slot=slot,
        uid=await apps.next_uid(tx),
        created_at=now,
        updated_at=now,
    )
    await apps.insert_app(tx, app)
    begun = [
        await releases.first(tx, app, user=owner.email, now=now),
        await releases.enable_logs(tx, app, user=owner.email, now=now),
    ]
    return replace(app, released_at=now), begun


async def rename(tx: Tx, app: App, name: str, *, now: datetime) -> App:
    """The app under another name; its id, repository and dynos stay. Raises InvalidParams."""
    if name == app.name:
        return app
    await _check_free(tx, app_rules.check_name(name))
    return await _update(tx, replace(app, name=name, updated_at=now))


async def set_maintenance(tx: Tx, app: App, maintenance: bool, *, now: datetime) -> App:
    """Requests are answered with the maintenance page while it is on; dynos run on."""
    return await _update(tx, replace(app, maintenance=maintenance, updated_at=now))


async def set_preboot(tx: Tx, app: App, preboot: bool, *, now: datetime) -> App:
    """Whether web dynos are replaced before they stop, or Heroku's classic way (devcenter: preboot)."""
    return await _update(tx, replace(app, preboot=preboot, updated_at=now))


async def set_affinity(tx: Tx, app: App, wished: bool, *, now: datetime) -> App:
    """Whether a client stays with its dyno (devcenter: session-affinity)."""
    return await _update(tx, replace(app, affinity=wished, updated_at=now))


async def set_runtime_metrics(tx: Tx, app: App, wished: bool, *, now: datetime) -> App:
    """Whether its dynos' load and memory are told in its log (devcenter: log-runtime-metrics)."""
    return await _update(tx, replace(app, runtime_metrics=wished, updated_at=now))


async def set_build_stack(tx: Tx, app: App, stack: str, *, now: datetime) -> App:
    """The stack that the next build will use; the present slug stays on its own."""
    return await _update(tx, replace(app, build_stack=stack, updated_at=now))


async def set_buildpacks(tx: Tx, app: App, buildpacks: Sequence[str], *, now: datetime) -> App:
    """The buildpacks of the next build, in order; none means that it detects one again."""
    if len(buildpacks) > BUILDPACK_LIMIT:
        raise errors.InvalidParams(f"An app can have {BUILDPACK_LIMIT} buildpacks at most.")
    for identifier in buildpacks:
        if not 0 < len(identifier) <= BUILDPACK_LENGTH or not identifier.isprintable():
            raise errors.InvalidParams(f"The buildpack {identifier[:80]!r} is not valid.")
    changed = replace(app, buildpacks=tuple(buildpacks), detected_buildpack=None, updated_at=now)
    return await _update(tx, changed)


async def destroy(tx: Tx, app: App) -> None:
    """The app and all that is its are gone; the loops find what still runs of it."""
    await apps.delete_app(tx, app.id)
    tx.ring(app.id)


async def _update(tx: Tx, app: App) -> App:
    await apps.update_app(tx, app)
    tx.ring(app.id)
    return app


async def _check_free(tx: Tx, name: str) -> None:
    if await apps.find(tx, name) is not None:
        raise errors.InvalidParams(f"Name {name} is already taken")


async def _free_name(tx: Tx, dice: random.Random) -> str:
    while True:
        name = app_rules.random_name(dice)
        if await apps.find(tx, name) is None:
            return name

"""Adds to an app's release ledger: a deploy, a change of config, a rollback. Starts nothing.

A release with a release phase is pending until that has ended: see `phases`. So is one that comes after
it, whatever it is: releases stand in the order of their numbers.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from deodar.model import app as app_rules
from deodar.model import errors, formation, release
from deodar.model.app import App, ConfigVars
from deodar.model.formation import ProcessType
from deodar.model.release import PHASE, Release, ReleaseStatus, Slug
from deodar.store import apps, formations, idling, releases
from deodar.store.db import Tx


async def first(tx: Tx, app: App, *, user: str, now: datetime) -> Release:
    """v1, before there is code: `Initial release`."""
    return await _append(
        tx, app, slug=None, config=ConfigVars(), description="Initial release", user=user, now=now
    )


async def enable_logs(tx: Tx, app: App, *, user: str, now: datetime) -> Release:
    """v2, as every app at Heroku has it, so that its first deploy is v3 here as there."""
    return await _append(
        tx, app, slug=None, config=ConfigVars(), description="Enable Logplex", user=user, now=now
    )


async def set_config(
    tx: Tx, app: App, changes: Mapping[str, str | None], *, user: str, now: datetime
) -> Release:
    """The app's config vars with `changes` applied, as a new release; None removes a var.

    Changes that change nothing make no release (devcenter: config-vars). Raises InvalidParams.
    """
    latest = await _latest(tx, app)
    config = app_rules.merge_config(latest.config, changes)
    if config == latest.config:
        return latest
    return await _append(
        tx,
        app,
        slug=await releases.slug(tx, latest.slug_id),
        config=config,
        description=release.describe_config(changes),
        user=user,
        now=now,
    )


async def set_config_at_once(
    tx: Tx,
    app: App,
    changes: Mapping[str, str | None],
    *,
    description: str,
    user: str,
    now: datetime,
) -> Release:
    """As `set_config`, but without a release phase: add-ons change config vars so, and one whose phase
    fails would keep the app from a database that has moved (devcenter: release-phase).

    Behind a release that is pending it waits for that all the same.
    """
    latest = await _latest(tx, app)
    config = app_rules.merge_config(latest.config, changes)
    if config == latest.config:
        return latest
    return await _enter(
        tx,
        app,
        slug=await releases.slug(tx, latest.slug_id),
        config=config,
        description=description,
        user=user,
        now=now,
        command=None,
    )


async def deploy(
    tx: Tx, app: App, slug: Slug, *, description: str, user: str, now: datetime
) -> Release:
    """`slug` with the present config vars, as a new release."""
    latest = await _latest(tx, app)
    return await _append(
        tx, app, slug=slug, config=latest.config, description=description, user=user, now=now
    )


async def roll_back(tx: Tx, app: App, target: Release, *, user: str, now: datetime) -> Release:
    """Code and config of `target` as a new release (devcenter: releases).

    Raises InvalidParams for a release that failed, expired or has no code.
    """
    slug = await releases.slug(tx, target.slug_id)
    if slug is None or target.status is not ReleaseStatus.SUCCEEDED:
        raise errors.InvalidParams(
            f"Cannot roll back to {target.name}: it has no slug that can run. "
            "Choose another with `heroku releases`."
        )
    return await _append(
        tx,
        app,
        slug=slug,
        config=target.config,
        description=release.describe_rollback(target.version),
        user=user,
        now=now,
    )


async def fail(tx: Tx, app: App, failed: Release, *, back_to: str, now: datetime) -> Release:
    """`failed` did not come up: the release with id `back_to`, which still serves, is current again,
    its config vars and process types with it. Answers that one."""
    back = await releases.get(tx, back_to)
    if back is None or back.slug_id is None:
        raise errors.StoreFailed(f"The app {app.name} has no release to go back to.")
    slug = await releases.slug(tx, back.slug_id)
    if slug is None:
        raise errors.StoreFailed(f"The slug of {back.name} of {app.name} is not in the store.")
    await releases.fail(tx, failed, back_to=back, now=now)
    before = await releases.formation_before(tx, app.id, back.version + 1)
    present = {each.type: each for each in await formations.of_app(tx, app.id)}
    restored = []
    for name, command in slug.process_types.items():
        quantity, size = before.get(name, (0, formation.DEFAULT_SIZE))
        gone = ProcessType(type=name, quantity=quantity, size=size, command=command)
        restored.append(replace(present.get(name, gone), command=command))
    await formations.replace(tx, app.id, restored)
    await apps.update_app(tx, replace(app, stack=slug.stack, slug_size=slug.size, updated_at=now))
    tx.ring(app.id)
    return back


async def _append(
    tx: Tx,
    app: App,
    *,
    slug: Slug | None,
    config: ConfigVars,
    description: str,
    user: str,
    now: datetime,
) -> Release:
    command = slug.process_types.get(PHASE) if slug else None
    return await _enter(
        tx,
        app,
        slug=slug,
        config=config,
        description=description,
        user=user,
        now=now,
        command=command,
    )


async def _enter(
    tx: Tx,
    app: App,
    *,
    slug: Slug | None,
    config: ConfigVars,
    description: str,
    user: str,
    now: datetime,
    command: str | None,
) -> Release:
    """`command` is that of its release phase; None if it has none."""
    waits = command is not None or bool(await releases.pending(tx, app.id))
    new = Release(
        id=str(uuid.uuid4()),
        app_id=app.id,
        version=await releases.last_version(tx, app.id) + 1,
        slug_id=slug.id if slug else None,
        description=description,
        user=user,
        status=ReleaseStatus.PENDING if waits else ReleaseStatus.SUCCEEDED,
        current=not waits,
        command=command,
        config=config,
        created_at=now,
        updated_at=now,
    )
    present = await formations.of_app(tx, app.id)
    await releases.append(tx, new, formation_before=present)
    if waits:
        tx.ring(app.id)
    else:
        await put_to_work(tx, app, slug, now=now)
    return new


async def put_to_work(tx: Tx, app: App, slug: Slug | None, *, now: datetime) -> None:
    """The app's current release is a new one, with that slug."""
    if slug is not None:
        present = await formations.of_app(tx, app.id)
        await formations.replace(tx, app.id, reshape(present, slug.process_types))
        app = replace(app, stack=slug.stack, slug_size=slug.size)
    await apps.update_app(tx, replace(app, updated_at=now, released_at=now))
    await idling.wake(tx, app.id)
    tx.ring(app.id)


def reshape(present: list[ProcessType], process_types: Mapping[str, str]) -> list[ProcessType]:
    """The formation for a slug with those process types.

    A first slug starts web=1 and nothing else; later ones keep quantities and sizes; a type that is
    gone is scaled to nothing, a new one starts at none (devcenter: scaling).
    """
    # What has only a release phase has never run.
    if all(each.type == PHASE for each in present):
        return [
            ProcessType(type=name, quantity=1 if name == "web" else 0, command=command)
            for name, command in process_types.items()
        ]
    by_type = {each.type: each for each in present}
    return [
        replace(by_type[name], command=command)
        if name in by_type
        else ProcessType(type=name, quantity=0, size=_size_beside(present), command=command)
        for name, command in process_types.items()
    ]


def _size_beside(present: list[ProcessType]) -> str:
    """A new process type takes the size that its neighbours have, if they agree."""
    sizes = {each.size for each in present}
    return sizes.pop() if len(sizes) == 1 else formation.DEFAULT_SIZE


async def _latest(tx: Tx, app: App) -> Release:
    """What the next release builds upon: the newest that is current or may come to be."""
    if waiting := await releases.pending(tx, app.id):
        return waiting[-1]
    current = await releases.current(tx, app.id)
    if current is None:
        raise errors.StoreFailed(f"The app {app.name} has no current release.")
    return current

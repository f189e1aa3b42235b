"""Adds to an app's release ledger: a deploy, a change of config, a rollback. Starts nothing."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from deodar.model import app as app_rules
from deodar.model import errors, formation, release
from deodar.model.app import App, ConfigVars
from deodar.model.formation import ProcessType
from deodar.model.release import Release, ReleaseStatus, Slug
from deodar.store import apps, formations, releases
from deodar.store.db import Tx


async def first(tx: Tx, app: App, *, user: str, now: datetime) -> Release:
    """v1, before there is code: `Initial release`."""
    return await _append(
        tx, app, slug=None, config=ConfigVars(), description="Initial release", user=user, now=now
    )


async def set_config(
    tx: Tx, app: App, changes: Mapping[str, str | None], *, user: str, now: datetime
) -> Release:
    """The app's config vars with `changes` applied, as a new release; None removes a var.

    Changes that change nothing make no release (devcenter: config-vars). Raises InvalidParams.
    """
    current = await _current(tx, app)
    config = app_rules.merge_config(current.config, changes)
    if config == current.config:
        return current
    slug = await releases.slug(tx, current.slug_id) if current.slug_id else None
    return await _append(
        tx,
        app,
        slug=slug,
        config=config,
        description=release.describe_config(changes),
        user=user,
        now=now,
    )


async def deploy(
    tx: Tx, app: App, slug: Slug, *, description: str, user: str, now: datetime
) -> Release:
    """`slug` with the present config vars, as a new release."""
    current = await _current(tx, app)
    return await _append(
        tx, app, slug=slug, config=current.config, description=description, user=user, now=now
    )


async def roll_back(tx: Tx, app: App, target: Release, *, user: str, now: datetime) -> Release:
    """Code and config of `target` as a new release (devcenter: releases).

    Raises InvalidParams for a release that failed, expired or has no code.
    """
    slug = await releases.slug(tx, target.slug_id) if target.slug_id else None
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
    new = Release(
        id=str(uuid.uuid4()),
        app_id=app.id,
        version=await releases.last_version(tx, app.id) + 1,
        slug_id=slug.id if slug else None,
        description=description,
        user=user,
        current=True,
        config=config,
        created_at=now,
        updated_at=now,
    )
    present = await formations.of_app(tx, app.id)
    await releases.append(tx, new, formation_before=present)
    if slug is not None:
        await formations.replace(tx, app.id, reshape(present, slug.process_types))
        app = replace(app, stack=slug.stack, slug_size=slug.size)
    await apps.update_app(tx, replace(app, updated_at=now, released_at=now))
    tx.ring(app.id)
    return new


def reshape(present: list[ProcessType], process_types: Mapping[str, str]) -> list[ProcessType]:
    """The formation for a slug with those process types.

    A first slug starts web=1 and nothing else; later ones keep quantities and sizes; a type that is
    gone is scaled to nothing, a new one starts at none (devcenter: scaling).
    """
    if not present:
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


async def _current(tx: Tx, app: App) -> Release:
    current = await releases.current(tx, app.id)
    if current is None:
        raise errors.StoreFailed(f"The app {app.name} has no current release.")
    return current

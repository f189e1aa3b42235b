"""Sets an app up from a source with an app.json, one transaction a step; which step is due, and what is
done between them, the set-up loop says.
"""

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from deodar.actions import apps, builds, dynos, formations, releases
from deodar.actions.dynos import OneOff
from deodar.actions.formations import Wish
from deodar.model import app as app_rules
from deodar.model import errors, manifest
from deodar.model.app import Account, App, ConfigVars
from deodar.model.formation import ProcessType
from deodar.model.manifest import Manifest
from deodar.model.release import Release
from deodar.model.setup import Event, Setup
from deodar.store import builds as stored_builds
from deodar.store import formations as stored
from deodar.store import setups
from deodar.store.db import Tx

KEPT = timedelta(days=30)  #: that an ended set-up can be asked for
POSTDEPLOY = "postdeploy"  #: the process type of the postdeploy command's dyno
SECRET = 32  #: bytes of a generated config var
OUTPUT = 64 * 1024  #: characters of the postdeploy command's output that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What somebody asks for over what app.json says; None leaves it to app.json."""

    name: str | None = None
    stack: str | None = None
    env: Mapping[str, str]
    buildpacks: Sequence[str] | None = None


async def begin(
    tx: Tx,
    *,
    owner: Account,
    setup_id: str,
    source: Mapping[str, str],
    overrides: Overrides,
    dice: random.Random,
    now: datetime,
) -> tuple[Setup, App, list[Release]]:
    """A new app, empty as yet, and the wish to set it up. Raises InvalidParams."""
    await setups.forget(tx, before=now - KEPT)
    app_rules.merge_config({}, overrides.env)
    app, begun = await apps.create(
        tx,
        owner=owner,
        name=overrides.name,
        stack=overrides.stack or app_rules.DEFAULT_STACK,
        dice=dice,
        now=now,
    )
    setup = Setup(
        id=setup_id,
        app_id=app.id,
        app_name=app.name,
        user=owner.email,
        source=ConfigVars(source),
        stack=overrides.stack,
        env=ConfigVars(overrides.env),
        buildpacks=None if overrides.buildpacks is None else tuple(overrides.buildpacks),
        created_at=now,
        updated_at=now,
    )
    await setups.insert_setup(tx, setup)
    tx.ring(app.id)
    return setup, app, begun


async def apply(
    tx: Tx,
    app: App,
    setup: Setup,
    text: str,
    *,
    build_id: str,
    stacks: frozenset[str],
    now: datetime,
) -> list[Release]:
    """The app is as its app.json and the overrides say, and its build is wished: all of it or nothing.
    Answers the releases that this made. Raises InvalidManifest."""
    wanted = manifest.parse(text)
    notes = manifest.unmet(wanted)
    config = manifest.config(wanted, setup.env, secret=lambda: secrets.token_hex(SECRET))
    stack = setup.stack or manifest.stack(wanted, stacks, notes=notes)
    buildpacks = wanted.buildpacks if setup.buildpacks is None else setup.buildpacks
    app = replace(app, stack=stack)
    app = await apps.set_build_stack(tx, app, stack, now=now)
    try:
        app = await apps.set_buildpacks(tx, app, buildpacks, now=now)
    except errors.InvalidParams as error:
        raise errors.InvalidManifest([f"buildpacks: {error.message}"]) from None
    made = []
    if config:
        made.append(await releases.set_config(tx, app, config, user=setup.user, now=now))
    build = await _build(tx, app, setup, build_id, now=now)
    applied = setup.on(Event.APPLIED, now)
    await setups.update_setup(
        tx,
        replace(applied, manifest=text, notes=tuple(notes), build_id=build, builds=1),
    )
    return made


async def build_again(tx: Tx, app: App, setup: Setup, *, build_id: str, now: datetime) -> None:
    """The platform's end interrupted the build: another one is wished."""
    build = await _build(tx, app, setup, build_id, now=now)
    again = setup.on(Event.INTERRUPTED, now)
    await setups.update_setup(tx, replace(again, build_id=build, builds=setup.builds + 1))


async def _build(tx: Tx, app: App, setup: Setup, build_id: str, *, now: datetime) -> str:
    build = await builds.create(
        tx,
        app,
        build_id=build_id,
        commit=setup.source.get("version", ""),
        commit_description=None,
        user=setup.user,
        now=now,
    )
    return build.id


async def take_up(
    tx: Tx, app: App, setup: Setup, *, lasts: int, dice: random.Random, now: datetime
) -> list[ProcessType]:
    """The app is released: its formation is scaled, and its postdeploy command begun, if it has one.
    Answers the formation, or nothing if it stays as it was."""
    wanted = manifest.parse(setup.manifest or "{}")
    scaled, notes = await _scale(tx, app, wanted)
    setup = replace(setup, notes=(*setup.notes, *notes))
    if wanted.postdeploy is None:
        await setups.update_setup(tx, setup.on(Event.FINISHED, now))
        tx.ring(app.id)
        return scaled
    wish = OneOff(
        command=wanted.postdeploy,
        type=POSTDEPLOY,
        size=wanted.postdeploy_size,
        env={},
        time_to_live=lasts,
    )
    dyno = await dynos.run(tx, app, wish, dice=dice, now=now)
    await setups.update_setup(tx, replace(setup.on(Event.DEPLOYED, now), dyno_id=dyno.id))
    return scaled


async def _scale(tx: Tx, app: App, wanted: Manifest) -> tuple[list[ProcessType], list[str]]:
    present = await stored.of_app(tx, app.id)
    known = {each.type for each in present}
    wishes = [
        Wish(type=each.type, quantity=each.quantity, size=each.size)
        for each in wanted.formation
        if each.type in known
    ]
    notes = [
        f"formation.{each.type}: the app has no process type {each.type}"
        for each in wanted.formation
        if each.type not in known
    ]
    try:
        result = await formations.scale(tx, app, wishes)
    except errors.InvalidParams as error:
        return [], [*notes, f"formation: {error.message}"]
    return (result if result != present else []), notes


async def finish(tx: Tx, setup: Setup, *, output: str, exit_code: int, now: datetime) -> None:
    """The postdeploy command has ended well or not."""
    setup = replace(setup, output=output[-OUTPUT:], exit_code=exit_code)
    if exit_code == 0:
        await setups.update_setup(tx, setup.on(Event.FINISHED, now))
        tx.ring(setup.app_id)
    else:
        await fail(tx, setup, f"The postdeploy command ended with status {exit_code}.", now=now)


async def fail(tx: Tx, setup: Setup, why: str, *, notes: Sequence[str] = (), now: datetime) -> None:
    failed = setup.on(Event.FAILED, now)
    await setups.update_setup(tx, replace(failed, failure=why, notes=(*setup.notes, *notes)))
    tx.ring(setup.app_id)


async def reject(
    tx: Tx, app: App | None, setup: Setup, why: str, *, notes: Sequence[str] = (), now: datetime
) -> None:
    """The source or its app.json is not good: the app goes with it, unless somebody has pushed to it
    in the meantime."""
    await fail(tx, setup, why, notes=notes, now=now)
    if app is not None and not await stored_builds.of_app(tx, app.id):
        await apps.destroy(tx, app)

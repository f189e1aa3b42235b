"""Wishes for single dynos: a one-off to run, one to be restarted or stopped. The manifold does it."""

import random
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from deodar.model import errors, formation
from deodar.model.app import App, ConfigVars
from deodar.model.dyno import EXIT_CODE, GONE, Dyno, Kind, State
from deodar.store import dynos, formations, idling, releases
from deodar.store.db import Tx

ONE_OFF_LIMIT = 50  #: at once per app (devcenter: one-off-dynos)
NUMBERS = range(1000, 10_000)  #: of one-offs; formation dynos count from 1
COMMAND_LIMIT = 64 * 1024  #: bytes; Linux takes 128 KB for one argument
LONGEST_LIFE = 24 * 60 * 60  #: seconds (devcenter: one-off-dynos)
ENV_KEY = re.compile(r"\w+", re.ASCII)

#: what the manifold is told: a formation dyno is replaced either way, a one-off ends
Why = Literal["restart", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOff:
    """A one-off as somebody asks for it."""

    command: str
    type: str = "run"
    size: str = formation.DEFAULT_SIZE
    attached: bool = False
    tty: bool = False
    env: Mapping[str, str]
    time_to_live: int | None = None  #: seconds; None: as long as one may live


async def run(tx: Tx, app: App, wish: OneOff, *, dice: random.Random, now: datetime) -> Dyno:
    """A one-off of the current release. Raises InvalidParams."""
    check(wish)
    size = formation.size_of(wish.size)
    release = await releases.current(tx, app.id)
    if release is None or release.slug_id is None:
        raise errors.InvalidParams(
            "Cannot run a dyno: this app has no code yet. Deploy it first with `git push heroku main`."
        )
    present = await dynos.of_app(tx, app.id)
    running = [each for each in present if each.kind is Kind.ONE_OFF and each.state not in GONE]
    if len(running) >= ONE_OFF_LIMIT:
        raise errors.InvalidParams(f"Cannot run more than {ONE_OFF_LIMIT} one-off dynos at once.")
    types = await formations.of_app(tx, app.id)
    dyno = Dyno(
        id=str(uuid.uuid4()),
        app_id=app.id,
        type=wish.type,
        number=free_number(present, wish.type, dice),
        kind=Kind.ONE_OFF,
        size=size.name,
        command=spelled_out(wish.command, {each.type: each.command for each in types}),
        release_id=release.id,
        release_version=release.version,
        slug_id=release.slug_id,
        state_since=now,
        created_at=now,
        attached=wish.attached,
        tty=wish.tty,
        env=ConfigVars(wish.env),
        time_to_live=LONGEST_LIFE if wish.time_to_live is None else wish.time_to_live,
    )
    await dynos.insert_dyno(tx, dyno)
    tx.ring(app.id)
    return dyno


def check(wish: OneOff) -> None:
    """Raises InvalidParams for what no dyno could be started with."""
    if not wish.command.strip():
        raise errors.InvalidParams("Command can't be blank.")
    if len(wish.command.encode()) > COMMAND_LIMIT:
        raise errors.InvalidParams(f"Command is too long (maximum is {COMMAND_LIMIT} bytes).")
    if not formation.TYPE.fullmatch(wish.type):
        raise errors.InvalidParams(f"Type {wish.type[:80]!r} is not a valid process type.")
    if wish.time_to_live is not None and not 1 <= wish.time_to_live <= LONGEST_LIFE:
        raise errors.InvalidParams(f"Time to live must be from 1 to {LONGEST_LIFE} seconds.")
    for key in wish.env:
        if not ENV_KEY.fullmatch(key):
            raise errors.InvalidParams(f"Env key {key[:80]!r} is not valid.")
    if any("\0" in text for text in (wish.command, *wish.env.values())):
        raise errors.InvalidParams("A command or its env contains a NUL byte.")


def spelled_out(command: str, process_types: Mapping[str, str]) -> str:
    """The command itself; that of a process type where only its name is given."""
    name = command.removesuffix(EXIT_CODE).strip()
    if name not in process_types:
        return command
    return process_types[name] + (EXIT_CODE if command.endswith(EXIT_CODE) else "")


def free_number(present: Sequence[Dyno], type_: str, dice: random.Random) -> int:
    taken = {each.number for each in present if each.type == type_}
    return dice.choice([number for number in NUMBERS if number not in taken])


async def end(tx: Tx, app: App, identity: str, why: Why) -> Dyno:
    """Restarts or stops the dyno with that name or id. Raises NotFound."""
    dyno = await find(tx, app, identity)
    await _condemn(tx, app, [dyno], why)
    return dyno


async def end_type(tx: Tx, app: App, type_: str, why: Why) -> list[Dyno]:
    """Restarts or stops all dynos of a process type. Raises NotFound."""
    of_type = [each for each in await shown(tx, app) if each.type == type_]
    if not of_type:
        known = await formations.of_app(tx, app.id)
        if type_ not in {each.type for each in known}:
            raise errors.NotFound("process_type", f"Couldn't find that process type ({type_}).")
    await _condemn(tx, app, of_type, why)
    return of_type


async def restart_all(tx: Tx, app: App) -> list[Dyno]:
    """Restarts the whole formation; one-offs run on, as at Heroku."""
    formed = [each for each in await shown(tx, app) if each.kind is Kind.FORMATION]
    await _condemn(tx, app, formed, "restart")
    return formed


async def find(tx: Tx, app: App, identity: str) -> Dyno:
    """The app's dyno with that name or id, of those that are shown. Raises NotFound."""
    for dyno in await shown(tx, app):
        if identity in (dyno.id, dyno.name):
            return dyno
    raise errors.NotFound("dyno", f"Couldn't find that dyno ({identity}).")


async def enter(tx: Tx, app: App, identity: str) -> Dyno:
    """The dyno with that name or id, for somebody to enter: its app is woken. Raises NotFound."""
    dyno = await find(tx, app, identity)
    await idling.wake(tx, app.id)
    return dyno


async def shown(tx: Tx, app: App) -> list[Dyno]:
    """The dynos that people see: no ended ones, and of a name only the newest.

    While a dyno is replaced there are two of its name; the old one drains and is nobody's business.
    """
    newest = {
        dyno.name: dyno
        for dyno in await dynos.of_app(tx, app.id)
        if dyno.state not in (State.COMPLETE, State.DOWN)
    }
    return list(newest.values())


async def _condemn(tx: Tx, app: App, condemned: Sequence[Dyno], why: Why) -> None:
    for dyno in condemned:
        await dynos.condemn(tx, dyno.id, why)
    if condemned:
        await idling.wake(tx, app.id)
        tx.ring(app.id)

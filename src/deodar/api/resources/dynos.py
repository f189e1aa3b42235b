"""/apps/X/dynos: what runs; asks for one-offs, restarts and stops."""

from collections.abc import Sequence

from starlette.responses import Response

from deodar.actions import dynos
from deodar.actions.dynos import OneOff
from deodar.api.call import Call, answer
from deodar.api.context import ATTACH
from deodar.model import formation
from deodar.model.dyno import Dyno, State
from deodar.wire import dyno as wire
from deodar.wire.base import Empty


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        found = await dynos.shown(tx, app)
    page = call.page([wire.present_dyno(each, app) for each in found], "name", "id")
    if warning := deaths(found):
        page.headers["Warning-Message"] = warning
    return page


def deaths(found: Sequence[Dyno]) -> str:
    """Why dynos died, for those who look at them: `heroku ps` prints it as a warning."""
    told = [
        f"{dyno.name} crashed: {dyno.cause}"
        if dyno.state is State.CRASHED
        else f"{dyno.name} was restarted after a crash: {dyno.fate}"
        for dyno in found
        if dyno.state is State.CRASHED or dyno.fate is not None
    ]
    # A header holds no more than this, and no other letters.
    return "; ".join(told)[:2000].encode("ascii", errors="replace").decode()


async def create(call: Call) -> Response:
    wish = _one_off(await call.body(wire.DynoCreate))
    async with call.write() as tx:
        app = await call.app(tx)
        dyno = await dynos.run(tx, app, wish, dice=call.context.dice, now=call.now)
    call.tell(app, f"Starting process with command `{dyno.command}` by user {call.account.email}")
    attach_url = None
    if dyno.attached:
        token = call.context.signers.rendezvous.sign(dyno.id, now=call.now, lasts=ATTACH)
        attach_url = call.places.attach_url(token)
    return answer(wire.present_dyno(dyno, app, attach_url=attach_url), status=201)


def _one_off(asked: wire.DynoCreate) -> OneOff:
    attached = bool(asked.attach)
    return OneOff(
        command=asked.command,
        type=asked.type or "run",
        size=asked.size or formation.DEFAULT_SIZE,
        attached=attached,
        tty=attached and not asked.force_no_tty,
        env={key: str(value) for key, value in (asked.env or {}).items()},
        time_to_live=asked.time_to_live,
    )


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        dyno = await dynos.find(tx, app, call.word("dyno"))
    return answer(wire.present_dyno(dyno, app))


async def restart_all(call: Call) -> Response:
    async with call.write() as tx:
        await dynos.restart_all(tx, await call.app(tx))
    return answer(Empty(), status=202)


async def restart(call: Call) -> Response:
    async with call.write() as tx:
        await dynos.end(tx, await call.app(tx), call.word("dyno"), "restart")
    return answer(Empty(), status=202)


async def stop(call: Call) -> Response:
    async with call.write() as tx:
        await dynos.end(tx, await call.app(tx), call.word("dyno"), "stop")
    return answer(Empty(), status=202)


async def restart_type(call: Call) -> Response:
    async with call.write() as tx:
        await dynos.end_type(tx, await call.app(tx), call.word("type"), "restart")
    return answer(Empty(), status=202)


async def stop_type(call: Call) -> Response:
    async with call.write() as tx:
        await dynos.end_type(tx, await call.app(tx), call.word("type"), "stop")
    return answer(Empty(), status=202)


TABLE = (
    ("GET", "/apps/{app}/dynos", index),
    ("POST", "/apps/{app}/dynos", create),
    ("DELETE", "/apps/{app}/dynos", restart_all),
    ("GET", "/apps/{app}/dynos/{dyno}", info),
    ("DELETE", "/apps/{app}/dynos/{dyno}", restart),
    ("POST", "/apps/{app}/dynos/{dyno}/actions/stop", stop),
    ("DELETE", "/apps/{app}/formations/{type}", restart_type),
    ("POST", "/apps/{app}/formations/{type}/actions/stop", stop_type),
)

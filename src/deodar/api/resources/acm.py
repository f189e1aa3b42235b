"""/apps/X/acm: turns automated certificates on and off, and has what failed tried again.

How far they have come is told with the app and its domains.
"""

from starlette.responses import Response

from deodar.actions import acm
from deodar.api.call import Call, answer
from deodar.wire import app as wire


async def enable(call: Call) -> Response:
    async with call.write() as tx:
        app = await acm.enable(tx, await call.app(tx), now=call.now)
    call.tell(app, f"Enable ACM by user {call.account.email}")
    return answer(wire.present_app(app, call.places))


async def disable(call: Call) -> Response:
    async with call.write() as tx:
        app = await acm.disable(tx, await call.app(tx), now=call.now)
    call.tell(app, f"Disable ACM by user {call.account.email}")
    return answer(wire.present_app(app, call.places))


async def refresh(call: Call) -> Response:
    async with call.write() as tx:
        app = await acm.refresh(tx, await call.app(tx), now=call.now)
    return answer(wire.present_app(app, call.places))


TABLE = (
    ("POST", "/apps/{app}/acm", enable),
    ("PATCH", "/apps/{app}/acm", refresh),
    ("DELETE", "/apps/{app}/acm", disable),
)

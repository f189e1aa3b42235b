"""/api/v2: Heroku's exec manager, which tells a person who may enter a dyno where to go and as whom.

Opens no shell: the user name that it gives out is a signed grant, which the SSH server of the manifold
reads. The app is the user name of HTTP's Basic authentication, the token its password.
"""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import BaseRoute

from deodar.actions import dynos
from deodar.api import auth, door
from deodar.api.call import Call, answer
from deodar.api.context import EXEC, Context
from deodar.model import errors, grant
from deodar.model.dyno import Dyno
from deodar.model.grant import Grant
from deodar.wire import exec as wire


class Manager:
    def __init__(self, *, public_key: str) -> None:
        self._public_key = public_key  #: the SSH server's

    async def index(self, call: Call) -> Response:
        """`heroku ps:exec --status`."""
        async with call.read() as tx:
            app = await call.app_called(tx, _app_name(call))
            found = await dynos.shown(tx, app)
        return answer([wire.Reservation(dyno_name=dyno.name) for dyno in found if _open(dyno)])

    async def admit(self, call: Call) -> Response:
        wish = await call.body(wire.KeyUpdate)
        key = grant.key_of(wish.client_key)
        async with call.write() as tx:
            app = await call.app_called(tx, _app_name(call))
            dyno = await dynos.enter(tx, app, call.word("dyno"))
        if not _open(dyno):
            raise errors.Conflict(f"{dyno.name} does not run. Try again once it is up.")
        text = str(Grant(dyno.id, grant.fingerprint(key)))
        user = call.context.signers.exec.sign(text, now=call.now, lasts=EXEC)
        return answer(
            wire.Entrance(
                tunnel_host=call.context.settings.tunnel_host,
                client_user=user,
                proxy_public_key=self._public_key,
                dyno_ip=dyno.address or "",
            )
        )


def _app_name(call: Call) -> str:
    return auth.user_of(call.request.headers.get("authorization", "")) or ""


def _open(dyno: Dyno) -> bool:
    return dyno.runs and dyno.address is not None


def routes(context: Context, manager: Manager) -> Sequence[BaseRoute]:
    table = (
        ("GET", "/api/v2", manager.index),
        ("PUT", "/api/v2/{dyno}", manager.admit),
    )
    return door.routes(context, table)

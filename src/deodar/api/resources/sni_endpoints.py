"""/apps/X/sni-endpoints: the certificates that an app's domains can be served with."""

from starlette.responses import Response

from deodar.actions import certificates as actions
from deodar.adapters import certificates
from deodar.adapters.certificates import Certificate
from deodar.api.call import Call, answer
from deodar.store import domains
from deodar.store import sni_endpoints as stored
from deodar.wire import sni_endpoint as wire


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        found = await stored.of_app(tx, app.id)
        named = await domains.of_app(tx, app.id)
    return call.page([wire.present_endpoint(each, app, named) for each in found], "name", "id")


async def create(call: Call) -> Response:
    certificate = await _certificate(call)
    async with call.write() as tx:
        app = await call.app(tx)
        endpoint = await actions.add(tx, app, certificate, dice=call.context.dice, now=call.now)
    call.tell(app, f"Add certificate {endpoint.name} by user {call.account.email}")
    return answer(wire.present_endpoint(endpoint, app, ()), status=201)


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        endpoint = await actions.find(tx, app, call.word("endpoint"))
        named = await domains.of_app(tx, app.id)
    return answer(wire.present_endpoint(endpoint, app, named))


async def update(call: Call) -> Response:
    certificate = await _certificate(call)
    async with call.write() as tx:
        app = await call.app(tx)
        endpoint = await actions.find(tx, app, call.word("endpoint"))
        endpoint = await actions.change(tx, app, endpoint, certificate, now=call.now)
        named = await domains.of_app(tx, app.id)
    call.tell(app, f"Update certificate {endpoint.name} by user {call.account.email}")
    return answer(wire.present_endpoint(endpoint, app, named))


async def remove(call: Call) -> Response:
    async with call.write() as tx:
        app = await call.app(tx)
        endpoint = await actions.find(tx, app, call.word("endpoint"))
        named = await domains.of_app(tx, app.id)
        await actions.remove(tx, app, endpoint, now=call.now)
    call.tell(app, f"Remove certificate {endpoint.name} by user {call.account.email}")
    return answer(wire.present_endpoint(endpoint, app, named))


async def _certificate(call: Call) -> Certificate:
    wish = await call.body(wire.SniEndpointWish)
    return certificates.read(wish.certificate_chain, wish.private_key, now=call.now)


TABLE = (
    ("GET", "/apps/{app}/sni-endpoints", index),
    ("POST", "/apps/{app}/sni-endpoints", create),
    ("GET", "/apps/{app}/sni-endpoints/{endpoint}", info),
    ("PATCH", "/apps/{app}/sni-endpoints/{endpoint}", update),
    ("DELETE", "/apps/{app}/sni-endpoints/{endpoint}", remove),
)

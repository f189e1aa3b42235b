"""/apps/X/domains: the host names that lead to an app."""

from starlette.responses import Response

from deodar.actions import certificates, domains
from deodar.api.call import Call, answer
from deodar.store import domains as stored
from deodar.wire import domain as wire


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        custom = await stored.of_app(tx, app.id)
    own = wire.present_own_domain(app, call.places)
    presented = [own, *(wire.present_domain(each, app, call.places) for each in custom)]
    return call.page(presented, "hostname", "id")


async def create(call: Call) -> Response:
    wish = await call.body(wire.DomainCreate)
    async with call.write() as tx:
        app = await call.app(tx)
        domain = await domains.add(
            tx,
            app,
            wish.hostname,
            certificate=wish.sni_endpoint,
            platform_domain=call.context.settings.domain,
            now=call.now,
        )
    return answer(wire.present_domain(domain, app, call.places), status=201)


async def info(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
        own = wire.present_own_domain(app, call.places)
        if call.word("domain") in (own.hostname, own.id):
            return answer(own)
        domain = await domains.find(tx, app, call.word("domain"))
    return answer(wire.present_domain(domain, app, call.places))


async def update(call: Call) -> Response:
    """Which certificate it is served with: nothing else of a domain can change."""
    wish = await call.body(wire.DomainUpdate)
    async with call.write() as tx:
        app = await call.app(tx)
        domain = await domains.find(tx, app, call.word("domain"))
        domain = await certificates.choose(tx, app, domain, wish.sni_endpoint, now=call.now)
    return answer(wire.present_domain(domain, app, call.places))


async def remove(call: Call) -> Response:
    async with call.write() as tx:
        app = await call.app(tx)
        domain = await domains.remove(tx, app, call.word("domain"), now=call.now)
    return answer(wire.present_domain(domain, app, call.places))


TABLE = (
    ("GET", "/apps/{app}/domains", index),
    ("POST", "/apps/{app}/domains", create),
    ("GET", "/apps/{app}/domains/{domain}", info),
    ("PATCH", "/apps/{app}/domains/{domain}", update),
    ("DELETE", "/apps/{app}/domains/{domain}", remove),
)

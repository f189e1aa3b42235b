"""What apps can have at Heroku and none has here yet: add-ons, pipelines, drains, webhooks."""

from starlette.responses import Response

from deodar.api.call import Call, answer
from deodar.model import errors


async def of_app(call: Call) -> Response:
    async with call.read() as tx:
        await call.app(tx)
    return answer([])


async def every(call: Call) -> Response:
    return answer([])


async def no_coupling(call: Call) -> Response:
    async with call.read() as tx:
        await call.app(tx)
    raise errors.NotFound("pipeline_coupling")


async def no_addon(call: Call) -> Response:
    raise errors.NotFound("add_on", "Couldn't find that add-on.")


async def no_attachment(call: Call) -> Response:
    raise errors.NotFound("attachment", "Couldn't find that add-on attachment.")


TABLE = (
    ("GET", "/addons", every),
    ("GET", "/addons/{addon}", no_addon),
    ("GET", "/addon-attachments", every),
    ("GET", "/addon-services", every),
    ("GET", "/pipelines", every),
    ("GET", "/apps/{app}/addons", of_app),
    ("GET", "/apps/{app}/addons/{addon}", no_addon),
    ("GET", "/apps/{app}/addon-attachments", of_app),
    ("GET", "/apps/{app}/addon-attachments/{attachment}", no_attachment),
    ("POST", "/actions/addons/resolve", no_addon),
    ("POST", "/actions/addon-attachments/resolve", no_attachment),
    ("GET", "/apps/{app}/log-drains", of_app),
    ("GET", "/apps/{app}/webhooks", of_app),
    ("GET", "/apps/{app}/pipeline-couplings", no_coupling),
)

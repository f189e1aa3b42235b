"""/apps/X/features: what Heroku lets one switch and this platform always does."""

from starlette.responses import Response

from deodar.api.call import Call, answer
from deodar.model import errors
from deodar.model.app import App
from deodar.wire import app as wire
from deodar.wire.base import derived_id, stamp

PREBOOT = "preboot"


def features(app: App) -> list[wire.Feature]:
    created_at = stamp(app.created_at)
    return [
        wire.Feature(
            id=derived_id("feature", PREBOOT),
            name=PREBOOT,
            display_name="Preboot",
            description="New web dynos take requests before old ones stop. Always on.",
            doc_url="https://devcenter.heroku.com/articles/preboot",
            enabled=True,
            state="general",
            feedback_email=app.owner.email,
            created_at=created_at,
            updated_at=created_at,
        )
    ]


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
    return call.page(features(app), "name", "id")


async def info(call: Call) -> Response:
    return answer(await _find(call))


async def update(call: Call) -> Response:
    wish = await call.body(wire.FeatureUpdate)
    feature = await _find(call)
    if not wish.enabled:
        raise errors.InvalidParams(
            f"The feature {feature.name} is always on and cannot be disabled."
        )
    return answer(feature)


async def _find(call: Call) -> wire.Feature:
    async with call.read() as tx:
        app = await call.app(tx)
    for feature in features(app):
        if call.word("feature") in (feature.name, feature.id):
            return feature
    raise errors.NotFound("feature")


async def of_account(call: Call) -> Response:
    return answer([])


async def not_of_account(call: Call) -> Response:
    raise errors.NotFound("feature")


TABLE = (
    ("GET", "/apps/{app}/features", index),
    ("GET", "/apps/{app}/features/{feature}", info),
    ("PATCH", "/apps/{app}/features/{feature}", update),
    ("GET", "/account/features", of_account),
    ("GET", "/account/features/{feature}", not_of_account),
    ("PATCH", "/account/features/{feature}", not_of_account),
)

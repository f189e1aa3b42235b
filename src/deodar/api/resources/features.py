"""/apps/X/features: what can be switched for one app."""

from starlette.responses import Response

from deodar.actions import apps
from deodar.api.call import Call, answer
from deodar.model import errors
from deodar.model.app import App
from deodar.wire import app as wire
from deodar.wire.base import derived_id, stamp

PREBOOT = "preboot"
EXEC = "runtime-heroku-exec"
AFFINITY = "http-session-affinity"
METRICS = "log-runtime-metrics"


def features(app: App) -> list[wire.Feature]:
    return [
        _feature(
            app,
            PREBOOT,
            display_name="Preboot",
            description="New web dynos take requests before old ones stop.",
            article="preboot",
            enabled=app.preboot,
        ),
        _feature(
            app,
            EXEC,
            display_name="Heroku Exec",
            description="Running dynos can be entered by SSH. Always on.",
            article="exec",
            enabled=True,
        ),
        _feature(
            app,
            AFFINITY,
            display_name="Session Affinity",
            description="A client's requests go to the web dyno that answered its first.",
            article="session-affinity",
            enabled=app.affinity,
        ),
        _feature(
            app,
            METRICS,
            display_name="Log Runtime Metrics",
            description="Each dyno's load and memory are told in the app's log every 20 seconds.",
            article="log-runtime-metrics",
            enabled=app.runtime_metrics,
            state="beta",  # `heroku labs` lists what is not general
        ),
    ]


def _feature(
    app: App,
    name: str,
    *,
    display_name: str,
    description: str,
    article: str,
    enabled: bool,
    state: str = "general",
) -> wire.Feature:
    created_at = stamp(app.created_at)
    return wire.Feature(
        id=derived_id("feature", name),
        name=name,
        display_name=display_name,
        description=description,
        doc_url=f"https://devcenter.heroku.com/articles/{article}",
        enabled=enabled,
        state=state,
        feedback_email=app.owner.email,
        created_at=created_at,
        updated_at=created_at,
    )


async def index(call: Call) -> Response:
    async with call.read() as tx:
        app = await call.app(tx)
    return call.page(features(app), "name", "id")


async def info(call: Call) -> Response:
    async with call.read() as tx:
        return answer(_find(call, await call.app(tx)))


async def update(call: Call) -> Response:
    wish = await call.body(wire.FeatureUpdate)
    async with call.write() as tx:
        app = await call.app(tx)
        feature = _find(call, app)
        if feature.name == PREBOOT:
            app = await apps.set_preboot(tx, app, wish.enabled, now=call.now)
        elif feature.name == AFFINITY:
            app = await apps.set_affinity(tx, app, wish.enabled, now=call.now)
        elif feature.name == METRICS:
            app = await apps.set_runtime_metrics(tx, app, wish.enabled, now=call.now)
        elif not wish.enabled:
            raise errors.InvalidParams(f"The feature {feature.name} is always on.")
    return answer(_find(call, app))


def _find(call: Call, app: App) -> wire.Feature:
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

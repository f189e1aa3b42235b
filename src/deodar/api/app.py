"""The API as one ASGI application: which routes there are, and the one place where errors are answered."""

import re
import uuid
from collections.abc import Sequence

import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deodar.api import door
from deodar.api.call import answer
from deodar.api.context import Context
from deodar.api.resources import (
    accounts,
    acm,
    addons,
    app_setups,
    apps,
    buildpacks,
    builds,
    config_vars,
    domains,
    dynos,
    features,
    formation,
    platform,
    releases,
    slugs,
    sni_endpoints,
    sources,
)
from deodar.model import errors

log = structlog.get_logger("deodar")


NO_SUCH_ENDPOINT = (
    "The requested API endpoint was not found. Are you using the right HTTP verb (i.e. `GET` vs. "
    "`POST`), and did you specify your intended version with the `Accept` header?"
)
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")

TABLES = (
    accounts.TABLE,
    acm.TABLE,
    addons.TABLE,
    app_setups.TABLE,
    apps.TABLE,
    builds.TABLE,
    config_vars.TABLE,
    domains.TABLE,
    dynos.TABLE,
    features.TABLE,
    formation.TABLE,
    platform.TABLE,
    releases.TABLE,
    slugs.TABLE,
    sni_endpoints.TABLE,
    sources.TABLE,
)


def create_app(context: Context, *, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The API. `extra_routes` are those of other doors on the same port: git, logs, the dashboard."""
    routes: list[BaseRoute] = [
        *extra_routes,
        *slugs.open_routes(context),
        *sources.open_routes(context),
        *buildpacks.open_routes(),
    ]
    for table in TABLES:
        routes += door.routes(context, table)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Edge)],
        exception_handlers={
            errors.PlatformError: answer_platform_error,
            HTTPException: answer_http_exception,
        },
    )
    app.router.redirect_slashes = False
    return app


async def answer_platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.PlatformError)
    if isinstance(error, errors.Refused):
        log.info("Refused", path=request.url.path, id=error.id, why=error.message)
    else:
        log.error("Cannot answer", path=request.url.path, exc_info=error)
    body = {"id": error.id, "message": error.message}
    if isinstance(error, errors.NotFound):
        body["resource"] = error.resource
    headers = {"WWW-Authenticate": 'Bearer realm="Deodar"'} if error.status == 401 else None
    return answer(body, status=error.status, headers=headers)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """What the router says: no such path, or not with that method; both are 404 at Heroku."""
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        return answer({"id": "not_found", "message": NO_SUCH_ENDPOINT}, status=404)
    return answer({"id": "bad_request", "message": error.detail}, status=error.status_code)


class Edge:
    """Gives every answer its Request-Id, and answers for what nobody expected."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("request-id", ""))
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["Request-Id"] = request_id
                headers["RateLimit-Remaining"] = str(accounts.RATE_LIMIT)
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                if started:
                    raise  # half an answer is out: the server logs it and cuts the connection
                log.exception("Cannot answer", method=scope["method"], path=scope["path"])
                body = {"id": "internal_server_error", "message": "Internal server error."}
                await answer(body, status=500)(scope, receive, send_with_headers)


def _request_id(header: str) -> str:
    """The first id of the client's, which sends the ids of earlier requests after it."""
    first = header.split(",", 1)[0].strip()
    return first if REQUEST_ID.fullmatch(first) else str(uuid.uuid4())

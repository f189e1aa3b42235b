"""Turns a resource's table of routes into Starlette's, each behind the question whose request it is."""

from collections.abc import Awaitable, Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deodar.api import auth
from deodar.api.call import Call
from deodar.api.context import Context

Handler = Callable[[Call], Awaitable[Response]]
Row = tuple[str, str, Handler]  #: method, path, handler


def routes(context: Context, table: Iterable[Row]) -> list[Route]:
    """One route for each path of `table`, answering its methods to whoever has a token."""
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in table:
        by_path.setdefault(path, {})[method] = handler
    return [
        Route(path, _endpoint(context, handlers), methods=list(handlers))
        for path, handlers in by_path.items()
    ]


def _endpoint(
    context: Context, handlers: dict[str, Handler]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        token = auth.token_of(request.headers.get("authorization", ""))
        account = await auth.authenticate(context.db, token)
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](Call(context, request, account, token or ""))

    return endpoint

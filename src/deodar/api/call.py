"""One authenticated request, as a resource sees it: what was asked, by whom, and how to answer.

Decodes bodies, finds the app that the path names, pages lists, and tells the app's log what was done.
What it means is for the resource.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from deodar.api import paging
from deodar.api.context import Context
from deodar.model import errors
from deodar.model.app import Account, App
from deodar.model.log import LogLine
from deodar.model.release import Release
from deodar.store import apps
from deodar.store.db import Tx
from deodar.wire.base import Shape
from deodar.wire.places import Places

log = structlog.get_logger("deodar")

BODY_LIMIT = 1024 * 1024  #: bytes

Body = TypeVar("Body")


@dataclass(frozen=True, slots=True)
class Call:
    context: Context
    request: Request
    account: Account
    token: str  #: that it came with

    @property
    def now(self) -> datetime:
        return self.context.clock()

    @property
    def places(self) -> Places:
        return self.context.places

    def word(self, name: str) -> str:
        """The part of the path that the route calls `name`."""
        return str(self.request.path_params[name])

    def url(self, path: str) -> str:
        """A URL of this API as the client reaches it."""
        return f"{str(self.request.base_url).rstrip('/')}{path}"

    def read(self) -> AbstractAsyncContextManager[Tx]:
        return self.context.db.read()

    def write(self) -> AbstractAsyncContextManager[Tx]:
        return self.context.db.write()

    async def app(self, tx: Tx) -> App:
        """The app that the path names, by name or id. Raises NotFound, or Forbidden for another's."""
        return await self.app_called(tx, self.word("app"))

    async def app_called(self, tx: Tx, identity: str) -> App:
        """The app with that name or id. Raises as `app` does."""
        app = await apps.find(tx, identity)
        if app is None:
            raise errors.NotFound("app")
        if app.owner.id != self.account.id:
            raise errors.Forbidden(f"You do not have access to the app {app.name}.")
        return app

    async def body(self, kind: type[Body]) -> Body:
        """The request's JSON object; an empty body is `{}`.

        Raises BadRequest for what is no JSON object, InvalidParams for a field of a wrong type, and
        TooLarge.
        """
        return shape(parse(await self._bytes()), kind)

    async def _bytes(self) -> bytes:
        data = bytearray()
        async for chunk in self.request.stream():
            data += chunk
            if len(data) > BODY_LIMIT:
                raise errors.TooLarge(f"The request's body is over {BODY_LIMIT} bytes.")
        return bytes(data)

    def tell(self, app: App, *texts: str) -> None:
        """Adds lines of the API to the app's log, after what they tell of was committed."""
        now = self.now
        lines = [LogLine(at=now, source="app", dyno="api", text=text) for text in texts]
        try:
            self.context.logs.append(app.id, lines)
        except errors.StoreFailed:
            # It is done all the same, and the client must not think otherwise.
            log.exception("Cannot tell the app's log", app=app.name)

    def tell_release(self, app: App, release: Release) -> None:
        self.tell(
            app,
            f"{release.description} by user {release.user}",
            f"Release {release.name} created by user {release.user}",
        )

    def range(self, *fields: str) -> paging.Range:
        """The part of a list that the client asks for, sorted by one of `fields`; without a word of
        his by the first. Raises BadRequest and RangeNotSatisfiable."""
        return paging.parse(self.request.headers.get("range", ""), fields)

    def page(self, items: Sequence[Shape], *fields: str) -> Response:
        """That part of `items`, and how to ask for the next."""
        asked = self.range(*fields)
        page = paging.cut(items, asked)
        headers = {"Accept-Ranges": ", ".join(fields)}
        if page.items:
            first, last = (
                str(getattr(item, asked.field)) for item in (page.items[0], page.items[-1])
            )
            headers["Content-Range"] = f"{asked.field} {first}..{last}; max={asked.max}"
        if page.next is None:
            return answer(page.items, headers=headers)
        return answer(page.items, status=206, headers=headers | {"Next-Range": str(page.next)})


def parse(data: bytes) -> dict[str, Any]:
    """Raises BadRequest for what is no JSON object."""
    if not data.strip():
        return {}
    try:
        parsed = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.BadRequest("The request's body is not valid JSON.") from None
    if not isinstance(parsed, dict):
        raise errors.BadRequest("The request's body must be a JSON object.")
    return parsed


def shape(fields: Mapping[str, Any], kind: type[Body]) -> Body:
    """Raises InvalidParams naming the field that is missing or of a wrong type."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        # msgspec's words name types and places, never a value: a secret cannot come back in them.
        what, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$.")
        raise errors.InvalidParams(f"Invalid {field or 'request'}: {what}.") from None


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )

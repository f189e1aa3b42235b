"""Smart HTTP for git, on the API's port: who may come in, and git's own processes on the other side.

Streams both ways: neither a push nor a clone is ever held in memory. What a push means is for the
hook, and `pushes.py` at its other end. Protocol: git's `gitprotocol-http`.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deodar.adapters.git import SERVICES, Command, Repositories
from deodar.api import auth
from deodar.api.pushes import Pushes
from deodar.kit import subprocess
from deodar.model import errors
from deodar.model.app import Account, App
from deodar.store import apps
from deodar.store.db import Database

log = structlog.get_logger("deodar")

BLOCK = 64 * 1024
SILENCE = 5 * 60  #: seconds after which a client that sends nothing has left
NEVER_CACHE = (
    (b"cache-control", b"no-cache, max-age=0, must-revalidate"),
    (b"expires", b"Fri, 01 Jan 1980 00:00:00 GMT"),
    (b"pragma", b"no-cache"),
)
CHALLENGE = {"WWW-Authenticate": 'Basic realm="Deodar Git", charset="UTF-8"'}


class Left(Exception):
    """The client went, or fell silent, before its request was whole."""


class Door:
    """An ASGI endpoint for one git request at a time, from its credentials to git's exit."""

    def __init__(self, db: Database, repositories: Repositories, pushes: Pushes) -> None:
        self._db = db
        self._repositories = repositories
        self._pushes = pushes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        asked: dict[str, str] = scope["path_params"]
        advertise = "service" not in asked
        service = asked.get("service") or QueryParams(scope["query_string"]).get("service", "")
        try:
            app, account = await self._admit(asked["app"], headers)
            if service not in SERVICES:
                # The "dumb" protocol would hand out the repository's files as they lie there.
                raise errors.Forbidden("Only git's smart HTTP protocol is served.")
            await self._repositories.ensure(app.id)
        except errors.PlatformError as error:
            await _refusal(error)(scope, receive, send)
            return
        command = self._repositories.serve(
            app.id,
            service,
            advertise=advertise,
            version=headers.get("git-protocol"),
            variables={
                "DEODAR_APP_ID": app.id,
                "DEODAR_USER": account.email,
                "DEODAR_BUILDS": str(self._pushes.builds),
                "DEODAR_HOOK_SOCKET": str(self._pushes.socket),
            },
        )
        answer = Answer(
            send, f"application/x-{service}-{'advertisement' if advertise else 'result'}"
        )
        if advertise and "GIT_PROTOCOL" not in command.env:
            await answer.write(_packet(f"# service={service}\n") + b"0000")
        await _converse(command, _inflated(_body(receive), headers), answer)
        await answer.end()
        if service == "git-receive-pack" and not advertise:
            await self._tidy(app)

    async def _admit(self, name: str, headers: Headers) -> tuple[App, Account]:
        """The user name is nobody's matter; the password is the API token, as on Heroku."""
        account = await auth.authenticate(self._db, auth.token_of(headers.get("authorization", "")))
        async with self._db.read() as tx:
            app = await apps.find(tx, name)
        if app is None:
            raise errors.NotFound("app")
        if app.owner.id != account.id:
            raise errors.Forbidden(f"You do not have access to the app {app.name}.")
        return app, account

    async def _tidy(self, app: App) -> None:
        """After the answer, so that no pusher waits for it."""
        await self._repositories.tidy(app.id)
        size = await self._repositories.size(app.id)
        async with self._db.write() as tx:
            present = await apps.find(tx, app.id)
            if present is not None:
                await apps.update_app(tx, replace(present, repo_size=size))


class Answer:
    """The response: begun with its first bytes, so that until then it can still be a refusal."""

    def __init__(self, send: Send, content_type: str) -> None:
        self._send = send
        self._headers = [(b"content-type", content_type.encode()), *NEVER_CACHE]
        self._begun = False

    async def write(self, data: bytes) -> None:
        await self._begin()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            start = {"type": "http.response.start", "status": 200, "headers": self._headers}
            await self._send(start)


async def _converse(command: Command, body: AsyncIterator[bytes], answer: Answer) -> None:
    """Feeds git the request while it passes on what git says.

    A client that left gets nothing more, but git ends in its own time: a push whose build was wished
    is then taken as if its pusher had stayed.
    """
    async with subprocess.talking(*command.argv, env=command.env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(process.stdin, body))
            complaint = group.create_task(process.stderr.read())
            while data := await process.stdout.read(BLOCK):
                await answer.write(data)
        if await process.wait() != 0:
            # git has told the client what concerns it, in its own protocol
            said = complaint.result().decode(errors="replace").strip()
            log.info("git.failed", command=command.argv[-2:], status=process.returncode, said=said)


async def _feed(stdin: asyncio.StreamWriter, body: AsyncIterator[bytes]) -> None:
    """All of the body, even what git does not want: a client reads its answer after it has sent."""
    try:
        async for data in body:
            if not stdin.is_closing():
                stdin.write(data)
                with suppress(ConnectionError):
                    await stdin.drain()
    except Left:
        pass  # git finds that the request ends too early, and refuses it
    finally:
        stdin.close()


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            async with asyncio.timeout(SILENCE):
                message = await receive()
        except TimeoutError as error:
            raise Left from error
        if message["type"] == "http.disconnect":
            raise Left
        more = message.get("more_body", False)
        if data := message.get("body", b""):
            yield data


async def _inflated(body: AsyncIterator[bytes], headers: Headers) -> AsyncIterator[bytes]:
    """git compresses what it asks; never more than a block of it unpacked is in memory."""
    if headers.get("content-encoding") not in ("gzip", "x-gzip"):
        async for data in body:
            yield data
        return
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    async for data in body:
        while data:
            try:
                block = inflate.decompress(data, BLOCK)
            except zlib.error as error:
                raise Left from error
            if block:
                yield block
            data = inflate.unconsumed_tail


def _packet(text: str) -> bytes:
    """git's pkt-line: its own length in front."""
    return f"{len(text) + 4:04x}{text}".encode()


def _refusal(error: errors.PlatformError) -> PlainTextResponse:
    headers = CHALLENGE if isinstance(error, errors.Unauthorized) else None
    return PlainTextResponse(f"{error.message}\n", status_code=error.status, headers=headers)


def routes(door: Door) -> list[Route]:
    return [
        Route("/{app}.git/info/refs", door, methods=["GET"]),
        Route("/{app}.git/{service}", door, methods=["POST"]),
    ]

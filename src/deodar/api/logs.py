"""Streams that run for as long as somebody looks: an app's log lines, a build's output, a release
phase's.

Their URLs are their own secret; clients send no Authorization. A log session is nothing but its token:
what it shows is written in there, and any replica of the API can serve it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from deodar.api import door
from deodar.api.call import Call, answer
from deodar.api.context import LOG_SESSION, Context
from deodar.api.outputs import Outputs, PhaseOutputs
from deodar.model import errors
from deodar.model.log import HISTORY, LogLine
from deodar.store import apps, builds
from deodar.store.logs import Position
from deodar.wire import log_session as wire

LINES = 100  #: unless the client says how many
KEEP_ALIVE = 15  #: seconds; proxies between cut what is silent for longer
EVENT = 64 * 1024  #: characters of lines in one event


class Session(NamedTuple):
    """What a log session shows; the text of its token."""

    app_id: str
    lines: int
    tail: bool
    source: str | None
    dyno: str | None  #: a dyno's name or a process type


async def create(call: Call) -> Response:
    wanted = await call.body(wire.Wanted)
    async with call.read() as tx:
        app = await call.app(tx)
    lines = LINES if wanted.lines is None else min(max(wanted.lines, 0), HISTORY)
    session = Session(
        app.id,
        lines,
        bool(wanted.tail),
        wanted.source or None,
        wanted.dyno or wanted.dyno_name or None,
    )
    token = call.context.signers.logs.sign(
        msgspec.json.encode(session).decode(), now=call.now, lasts=LOG_SESSION
    )
    return answer(wire.present_log_session(call.url(f"/logs/{token}"), call.now), status=201)


TABLE = (("POST", "/apps/{app}/log-sessions", create),)


def routes(context: Context, outputs: Outputs) -> list[Route]:
    async def show(request: Request) -> Response:
        session = await _open(context, request.path_params["token"])
        if "text/event-stream" not in request.headers.get("accept", ""):
            return _stream(_texts(_lines(context, session, None)), "text/plain; charset=utf-8")
        after = Position.parse(request.headers.get("last-event-id", ""))
        return _stream(_events(_lines(context, session, after)), "text/event-stream")

    async def output(request: Request) -> Response:
        text = context.signers.build_output.open(request.path_params["token"], now=context.clock())
        app_id, _, build_id = (text or "").partition("/")
        async with context.db.read() as tx:
            build = await builds.find(tx, app_id, build_id)
        if build is None:
            raise errors.NotFound("build")
        return _stream(outputs.follow(app_id, build_id), "text/plain; charset=utf-8")

    phases = PhaseOutputs(context.db, context.settings.paths.releases)

    async def phase(request: Request) -> Response:
        text = context.signers.phase_output.open(request.path_params["token"], now=context.clock())
        if text is None:
            raise errors.NotFound("release")
        app_id, _, release_id = text.partition("/")
        return _stream(await phases.follow(app_id, release_id), "text/plain; charset=utf-8")

    return [
        *door.routes(context, TABLE),
        Route("/releases/{token}/output", phase),
        Route("/logs/{token}", show),
        Route("/builds/{token}/output", output),
    ]


async def _open(context: Context, token: str) -> Session:
    """Raises NotFound for a token that is over or not ours, and when its app is gone."""
    text = context.signers.logs.open(token, now=context.clock())
    if text is None:
        raise errors.NotFound("log_session")
    session = msgspec.json.decode(text, type=Session)
    async with context.db.read() as tx:
        if await apps.find(tx, session.app_id) is None:
            raise errors.NotFound("log_session")
    return session


class Piece(NamedTuple):
    """Lines, and where the log goes on after them; none when nothing came for KEEP_ALIVE seconds."""

    lines: Sequence[LogLine]
    end: Position | None


async def _lines(
    context: Context, session: Session, after: Position | None
) -> AsyncIterator[Piece]:
    """What the session shows; after a position that the client has seen already, only the rest."""
    logs, (app_id, count, tail, source, dyno) = context.logs, session
    if after is None:
        lines, after = await logs.last(app_id, count, source=source, dyno=dyno)
        yield Piece(lines, after)
    if not tail:
        return
    follower = logs.follow(app_id, after, source=source, dyno=dyno)
    async for found in _or_silence(follower):
        yield Piece([], None) if found is None else Piece(found[1], found[0])


async def _or_silence(
    follower: AsyncIterator[tuple[Position, list[LogLine]]],
) -> AsyncIterator[tuple[Position, list[LogLine]] | None]:
    """What the follower gives; None whenever it gave nothing for KEEP_ALIVE seconds."""
    coming: asyncio.Future[tuple[Position, list[LogLine]] | None]
    coming = asyncio.ensure_future(anext(follower, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=KEEP_ALIVE)
            if not done:
                yield None
                continue
            found = coming.result()
            if found is None:
                return
            yield found
            coming = asyncio.ensure_future(anext(follower, None))
    finally:
        coming.cancel()


async def _texts(pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
    async for lines, _ in pieces:
        if lines:
            yield "".join(f"{line}\n" for line in lines)


async def _events(pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
    """Server-sent events. Only the last event of a piece has an id: the client has it all then."""
    async for lines, end in pieces:
        if end is None:
            yield ":\n\n"
        data = ""
        for line in lines:
            # a carriage return would end the field
            data += "".join(f"data: {part}\n" for part in str(line).split("\r"))
            if len(data) > EVENT:
                yield f"{data}\n"
                data = ""
        if end is not None:
            yield f"id: {end}\n{data}\n"


def _stream(parts: AsyncIterator[str] | AsyncIterator[bytes], kind: str) -> StreamingResponse:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(parts, media_type=kind, headers=headers)

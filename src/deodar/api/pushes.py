"""Answers the pre-receive hook: takes a pushed commit as a build, and tells how the build goes.

The hook's side, and the words between them, are in `hooks/pre_receive.py`. While a hook is connected
its app takes no other push, so the lock goes when the hook does, however it dies. A pusher who leaves
does not end the build: the build is a wish in the store by then.

An app that wants its newest build alone (DEODAR_NEWEST_BUILD) takes a push beside another one, whose
build that cancels; unless that has made its release, for its commit is about to become the branch's.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from deodar.actions import builds as wishes
from deodar.adapters.disk import Disk
from deodar.adapters.git import Repositories
from deodar.api.outputs import Outputs
from deodar.kit.clock import Clock
from deodar.kit.conversations import Conversations
from deodar.model import errors
from deodar.model.build import Build, BuildStatus
from deodar.store import apps, builds
from deodar.store.db import Database, Tx

log = structlog.get_logger("deodar")

ANOTHER = "Another push to this app is being built. Push again when it has ended."


class Pushes:
    """Serves hooks on a unix socket, from `serve` until it is cancelled."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        repositories: Repositories,
        outputs: Outputs,
        *,
        disk: Disk,
        builds: Path,
        socket: Path,
    ) -> None:
        self.socket = socket
        self.builds = builds
        self._disk = disk
        self._db = db
        self._clock = clock
        self._repositories = repositories
        self._outputs = outputs
        self._pushing: dict[str, list[str]] = {}  #: ids of the builds that are pushed, by app

    async def serve(self) -> None:
        # One that a killed process left behind would refuse us the name.
        self.socket.unlink(missing_ok=True)
        async with Conversations("pushes", self._talk) as talks:
            server = await asyncio.start_unix_server(talks.begin, self.socket)
            os.chmod(self.socket, 0o600)
            try:
                async with server:
                    await asyncio.Event().wait()
            finally:
                self.socket.unlink(missing_ok=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._take(reader, writer)
        except errors.PlatformError as refusal:
            writer.write(_line("refuse", refusal.message))
        except (ConnectionError, asyncio.IncompleteReadError):
            log.info("push.left")  # the hook died; what it had asked for by then is in the store
        finally:
            with suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        app_id, user = await _read(reader, "push")
        self._disk.check()
        build_id = wishes.new_id()
        async with self._turn(app_id, build_id):
            writer.write(_line("build", build_id))
            try:
                ref, commit, subject = await _read(reader, "source")
                await self._wish(app_id, build_id, user=user, commit=commit, subject=subject)
            except (errors.PlatformError, ConnectionError, asyncio.IncompleteReadError):
                # No build came of it: its source would lie there for ever.
                shutil.rmtree(self.builds / build_id, ignore_errors=True)
                raise
            log.info("push.taken", app=app_id, build=build_id, commit=commit)
            told = False
            async for data in self._outputs.follow(app_id, build_id):
                told = True
                writer.write(_output(data))
                await writer.drain()
            build = await self._find(app_id, build_id)
            succeeded = build is not None and build.status is BuildStatus.SUCCEEDED
            if build is not None and build.message and not told:
                # It was canceled before the compiler had a word to say.
                writer.write(_output(f" !     {build.message}\n".encode()))
            if succeeded:
                await self._repositories.point_head(app_id, ref)
            writer.write(_line("end", "0" if succeeded else "1"))
            await writer.drain()

    @asynccontextmanager
    async def _turn(self, app_id: str, build_id: str) -> AsyncIterator[None]:
        """Raises Conflict while another push is under way, unless the app wants the newest alone."""
        pushed = self._pushing.setdefault(app_id, [])
        pushed.append(build_id)
        try:
            if len(pushed) > 1:
                async with self._db.read() as tx:
                    if not await wishes.newest_only(tx, app_id):
                        raise errors.Conflict(ANOTHER)
            yield
        finally:
            pushed.remove(build_id)
            if not pushed:
                del self._pushing[app_id]

    async def _wish(
        self, app_id: str, build_id: str, *, user: str, commit: str, subject: str
    ) -> None:
        async with self._db.write() as tx:
            app = await apps.find(tx, app_id)
            if app is None:
                raise errors.NotFound("app")
            await wishes.create(
                tx,
                app,
                build_id=build_id,
                commit=commit,
                commit_description=subject,
                user=user,
                now=self._clock(),
            )
            await self._check_superseded(tx, app_id, build_id)

    async def _check_superseded(self, tx: Tx, app_id: str, build_id: str) -> None:
        """Raises Conflict for a push beside this one that has made its release, or ended meanwhile."""
        for other in self._pushing[app_id]:
            build = await builds.find(tx, app_id, other) if other != build_id else None
            if build is None or build.status is BuildStatus.FAILED:
                continue
            if build.canceled_by is None:
                raise errors.Conflict(ANOTHER)

    async def _find(self, app_id: str, build_id: str) -> Build | None:
        async with self._db.read() as tx:
            return await builds.find(tx, app_id, build_id)


async def _read(reader: asyncio.StreamReader, expected: str) -> list[str]:
    line = await reader.readuntil(b"\n")
    word, *fields = line[:-1].decode(errors="replace").split("\t")
    if word != expected:
        raise errors.BadRequest(f"The hook said {word!r} where {expected!r} was due.")
    return fields


def _output(data: bytes) -> bytes:
    return _line("output", str(len(data))) + data


def _line(*fields: str) -> bytes:
    return "\t".join(field.replace("\n", " ") for field in fields).encode() + b"\n"

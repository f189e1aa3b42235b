"""Takes an app's builds one after the other; what they leave on disk is housekeeping's.

A build that was under way when the control plane died is ended: as succeeded if its release was made,
as failed otherwise, for whoever pushed was told so.
"""

import asyncio
from contextlib import closing
from pathlib import Path

import structlog

from deodar.actions import builds as wishes
from deodar.engines.base import Engine
from deodar.kit.clock import Clock
from deodar.loops.compiler import workshop
from deodar.loops.compiler.output import Output
from deodar.loops.compiler.pipeline import Pipeline
from deodar.model import errors
from deodar.model.app import App
from deodar.model.build import INTERRUPTED, Build, BuildStatus
from deodar.model.log import LogLine
from deodar.settings import Paths
from deodar.store import apps, builds, releases
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

AT_ONCE = 2  #: builds of different apps at the same moment


class Compiler:
    """Drives builds; `reconcile` is driven by kit.loop with an app's id as the key."""

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        logs: Logs,
        clock: Clock,
        pipeline: Pipeline,
        paths: Paths,
    ) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._pipeline = pipeline
        self._paths = paths
        self._running = asyncio.Semaphore(AT_ONCE)

    async def keys(self) -> list[str]:
        async with self._db.read() as tx:
            return await apps.ids(tx)

    async def reconcile(self, app_id: str) -> None:
        async with self._db.read() as tx:
            known = await builds.of_app(tx, app_id)
        for build in known:
            if build.status is BuildStatus.PENDING:
                await self._build(app_id, build)
            elif build.canceled_by is not None and build.started_at is None:
                # It was canceled while it waited: its source is all that there is of it.
                await workshop.clear(workshop.of(self._paths, app_id, build.id))

    async def recover(self) -> None:
        """Once before the first reconcile: ends the builds that an earlier process left pending.

        Those that were only waiting, too: whoever pushed them was told that they were lost.
        """
        async with self._db.read() as tx:
            left = await builds.pending(tx)
        for build in left:
            await self._end_interrupted(build)

    async def _build(self, app_id: str, build: Build) -> None:
        async with self._running:
            # Read again: it may have been renamed, changed or destroyed while the build waited.
            async with self._db.write() as tx:
                app = await apps.find(tx, app_id)
                waiting = await builds.find(tx, app_id, build.id)
                if app is None or waiting is None or waiting.status is not BuildStatus.PENDING:
                    return
                build = await wishes.take_up(tx, build, now=self._clock())
            self._tell(app, f"Build started by user {build.user}")
            with closing(Output(self._output(build))) as out:
                try:
                    build = await self._pipeline.run(app, build, out)
                except* errors.BuildFailed as group:
                    await self._fail(app, build, out, _message(group))
                except* errors.Unavailable as group:
                    log.warning(
                        "build.unavailable", app=app.id, build=build.id, error=_message(group)
                    )
                    await self._fail(app, build, out, _message(group))
                else:
                    await self._succeed(app, build)
            await workshop.clear(workshop.of(self._paths, app.id, build.id))

    async def _succeed(self, app: App, build: Build) -> None:
        async with self._db.write() as tx:
            release = await releases.get(tx, build.release_id) if build.release_id else None
            await wishes.succeed(tx, build, now=self._clock())
        if release is not None:
            self._tell(
                app,
                f"{release.description} by user {build.user}",
                f"Release {release.name} created by user {build.user}",
                "Build succeeded",
            )

    async def _fail(self, app: App, build: Build, out: Output, message: str) -> None:
        try:
            out.line()
            out.error(message)
            out.line()
            out.error("Push rejected, failed to compile the app.")
        except OSError as error:
            # A full disk must not keep the build from ending; the store has the message, too.
            log.warning("build.output_lost", app=app.id, build=build.id, error=str(error))
        async with self._db.write() as tx:
            if await builds.find(tx, app.id, build.id) is not None:
                await wishes.fail(tx, build, message, now=self._clock())
        self._tell(app, f"Build failed -- {message.splitlines()[0]}")

    async def _end_interrupted(self, build: Build) -> None:
        await self._engine.remove(build.id)
        async with self._db.write() as tx:
            if build.release_id is not None:
                await wishes.succeed(tx, build, now=self._clock())
            else:
                await wishes.fail(tx, build, INTERRUPTED, now=self._clock())
        with closing(Output(self._output(build))) as out:
            out.error(INTERRUPTED)
        await workshop.clear(workshop.of(self._paths, build.app_id, build.id))

    def _output(self, build: Build) -> Path:
        return self._paths.builds / f"{build.id}.log"

    def _tell(self, app: App, *texts: str) -> None:
        now = self._clock()
        self._logs.append(
            app.id, [LogLine(at=now, source="app", dyno="api", text=text) for text in texts]
        )


def _message(group: ExceptionGroup[errors.PlatformError]) -> str:
    """What the first of them says."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)

"""Wishes for builds: asks for one, and says how one ended. Building is the compiler's."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from deodar.actions import releases
from deodar.model import errors, tuning
from deodar.model import release as words
from deodar.model.app import App
from deodar.model.build import NEWER, Build, BuildStatus
from deodar.model.release import Release, Slug
from deodar.store import apps, builds
from deodar.store import releases as ledger
from deodar.store.db import Tx


def new_id() -> str:
    """An id for a build whose source must lie in its place before the build is wished."""
    return str(uuid.uuid4())


async def create(
    tx: Tx,
    app: App,
    *,
    build_id: str,
    commit: str | None,
    commit_description: str | None,
    user: str,
    now: datetime,
    buildpacks: Sequence[str] = (),
) -> Build:
    """A build of the source that lies ready under `build_id`; the compiler takes it up.

    Where the app says so, those of its builds that wait or run are canceled (DEODAR_NEWEST_BUILD).
    """
    build = Build(
        id=build_id,
        app_id=app.id,
        user=user,
        stack=app.build_stack,
        commit=commit,
        commit_description=commit_description,
        buildpacks=tuple(buildpacks) or app.buildpacks,
        created_at=now,
        updated_at=now,
    )
    if await newest_only(tx, app.id):
        await _supersede(tx, app, now=now)
    await builds.insert_build(tx, build)
    tx.ring(app.id)
    return build


async def newest_only(tx: Tx, app_id: str) -> bool:
    """Whether the app wants its newest build alone."""
    current = await ledger.current(tx, app_id)
    return current is not None and tuning.NEWEST_BUILD.of(current.config, default=False)


async def _supersede(tx: Tx, app: App, *, now: datetime) -> None:
    for each in await builds.of_app(tx, app.id):
        if each.status is BuildStatus.PENDING and each.release_id is None:
            await cancel(tx, each, user=NEWER, now=now)


async def cancel(tx: Tx, build: Build, *, user: str, now: datetime) -> Build:
    """A build that waits ends at once; one that runs, as soon as the compiler has stopped it.

    Raises Conflict for one that has ended, or has made its release already.
    """
    if build.status is not BuildStatus.PENDING or build.release_id is not None:
        raise errors.Conflict("Cannot cancel a build that has ended or was released.")
    canceled = replace(build, canceled_by=user, updated_at=now)
    await builds.cancel(tx, build, by=user)
    if build.started_at is None:
        return await fail(tx, canceled, told_canceled(canceled), now=now)
    return canceled


def told_canceled(build: Build) -> str:
    if build.canceled_by == NEWER:
        return "Build canceled: a newer one was pushed"
    return f"The build was canceled by {build.canceled_by}."


async def take_up(tx: Tx, build: Build, *, now: datetime) -> Build:
    """The compiler has begun with it."""
    begun = replace(build, started_at=now, updated_at=now)
    await builds.update_build(tx, begun)
    return begun


async def release(
    tx: Tx, app: App, build: Build, slug: Slug, *, detected: str | None, now: datetime
) -> tuple[Build, Release]:
    """Slug, release and what the build came to, all or nothing. The build itself goes on: it ends
    with `succeed`, once the release was seen to run or not to."""
    await ledger.insert_slug(tx, slug)
    if detected is not None and app.detected_buildpack != detected:
        app = replace(app, detected_buildpack=detected)
        await apps.update_app(tx, app)
    description = words.describe_deploy(build.commit)
    made = await releases.deploy(tx, app, slug, description=description, user=build.user, now=now)
    released = replace(build, slug_id=slug.id, release_id=made.id, updated_at=now)
    await builds.update_build(tx, released)
    return released, made


async def succeed(tx: Tx, build: Build, *, now: datetime) -> Build:
    """A build that made its release has ended well."""
    succeeded = replace(build, status=BuildStatus.SUCCEEDED, updated_at=now)
    await builds.update_build(tx, succeeded)
    tx.ring(build.app_id)
    return succeeded


async def fail(tx: Tx, build: Build, message: str, *, now: datetime) -> Build:
    """Nothing changes but that this build has failed, and why."""
    failed = replace(build, status=BuildStatus.FAILED, message=message, updated_at=now)
    await builds.update_build(tx, failed)
    tx.ring(build.app_id)
    return failed

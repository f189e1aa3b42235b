"""The shapes of releases and slugs."""

from deodar.model.app import App
from deodar.model.release import Release as ReleaseNoun
from deodar.model.release import ReleaseStatus
from deodar.model.release import Slug as SlugNoun
from deodar.wire.account import person
from deodar.wire.base import Id, Named, Person, Shape, named, stamp


class Release(Shape):
    id: str
    version: int
    description: str
    status: str
    current: bool
    app: Named
    user: Person
    slug: Id | None
    eligible_for_rollback: bool
    created_at: str
    updated_at: str
    output_stream_url: str | None = None
    addon_plan_names: tuple[str, ...] = ()
    artifacts: tuple[Id, ...] = ()


class ReleaseCreate(Shape):
    """A rollback names a `release`, a deploy a `slug`."""

    release: str | int | None = None
    slug: str | None = None
    description: str | None = None


def present_release(release: ReleaseNoun, app: App, *, output_url: str | None) -> Release:
    return Release(
        id=release.id,
        version=release.version,
        description=release.description,
        status=release.status,
        current=release.current,
        app=Named(id=app.id, name=app.name),
        user=person(release.user, app),
        slug=Id(id=release.slug_id) if release.slug_id else None,
        eligible_for_rollback=(
            release.slug_id is not None and release.status is ReleaseStatus.SUCCEEDED
        ),
        created_at=stamp(release.created_at),
        updated_at=stamp(release.updated_at),
        output_stream_url=output_url,
    )


class Blob(Shape):
    method: str
    url: str


class Slug(Shape):
    id: str
    blob: Blob
    checksum: str | None
    commit: str | None
    commit_description: str | None
    buildpack_provided_description: str | None
    process_types: dict[str, str]
    size: int | None
    stack: Named
    created_at: str
    updated_at: str
    deleted_at: str | None = None


class SlugCreate(Shape):
    process_types: dict[str, str]
    checksum: str | None = None
    commit: str | None = None
    commit_description: str | None = None
    buildpack_provided_description: str | None = None
    stack: str | None = None


def present_slug(slug: SlugNoun, *, blob: Blob) -> Slug:
    """One whose archive has not come has neither checksum nor size."""
    created_at = stamp(slug.created_at)
    return Slug(
        id=slug.id,
        blob=blob,
        checksum=slug.checksum or None,
        commit=slug.commit,
        commit_description=slug.commit_description,
        buildpack_provided_description=slug.buildpack_description,
        process_types=dict(slug.process_types),
        size=slug.size or None,
        stack=named("stack", slug.stack),
        created_at=created_at,
        updated_at=created_at,
    )

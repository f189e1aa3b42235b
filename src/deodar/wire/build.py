"""The shapes of builds."""

from deodar.model.app import App
from deodar.model.build import Build as BuildNoun
from deodar.wire.account import person
from deodar.wire.app import Buildpack, present_buildpack
from deodar.wire.base import Id, Person, Shape, stamp


class SourceBlob(Shape):
    url: str
    checksum: str | None = None
    version: str | None = None
    version_description: str | None = None


class SourceUrls(Shape):
    get_url: str
    put_url: str


class Source(Shape):
    """Where a source is uploaded to, and what a build then calls it by."""

    source_blob: SourceUrls


class BuildpackRef(Shape):
    url: str | None = None
    name: str | None = None


class BuildCreate(Shape):
    source_blob: SourceBlob
    buildpacks: list[BuildpackRef] | None = None


class Build(Shape):
    id: str
    app: Id
    status: str
    stack: str
    buildpacks: list[Buildpack]
    source_blob: SourceBlob
    output_stream_url: str
    release: Id | None
    slug: Id | None
    user: Person
    created_at: str
    updated_at: str
    message: str | None  #: why it failed, in a sentence; ours, not Heroku's


def present_build(build: BuildNoun, app: App, *, source_url: str, output_url: str) -> Build:
    return Build(
        id=build.id,
        app=Id(id=app.id),
        status=build.status,
        stack=build.stack,
        buildpacks=[present_buildpack(identifier) for identifier in build.buildpacks],
        source_blob=SourceBlob(
            url=source_url,
            version=build.commit,
            version_description=build.commit_description,
        ),
        output_stream_url=output_url,
        release=Id(id=build.release_id) if build.release_id else None,
        slug=Id(id=build.slug_id) if build.slug_id else None,
        user=person(build.user, app),
        created_at=stamp(build.created_at),
        updated_at=stamp(build.updated_at),
        message=build.message,
    )

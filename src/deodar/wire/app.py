"""The shapes of an app and of what is set on it: buildpacks and features."""

from deodar.model.app import App as AppNoun
from deodar.wire.base import Named, Person, Shape, named, stamp, stamp_or_none
from deodar.wire.places import Places

REGION = "us"  #: clients expect one of Heroku's; this machine answers to its first
GENERATION = "cedar"
URN = "urn:buildpack:"


class App(Shape):
    id: str
    name: str
    owner: Person
    region: Named
    stack: Named
    build_stack: Named
    generation: Named
    maintenance: bool
    web_url: str | None
    git_url: str
    buildpack_provided_description: str | None
    repo_size: int | None
    slug_size: int | None
    created_at: str
    updated_at: str
    released_at: str | None
    acm: bool
    archived_at: str | None = None
    internal_routing: bool | None = None
    organization: Named | None = None
    team: Named | None = None
    space: Named | None = None


class AppCreate(Shape):
    name: str | None = None
    region: str | None = None
    stack: str | None = None


class AppUpdate(Shape):
    name: str | None = None
    maintenance: bool | None = None
    build_stack: str | None = None


def present_app(app: AppNoun, places: Places) -> App:
    return App(
        id=app.id,
        name=app.name,
        owner=Person(id=app.owner.id, email=app.owner.email),
        region=named("region", REGION),
        stack=named("stack", app.stack),
        build_stack=named("stack", app.build_stack),
        generation=named("generation", GENERATION),
        maintenance=app.maintenance,
        web_url=places.web_url(app),
        git_url=places.git_url(app),
        buildpack_provided_description=app.detected_buildpack,
        repo_size=app.repo_size,
        slug_size=app.slug_size,
        created_at=stamp(app.created_at),
        updated_at=stamp(app.updated_at),
        released_at=stamp_or_none(app.released_at),
        acm=app.acm,
    )


class Buildpack(Shape):
    url: str
    name: str


class BuildpackInstallation(Shape):
    ordinal: int
    buildpack: Buildpack


class BuildpackUpdate(Shape):
    """`buildpack` is missing where the registry did not know the one that a client was given."""

    buildpack: str | None = None


class BuildpackUpdates(Shape):
    updates: list[BuildpackUpdate]


def present_buildpack(identifier: str) -> Buildpack:
    """`heroku/python` is shown as `urn:buildpack:heroku/python`; a URL as itself."""
    name = identifier.removeprefix(URN)
    url = name if "://" in name else f"{URN}{name}"
    return Buildpack(url=url, name=name)


def present_buildpacks(app: AppNoun) -> list[BuildpackInstallation]:
    """Those set by the owner, or the one that the first build detected."""
    detected = (app.detected_buildpack,) if app.detected_buildpack else ()
    return [
        BuildpackInstallation(ordinal=ordinal, buildpack=present_buildpack(identifier))
        for ordinal, identifier in enumerate(app.buildpacks or detected)
    ]


class Feature(Shape):
    id: str
    name: str
    display_name: str
    description: str
    doc_url: str
    enabled: bool
    state: str
    feedback_email: str
    created_at: str
    updated_at: str


class FeatureUpdate(Shape):
    enabled: bool

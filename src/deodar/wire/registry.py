"""The shapes of the buildpack registry: what `buildpacks:search`, `:info` and `:versions` read."""

import base64
from datetime import datetime

from deodar.wire.app import URN
from deodar.wire.base import Shape, derived_id, stamp

LICENSE = "Apache-2.0"


class Support(Shape):
    method: str = "website"
    address: str = "docs/buildpacks.md of Deodar"


class Origin(Shape):
    """Where its source is; clients make an address of it only for GitHub."""

    type: str = "shipped"
    owner: str = "deodar"
    repo: str = "deodar"


class RegisteredBuildpack(Shape):
    """A buildpack as the registry tells of it; `blob_url` is what an app is then given."""

    id: str
    namespace: str
    name: str
    blob_url: str
    description: str
    support: Support
    source: Origin
    category: str = "languages"
    two_factor_authentication: bool = False


class Revision(Shape):
    """The one version of a shipped buildpack: Deodar's own."""

    id: str
    release: str
    created_at: str
    license: str = LICENSE
    status: str = "published"


class Readme(Shape):
    content: str
    encoding: str = "base64"


def present_registered(namespace: str, name: str) -> RegisteredBuildpack:
    full = f"{namespace}/{name}"
    return RegisteredBuildpack(
        id=derived_id("buildpack", full),
        namespace=namespace,
        name=name,
        blob_url=f"{URN}{full}",
        description=f"The platform's own buildpack {full}",
        support=Support(),
        source=Origin(),
    )


def present_revision(full: str, *, version: str, at: datetime) -> Revision:
    return Revision(
        id=derived_id("buildpack revision", f"{full} {version}"),
        release=version,
        created_at=stamp(at),
    )


def present_readme(text: str) -> Readme:
    return Readme(content=base64.b64encode(text.encode()).decode())

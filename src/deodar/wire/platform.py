"""The shapes of what the platform itself offers: regions, stacks, dyno sizes."""

from datetime import datetime

from deodar.model import app as app_rules
from deodar.model.formation import DynoSize as SizeNoun
from deodar.wire.app import GENERATION, REGION
from deodar.wire.base import Named, Shape, derived_id, named, stamp

GB = 1024**3


class Provider(Shape):
    name: str
    region: str


class Region(Shape):
    id: str
    name: str
    description: str
    country: str
    locale: str
    private_capable: bool
    provider: Provider
    created_at: str
    updated_at: str


def present_region(since: datetime) -> Region:
    """The one there is: this machine, under the name that clients expect."""
    return Region(
        id=derived_id("region", REGION),
        name=REGION,
        description="This machine",
        country="here",
        locale="here",
        private_capable=False,
        # Heroku's schema lists no regions but those of its provider.
        provider=Provider(name="deodar", region="us-east-1"),
        created_at=stamp(since),
        updated_at=stamp(since),
    )


class Stack(Shape):
    id: str
    name: str
    default: bool
    state: str
    created_at: str
    updated_at: str


def present_stack(name: str, since: datetime) -> Stack:
    return Stack(
        id=derived_id("stack", name),
        name=name,
        default=name == app_rules.DEFAULT_STACK,
        state="public",
        created_at=stamp(since),
        updated_at=stamp(since),
    )


class DynoSize(Shape):
    id: str
    name: str
    memory: float  #: GB
    compute: int
    dedicated: bool
    precise_dyno_units: float
    private_space_only: bool
    architecture: str
    generation: Named
    cost: None = None


def present_dyno_size(size: SizeNoun, *, architecture: str) -> DynoSize:
    return DynoSize(
        id=derived_id("dyno-size", size.name),
        name=size.name,
        memory=size.memory / GB,
        compute=max(1, size.shares // 256),
        dedicated=False,
        precise_dyno_units=0.0,
        private_space_only=False,
        architecture=architecture,
        generation=named("generation", GENERATION),
    )

"""What an App is and which names it may have; leaves storing and routing it to others."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from deodar.model import errors, tuning
from deodar.model.idling import Sleep

AppId = NewType("AppId", str)

NAME = re.compile(r"[a-z][a-z0-9-]{1,28}[a-z0-9]")
DEFAULT_STACK = "deodar-12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who may use the API."""

    id: str
    email: str
    name: str | None = None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One app, as wished by its owner (devcenter: how-heroku-works)."""

    id: AppId
    name: str
    owner: Account
    stack: str = DEFAULT_STACK  #: what the current slug runs on
    build_stack: str = DEFAULT_STACK  #: what the next build will use
    maintenance: bool = False
    preboot: bool = (
        True  #: new web dynos take over before old ones stop; off is Heroku's classic way
    )
    runtime_metrics: bool = False  #: its dynos' load and memory are told in its log
    affinity: bool = False  #: a client's requests go to the dyno that answered its first
    acm: bool = False  #: the platform gets its domains certificates
    buildpacks: tuple[str, ...] = ()  #: set by the owner, in order; empty means detect
    detected_buildpack: str | None = None  #: pinned by the first successful build
    slot: int  #: the router backend that is this app's for life
    uid: int  #: the user its dynos run as; no other app's dynos do
    slug_size: int | None = None  #: bytes of the current slug's archive
    repo_size: int | None = None  #: bytes of the git repository after the last push
    created_at: datetime
    updated_at: datetime
    released_at: datetime | None = None
    sleep: Sleep | None = None  #: None is awake, or to be so


class ConfigVars(dict[str, str]):
    """An app's config vars. Values are secrets: `repr` shows names only."""

    def __repr__(self) -> str:
        return f"ConfigVars({', '.join(sorted(self))})"

    __str__ = __repr__


CONFIG_LIMIT = 64 * 1024  #: bytes of keys and values together (devcenter: config-vars)
CONFIG_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_name(name: str) -> str:
    """The name itself if an app may have it; raises InvalidParams in Heroku's words otherwise."""
    if len(name) < 3:
        raise errors.InvalidParams("Name is too short (minimum is 3 characters)")
    if len(name) > 30:
        raise errors.InvalidParams("Name is too long (maximum is 30 characters)")
    if not NAME.fullmatch(name):
        raise errors.InvalidParams(
            "Name must start with a letter, end with a letter or digit and can only contain "
            "lowercase letters, digits, and dashes."
        )
    return name


def merge_config(current: Mapping[str, str], changes: Mapping[str, str | None]) -> ConfigVars:
    """`current` with `changes` applied; None removes a key.

    Raises InvalidParams for a key that a shell could not use, for a reserved one, and for more than
    64 KB in all.
    """
    merged = ConfigVars(current)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
            continue
        if not CONFIG_KEY.fullmatch(key) or key.startswith("__"):
            raise errors.InvalidParams(
                f"Config var key {key!r} is not valid: use letters, digits and underscores, "
                "start with a letter."
            )
        if key in ("PORT", "DYNO", "HOME"):
            raise errors.InvalidParams(
                f"Config var {key} is set by the platform; choose another name."
            )
        tuning.check(key, value)
        if "\0" in value:
            raise errors.InvalidParams(
                f"Config var {key} contains a NUL byte, which no process can be given."
            )
        merged[key] = value
    size = sum(len(key.encode()) + len(value.encode()) for key, value in merged.items())
    if size > CONFIG_LIMIT:
        raise errors.InvalidParams(
            f"Config vars take {size} bytes in all; the limit is {CONFIG_LIMIT}. Remove some or shorten them."
        )
    return merged


ADJECTIVES = [
    "ancient",
    "arcane",
    "autumn",
    "boiling",
    "calm",
    "cryptic",
    "damp",
    "dry",
    "fierce",
    "frozen",
    "gentle",
    "glacial",
    "hidden",
    "immense",
    "intense",
    "limitless",
    "lit",
    "mighty",
    "morning",
    "mysterious",
    "nameless",
    "obscure",
    "peaceful",
    "polar",
    "protected",
    "pure",
    "quiet",
    "rocky",
    "safe",
    "salty",
    "secret",
    "serene",
    "sharp",
    "sheltered",
    "shielded",
    "shrouded",
    "stark",
    "still",
    "stormy",
    "tranquil",
    "vast",
    "warm",
    "whispering",
]
NOUNS = [
    "anchorage",
    "atoll",
    "badlands",
    "bastion",
    "bayou",
    "beach",
    "bluff",
    "brook",
    "brushlands",
    "cave",
    "cedar",
    "citadel",
    "cliffs",
    "coast",
    "cove",
    "crag",
    "depths",
    "dusk",
    "escarpment",
    "everglades",
    "falls",
    "forest",
    "fortress",
    "garden",
    "gorge",
    "grove",
    "harbor",
    "headland",
    "hollows",
    "inlet",
    "island",
    "lake",
    "meadow",
    "mesa",
    "mountain",
    "oasis",
    "peak",
    "plains",
    "plateau",
    "reef",
    "ridge",
    "river",
    "savannah",
    "scrubland",
    "sea",
    "shelf",
    "shore",
    "spire",
    "springs",
    "stream",
    "taiga",
    "thicket",
    "tor",
    "tundra",
    "waters",
    "wildwood",
    "woodland",
]


def random_name(random_source: random.Random) -> str:
    """A name for an app that was given none, such as `quiet-meadow-12345`."""
    return (
        f"{random_source.choice(ADJECTIVES)}-{random_source.choice(NOUNS)}-"
        f"{random_source.randrange(10_000, 100_000)}"
    )

"""What a Stack is and which names an imported one may have; making and keeping it is `adapters.stacks`'."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from deodar.model import errors

NAME = re.compile(r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*")
LONGEST = 30
OURS = "deodar-"  #: what the names of stacks begin with that Deodar makes itself
TAKEN = ("container", "cnb")  #: stacks at Heroku that are no root file systems


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack that is complete on this machine."""

    name: str
    suite: str | None = None  #: Debian's; None for an imported image
    recipe: str | None = None  #: fingerprint of what it was made by; None before those were noted
    image: str | None = None  #: where an imported one came from, for a person
    built_at: datetime
    digest: str  #: `SHA256:<hex>` over all names and versions; an image's is that of its manifest
    size: int | None = None  #: bytes on disk
    packages: Mapping[str, str] = field(default_factory=dict)  #: of the run variant
    build_packages: Mapping[str, str] = field(default_factory=dict)  #: of the build variant


def check_name(name: str) -> str:
    """The name itself if an imported stack may have it; raises InvalidParams otherwise."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise errors.InvalidParams(
            f"A stack cannot be called {name!r}. Use up to {LONGEST} lowercase letters, digits, "
            "dashes and dots, a letter first, such as heroku-24."
        )
    if name.startswith(OURS) or name in TAKEN:
        raise errors.InvalidParams(
            f"The name {name} is not free: {OURS}… are the stacks that Deodar makes itself, "
            f"{' and '.join(TAKEN)} mean something else at Heroku. Choose another, such as my-{name}."
        )
    return name

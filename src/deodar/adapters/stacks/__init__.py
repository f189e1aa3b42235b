"""Stacks: the root file systems that dynos and builds see, made once and then only looked at.

`recipe` says what goes into those that Deodar makes and `debian` makes them; `imported` makes them of
OCI images, which `image` reads and `layers` unpacks; `shelf` is where they are. Running them is an
engine's.
"""

from deodar.adapters.stacks.debian import build, is_outdated, update
from deodar.adapters.stacks.imported import bring_in
from deodar.adapters.stacks.progress import Progress
from deodar.adapters.stacks.recipe import RECIPES
from deodar.adapters.stacks.shelf import (
    discard,
    former,
    list_present,
    only_one,
    present,
    roots,
    take_down,
)

__all__ = [
    "RECIPES",
    "Progress",
    "bring_in",
    "build",
    "discard",
    "former",
    "is_outdated",
    "list_present",
    "only_one",
    "present",
    "roots",
    "take_down",
    "update",
]

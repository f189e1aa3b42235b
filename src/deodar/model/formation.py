"""What is wished of each process type, and the dyno sizes there are (devcenter: dyno-types)."""

import re
from dataclasses import dataclass
from types import MappingProxyType

from deodar.model import errors

MB = 1024 * 1024

TYPE = re.compile(r"[-\w]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DynoSize:
    """What one dyno of this size may use."""

    name: str  #: as the API spells it, `Standard-1X`
    memory: int  #: bytes; R14 beyond, R15 at twice as much
    pids: int  #: processes and threads together
    shares: int  #: CPU weight against other dynos, cgroup v1's scale
    cores: float | None = None  #: most CPU it may use; None for what is free

    def share(self, memory: int) -> str:
        """How much of its memory that is, as R14 and R15 tell it: `528M(103.3%)`."""
        return f"{memory // MB}M({100 * memory / self.memory:.1f}%)"


def _sizes(*sizes: DynoSize) -> MappingProxyType[str, DynoSize]:
    return MappingProxyType({size.name.lower(): size for size in sizes})


SIZES = _sizes(
    DynoSize(name="Eco", memory=512 * MB, pids=256, shares=128),
    DynoSize(name="Basic", memory=512 * MB, pids=256, shares=256),
    DynoSize(name="Standard-1X", memory=512 * MB, pids=256, shares=256),
    DynoSize(name="Standard-2X", memory=1024 * MB, pids=512, shares=512),
    DynoSize(name="Performance-M", memory=2560 * MB, pids=16_384, shares=1024),
    DynoSize(name="Performance-L", memory=14 * 1024 * MB, pids=32_768, shares=2048),
    DynoSize(name="Performance-L-RAM", memory=30 * 1024 * MB, pids=24_576, shares=2048),
    DynoSize(name="Performance-XL", memory=62 * 1024 * MB, pids=32_768, shares=4096),
    DynoSize(name="Performance-2XL", memory=126 * 1024 * MB, pids=65_536, shares=8192),
)
DEFAULT_SIZE = "Basic"


def size_of(name: str) -> DynoSize:
    """The size of that name in any case; raises InvalidParams, naming those there are."""
    size = SIZES.get(name.lower())
    if size is None:
        known = ", ".join(size.name for size in SIZES.values())
        raise errors.InvalidParams(f"Couldn't find the dyno size {name!r}. There are: {known}.")
    return size


QUANTITY_LIMIT = 100  #: dynos of one process type on one machine (devcenter: limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessType:
    """One line of an app's formation: how many dynos of this type are wished, and how large."""

    type: str
    quantity: int
    size: str = DEFAULT_SIZE
    command: str  #: from the current slug's Procfile


def wished_quantity(current: int, wish: int | str) -> int:
    """The quantity that `wish` asks for: `3`, `"3"`, `"+1"` or `"-1"`. Raises InvalidParams."""
    text = str(wish).strip()
    if not re.fullmatch(r"[+-]?\d{1,6}", text):
        raise errors.InvalidParams(f"Quantity {text!r} is not valid: give a number, or +1 or -1.")
    quantity = current + int(text) if text[0] in "+-" else int(text)
    if not 0 <= quantity <= QUANTITY_LIMIT:
        raise errors.InvalidParams(
            f"Cannot scale to {quantity} dynos: a process type has 0 to {QUANTITY_LIMIT}."
        )
    return quantity

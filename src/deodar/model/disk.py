"""How full a disk may get before builds pause, and the words for it; looking at one is an adapter's."""

from dataclasses import dataclass

FLOOR = 1000**3  #: bytes that stay free on a large disk
FLOOR_SHARE = 0.02  #: of a smaller one


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is left of a disk. Below its floor builds pause, and what can be made again is deleted."""

    free: int  #: bytes
    total: int
    floor: int

    @property
    def missing(self) -> int:
        """Bytes that it takes to reach the floor; 0 above it."""
        return max(0, self.floor - self.free)

    @property
    def is_low(self) -> bool:
        return self.free < self.floor

    @property
    def is_nearly_gone(self) -> bool:
        """So low that a build which runs is stopped: the rest is for dynos, logs and the store."""
        return self.free < self.floor // 2


def floor_of(total: int, *, wished: int | None) -> int:
    """The floor of a disk with `total` bytes; `wished` is the setting."""
    return wished if wished is not None else min(FLOOR, int(total * FLOOR_SHARE))


def full(space: Space) -> str:
    """What somebody is told who wants to build."""
    return (
        f"The disk of this machine is nearly full ({words(space.free)} free): builds are paused. "
        "Free some space: deodar status"
    )


def words(count: int) -> str:
    """`312 MB`: bytes for a person."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"

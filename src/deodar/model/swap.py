"""Swap areas, as the kernel tells of them; reads no file."""

from collections.abc import Sequence
from dataclasses import dataclass

SWAPS = "/proc/swaps"  #: where the kernel tells


@dataclass(frozen=True, slots=True)
class Area:
    """One device or file, in bytes."""

    path: str
    size: int
    used: int

    @property
    def zram(self) -> str | None:
        """The name of the device if it is one in RAM, which holds what is in it compressed."""
        name = self.path.rpartition("/")[2]
        return name if name.startswith("zram") else None


def parse(text: str) -> tuple[Area, ...]:
    """Of /proc/swaps."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return tuple(Area(path, int(size) * 1024, int(used) * 1024) for path, _, size, used, _ in rows)


def free(areas: Sequence[Area]) -> int:
    return sum(area.size - area.used for area in areas)


def stored(mm_stat: str) -> int:
    """Of a zram device's mm_stat: all that it takes of RAM, gaps between what is compressed among it."""
    return int(mm_stat.split()[2])

"""What swap this machine has, what is in it, and what of that takes RAM still."""

from collections.abc import Sequence
from pathlib import Path

from deodar.model import swap

BLOCKS = Path("/sys/block")


def usage() -> dict[str, int]:
    file = Path(swap.SWAPS)  # no kernel but Linux has one
    areas = swap.parse(file.read_text()) if file.exists() else ()
    total = sum(area.size for area in areas)
    return {"used": total - swap.free(areas), "total": total, "ram": _ram(areas)}


def _ram(areas: Sequence[swap.Area]) -> int:
    files = [BLOCKS / area.zram / "mm_stat" for area in areas if area.zram]
    return sum(swap.stored(file.read_text()) for file in files)

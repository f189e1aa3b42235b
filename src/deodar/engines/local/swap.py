"""A compressed swap device in RAM (zram) for a machine that has no swap; what is pushed into it, others decide.

A mark file says which device is ours, so that no other is ever taken down.
"""

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deodar.engines.local import commands, records
from deodar.kit import subprocess
from deodar.model import errors, swap
from deodar.model.swap import Area

BLOCKS = Path("/sys/block")
CONTROL = Path("/sys/class/zram-control")
#: best first: lz4 is woken from fastest, lzo-rle is what most kernels have
ALGORITHMS = ("lz4", "lzo-rle", "lzo")
PRIORITY = 100  #: over that of a disk which is added later
TIMEOUT = 300.0  #: seconds to take back what is in it


@dataclass(frozen=True, slots=True)
class Mark:
    """What is written down of our device."""

    boot: str  #: the machine's boot in which it was made: it is gone after another
    number: int

    @property
    def block(self) -> Path:
        return BLOCKS / f"zram{self.number}"

    @property
    def node(self) -> Path:
        return Path(f"/dev/zram{self.number}")


class Zram:
    """The device of one platform. `size` is how many bytes it takes before they are compressed; None: the
    owner does not want one."""

    def __init__(self, mark: Path, *, size: int | None) -> None:
        self._mark = mark
        self._size = size

    async def prepare(self) -> None:
        """Swap is there, if it is wished. May be repeated; a start that was killed is carried on. A device
        that is in use stays as it is until `destroy`."""
        mark = self._read()
        areas = active()
        if mark is not None and _is_in_use(mark, areas):
            return
        if self._size is None or areas:  # swap of the owner's is not ours to add to
            return
        await self._load()
        if mark is None:
            mark = Mark(records.boot_id(), int((CONTROL / "hot_add").read_text()))
            self._mark.write_bytes(msgspec.json.encode(mark))
        _node(mark)
        (mark.block / "reset").write_text("1")
        offered = (mark.block / "comp_algorithm").read_text()
        (mark.block / "comp_algorithm").write_text(algorithm(offered))
        (mark.block / "disksize").write_text(str(self._size))
        await subprocess.run(*commands.make_swap(mark.node))
        await subprocess.run(*commands.swap_on(mark.node, priority=PRIORITY))

    async def destroy(self) -> None:
        """What is in it comes back to RAM; then it is gone. Nothing if we have none."""
        mark = self._read()
        if mark is None:
            self._mark.unlink(missing_ok=True)
            return
        if _is_in_use(mark, active()):
            await subprocess.run(*commands.swap_off(mark.node), timeout=TIMEOUT)
        (CONTROL / "hot_remove").write_text(str(mark.number))
        mark.node.unlink(missing_ok=True)  # where the kernel does not do that by itself
        self._mark.unlink()

    def _read(self) -> Mark | None:
        """None if we have none on this machine, since it started."""
        try:
            mark = msgspec.json.decode(self._mark.read_bytes(), type=Mark)
        except FileNotFoundError:
            return None
        return mark if mark.boot == records.boot_id() and mark.block.exists() else None

    async def _load(self) -> None:
        if not CONTROL.exists() and shutil.which("modprobe"):
            # its status is not asked: whether the kernel has zram now is seen
            await subprocess.run_unchecked("modprobe", "zram", "num_devices=0")
        if not CONTROL.exists():
            raise errors.EngineFailed(
                "DEODAR_ZRAM is set, but this kernel has no zram. Install its module (on Debian and Ubuntu "
                "it comes with the kernel's package, at times as linux-modules-extra), add swap of another "
                "kind, or set DEODAR_ZRAM to off."
            )


def active() -> tuple[Area, ...]:
    """All that this machine has, whoever made it."""
    file = Path(swap.SWAPS)  # a kernel without swap has none
    return swap.parse(file.read_text()) if file.exists() else ()


def algorithm(offered: str) -> str:
    """Of comp_algorithm, such as `[lzo-rle] lzo lz4`: the best that it offers, or what it has set."""
    names = offered.split()
    ours = (name for name in ALGORITHMS if name in names or f"[{name}]" in names)
    chosen = next((name for name in names if name.startswith("[")), names[0]).strip("[]")
    return next(ours, chosen)


def _is_in_use(mark: Mark, areas: Sequence[Area]) -> bool:
    return str(mark.node) in {area.path for area in areas}


def _node(mark: Mark) -> None:
    """Its file in /dev, which no kernel makes where /dev is not its own, as in a container."""
    major, minor = (int(word) for word in (mark.block / "dev").read_text().split(":"))
    device = os.makedev(major, minor)
    if mark.node.exists() and mark.node.stat().st_rdev != device:
        mark.node.unlink()  # of a device that had the number before
    if not mark.node.exists():
        os.mknod(mark.node, stat.S_IFBLK | 0o600, device)

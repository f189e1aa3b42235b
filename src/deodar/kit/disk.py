"""How much disk folders take, and giving back a file's beginning. What is in them is others' to say."""

import ctypes
import os
from pathlib import Path

from deodar.kit import subprocess

TIMEOUT = 10 * 60.0  #: seconds; a busy machine's other work goes first
AT_ONCE = 1000  #: folders on one command line
KEEP_SIZE_PUNCH_HOLE = 0x03  #: fallocate(2): FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


async def taken(*folders: Path) -> dict[Path, int]:
    """Bytes on disk below each folder; one that is not there is left out.

    A command of its own and at the lowest priority: trees of node_modules are large, and reading them
    here would hold up everything else. Raises CommandFailed if it cannot run.
    """
    sizes: dict[Path, int] = {}
    there = [folder for folder in folders if folder.is_dir()]
    for start in range(0, len(there), AT_ONCE):
        # Files come and go meanwhile: du says so, and counts the rest.
        finished = await subprocess.run_unchecked(
            *command(there[start : start + AT_ONCE]), timeout=TIMEOUT
        )
        sizes |= parse(finished.text)
    return sizes


def command(folders: list[Path]) -> tuple[str, ...]:
    return (
        *subprocess.AT_LEISURE,
        *("du", "--summarize", "--one-file-system", "--block-size=1", "--"),
        *map(str, folders),
    )


def parse(told: str) -> dict[Path, int]:
    lines = (line.split("\t", 1) for line in told.splitlines())
    return {Path(path): int(size) for size, path in lines}


def punch(path: Path, length: int) -> None:
    """Gives the first `length` bytes of a file back to the disk; the rest keeps its place, and they
    read as zeros. Nothing for a file that is not there. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = ctypes.c_int64(min(length, os.fstat(file).st_size))
        if size.value == 0:
            return
        if libc.fallocate(file, KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(0), size) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(file)

"""How much disk folders take. What is in them, and whether it is too much, is others' to say."""

from pathlib import Path

from deodar.kit import subprocess

TIMEOUT = 10 * 60.0  #: seconds; a busy machine's other work goes first
AT_ONCE = 1000  #: folders on one command line


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
        *("nice", "-n", "19"),
        *("du", "--summarize", "--one-file-system", "--block-size=1", "--"),
        *map(str, folders),
    )


def parse(told: str) -> dict[Path, int]:
    lines = (line.split("\t", 1) for line in told.splitlines())
    return {Path(path): int(size) for size, path in lines}

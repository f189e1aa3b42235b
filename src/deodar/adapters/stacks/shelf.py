"""Which stacks are on this machine, and putting one in another's place; making them is the neighbours'.

`<stacks>/<name>` is a link to an edition, `.<name>@<time>`, which has `run`, `build` and `stack.json`
and is never changed. A new edition is made whole beside the old one, and one rename turns the link.
Whoever resolved the link before keeps the edition it led to: an edition is discarded when no
container uses it, which is for housekeeping to know. Before there were editions `<name>` was a folder.
"""

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from deodar.kit import disk, subprocess
from deodar.model import errors
from deodar.model.stack import Stack

FACTS = "stack.json"
_EDITION = re.compile(r"\.(?P<stack>[^@]+)(@.+|\.partial|\.link)")
_HERE = -100  #: AT_FDCWD
_EXCHANGE = 2  #: RENAME_EXCHANGE


def list_present(stacks: Path) -> list[Stack]:
    """Every complete stack, by name."""
    return [stack for file in sorted(stacks.glob(f"[!.]*/{FACTS}")) if (stack := _read(file))]


def present(stacks: Path, name: str) -> Stack | None:
    """The stack if it is complete on this machine."""
    return _read(stacks / name / FACTS)


@contextmanager
def only_one(stacks: Path, name: str) -> Iterator[None]:
    """Holds the stack for this process. Raises StackMissing while another works on it."""
    stacks.mkdir(parents=True, exist_ok=True)
    with (stacks / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.StackMissing(
                f"Another process is building the stack {name}. Wait for it to end."
            ) from None
        yield


def check_space(stacks: Path, name: str, *, needed: int) -> None:
    free = shutil.disk_usage(stacks).free
    if free < needed:
        raise errors.StackMissing(
            f"Building the stack {name} needs {needed / 1e9:.1f} GB in {stacks}, "
            f"where {free / 1e9:.1f} GB are free. Free some space, then run it again."
        )


# The rest is for who holds the stack by `only_one`.


def begin(stacks: Path, name: str) -> Path:
    """An empty folder to make an edition in; what an earlier try left is gone."""
    give_up(stacks, name)
    half = _half(stacks, name)
    half.mkdir(mode=0o755, parents=True)
    return half


def give_up(stacks: Path, name: str) -> None:
    """Nothing comes of what was begun."""
    if (half := _half(stacks, name)).exists():
        shutil.rmtree(half)


async def size(half: Path) -> int:
    """Bytes on disk; what two names share counts once. Raises StackMissing if that cannot be told."""
    try:
        return (await disk.taken(half))[half]
    except subprocess.CommandFailed as error:
        raise errors.StackMissing(f"Cannot measure the new stack: {error}") from error


def put(stacks: Path, stack: Stack) -> None:
    """What was begun is the stack from now on; the former edition stays until it is discarded."""
    half = _half(stacks, stack.name)
    _write(half / FACTS, stack)
    edition = _edition(stacks, stack.name, stack.built_at)
    half.rename(edition)
    os.sync()
    _lead(stacks, stack.name, edition)


def note(stacks: Path, stack: Stack) -> None:
    """Other words about the edition that is there."""
    _write(stacks / stack.name / FACTS, stack)


def take_down(stacks: Path, name: str) -> None:
    """The stack is no longer there; its edition stays until it is discarded."""
    place = stacks / name
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        place.rename(_edition(stacks, name, _made_at(place)))


def _half(stacks: Path, name: str) -> Path:
    return stacks / f".{name}.partial"


def _edition(stacks: Path, name: str, at: datetime) -> Path:
    return stacks / f".{name}@{at:%Y%m%d-%H%M%S-%f}"


def _lead(stacks: Path, name: str, edition: Path) -> None:
    place, link = stacks / name, stacks / f".{name}.link"
    if link.is_dir() and not link.is_symlink():  # we were killed below
        link.rename(_edition(stacks, name, _made_at(link)))
    link.unlink(missing_ok=True)
    link.symlink_to(edition.name)
    if place.is_dir() and not place.is_symlink():
        _exchange(link, place)
        link.rename(_edition(stacks, name, _made_at(link)))
    else:
        link.replace(place)


def _exchange(one: Path, other: Path) -> None:
    """Each gets the other's name, with no moment in which one of the names is nobody's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), str(other))
        # Some file systems cannot: for a moment, once, there is no such stack.
        aside = one.with_name(f"{one.name}.aside")
        other.rename(aside)
        one.rename(other)
        aside.rename(one)


def _made_at(edition: Path) -> datetime:
    return datetime.fromtimestamp(edition.stat().st_mtime, UTC)


# Former editions.


def former(stacks: Path) -> list[Path]:
    """Editions that are no stack any more, and those that have not become one."""
    current = {place.resolve() for place in stacks.glob("[!.]*")}
    return sorted(
        each
        for each in stacks.glob(".*")
        if _EDITION.fullmatch(each.name) and not each.is_symlink() and each.resolve() not in current
    )


def roots(edition: Path) -> list[Path]:
    """The root file systems in it."""
    return [root.resolve() for name in ("run", "build") if (root := edition / name).exists()]


def discard(edition: Path) -> bool:
    """Deletes a former edition, unless it has just become a stack or somebody works on its stack."""
    stacks, match = edition.parent, _EDITION.fullmatch(edition.name)
    assert match is not None, "it is an edition"
    try:
        with only_one(stacks, match["stack"]):
            if edition not in former(stacks):
                return False
            shutil.rmtree(edition)
    except errors.StackMissing:
        return False
    return True


def _read(file: Path) -> Stack | None:
    try:
        fields = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    return Stack(**fields | {"built_at": datetime.fromisoformat(fields["built_at"])})


def _write(file: Path, stack: Stack) -> None:
    draft = file.with_name(f".{FACTS}")
    draft.write_text(json.dumps(asdict(stack), indent=1, default=str) + "\n")
    draft.rename(file)

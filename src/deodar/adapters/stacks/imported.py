"""Makes a stack out of OCI images; reading one is `image`'s, and where the stack ends up is `shelf`'s.

Nothing of an image is run here, where it would be root.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from deodar.adapters.stacks import image, places, shelf, within
from deodar.adapters.stacks.image import Image
from deodar.adapters.stacks.progress import Meter, Progress
from deodar.model import errors, stack
from deodar.model.app import DEFAULT_STACK
from deodar.model.stack import Stack

UNPACKED = 6  #: times its size as stored is what an image takes, with room for its largest layer
SHELL = "bin/bash"
INIT = "usr/bin/tini"  #: the first process of every container
LENT = "usr/bin/tini-static"  #: what runs in any image, and is in the stacks that Deodar makes


async def bring_in(
    stacks: Path,
    name: str,
    path: Path,
    *,
    build: Path | None = None,
    on_progress: Callable[[Progress], None],
) -> tuple[Stack, bool]:
    """The image at `path` as the stack `name`, and whether that is another one than before; `build` is
    the image that builds see, the same by default.

    Raises InvalidParams for a name or an image that will not do, StackMissing for what is in the way.
    """
    stack.check_name(name)
    if os.geteuid() != 0:
        raise errors.StackMissing(f"Importing the stack {name} needs root. Run it again as root.")
    with shelf.only_one(stacks, name):
        meter = Meter(on_progress)
        meter.begin("Reading the image", until=0.1, lines=1)
        half = await asyncio.to_thread(shelf.begin, stacks, name)
        try:
            with _on_disk(name):
                images = {
                    variant: await image.open_(each, scratch=_folder(half, f".{variant}"))
                    for variant, each in (("run", path), ("build", build))
                    if each is not None
                }
                digest = _digest(images)
                former = shelf.present(stacks, name)
                if former is not None and former.digest == digest:
                    return former, False
                await _lay(stacks, name, half, images, meter)
                made = Stack(
                    name=name,
                    image=str(path) if build is None else f"{path}, {build}",
                    built_at=datetime.now(UTC),
                    digest=digest,
                    size=await shelf.size(half),
                )
                await asyncio.to_thread(shelf.put, stacks, made)
                meter.tell(f"Stack {name} is ready")
                return made, True
        finally:
            await asyncio.to_thread(shelf.give_up, stacks, name)


async def _lay(stacks: Path, name: str, half: Path, images: dict[str, Image], meter: Meter) -> None:
    size = sum(each.size for each in images.values())
    shelf.check_space(stacks, name, needed=UNPACKED * size)
    done = 0
    for variant, each in images.items():
        root = _folder(half, variant)
        for number, layer in enumerate(each.layers, 1):
            step = f"Laying layer {number} of {len(each.layers)}, {variant} image"
            done += layer.file.stat().st_size
            meter.begin(step, until=0.1 + 0.85 * done / max(size, 1), lines=1)
            await image.lay(layer, root, scratch=half)
        await asyncio.to_thread(complete, root, lender=stacks / DEFAULT_STACK / "run")
    meter.begin("Finishing", until=1.0, lines=1)
    if "build" not in images:
        (half / "build").symlink_to("run")
    for variant in images:
        await asyncio.to_thread(shutil.rmtree, half / f".{variant}")


def complete(root: Path, *, lender: Path) -> None:
    """Adds what a root file system needs to be a stack, as little as there is. Raises InvalidParams for
    one that lacks what nobody can add."""
    places.furnish(root)
    if not within.follow(root, SHELL).is_file():
        raise errors.InvalidParams(
            f"The image has no /{SHELL}, by which every process of an app is started."
        )
    if within.follow(root, INIT).is_file():
        return
    lent = lender / LENT
    if not lent.is_file():
        raise errors.StackMissing(
            f"The image has no /{INIT}, and there is no stack {DEFAULT_STACK} to lend it. "
            "Build that first: deodar up"
        )
    place = within.parent(root, INIT, make=True)
    within.clear(place)
    shutil.copyfile(lent, place)
    place.chmod(0o755)


def _digest(images: dict[str, Image]) -> str:
    """One image's own, as registries know it."""
    digests = [each.digest.removeprefix("sha256:") for each in images.values()]
    if len(digests) == 1:
        return f"SHA256:{digests[0]}"
    return f"SHA256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


def _folder(half: Path, name: str) -> Path:
    folder = half / name
    folder.mkdir(mode=0o755)
    return folder


@contextmanager
def _on_disk(name: str) -> Iterator[None]:
    """What the disk says becomes a sentence."""
    try:
        yield
    except OSError as error:
        raise errors.StackMissing(f"Cannot import the stack {name}: {error}") from error

"""The control plane as a process: what it says before it serves."""

from dataclasses import replace
from pathlib import Path

import pytest

from deodar import daemon, settings
from deodar.adapters.stacks import RECIPES, shelf
from deodar.adapters.stacks.recipe import fingerprint
from tests import images


async def test_a_stack_of_an_earlier_recipe_is_used_and_said_to_be_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings.read({"DEODAR_DATA": str(tmp_path)})
    known = fingerprint(RECIPES["deodar-12"])
    for stack in (
        replace(images.stack("deodar-12", suite="bookworm"), recipe=known),
        replace(images.stack("deodar-13", suite="trixie"), recipe="another"),
        images.stack("own", image="own.tar"),
    ):
        shelf.begin(chosen.paths.stacks, stack.name)
        shelf.put(chosen.paths.stacks, stack)

    await daemon.build_stack(chosen)

    assert capsys.readouterr().err == (
        "Note: the stack deodar-13 was made by an earlier version of Deodar, and is used as it is. "
        "To bring it up to date: deodar stacks:update deodar-13\n"
    )

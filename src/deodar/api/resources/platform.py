"""/regions, /stacks, /dyno-sizes: what there is to choose from on this machine."""

import platform
from datetime import datetime

from starlette.responses import Response

from deodar.adapters import stacks
from deodar.api.call import Call, answer
from deodar.api.context import Context
from deodar.model import app as app_rules
from deodar.model import errors, formation
from deodar.wire import app as app_wire
from deodar.wire import platform as wire

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def stacks_since(context: Context) -> dict[str, datetime | None]:
    """Those that can be built here, and those that are there already: since when they are."""
    present = {
        stack.name: stack.built_at for stack in stacks.list_present(context.settings.paths.stacks)
    }
    return {name: present.get(name) for name in sorted({*present, *stacks.RECIPES})}


def find_stack(context: Context, identity: str | None) -> str:
    """The stack's name; the default's for None. Raises InvalidParams, naming those there are."""
    if identity is None:
        return app_rules.DEFAULT_STACK
    names = stacks_since(context)
    if identity not in names:
        raise errors.InvalidParams(
            f"Stack {identity!r} is not available. There are: {', '.join(names)}."
        )
    return identity


def check_region(identity: str | None) -> None:
    """Raises InvalidParams for another region than this machine's."""
    if identity not in (None, app_wire.REGION):
        raise errors.InvalidParams(f"Region {identity!r} is not available. There is: us.")


async def regions(call: Call) -> Response:
    return call.page([wire.present_region(call.account.created_at)], "name", "id")


async def region(call: Call) -> Response:
    found = wire.present_region(call.account.created_at)
    if call.word("region") not in (found.name, found.id):
        raise errors.NotFound("region")
    return answer(found)


async def all_stacks(call: Call) -> Response:
    return call.page(_stacks(call), "name", "id")


async def stack(call: Call) -> Response:
    for found in _stacks(call):
        if call.word("stack") in (found.name, found.id):
            return answer(found)
    raise errors.NotFound("stack")


def _stacks(call: Call) -> list[wire.Stack]:
    return [
        wire.present_stack(name, since or call.account.created_at)
        for name, since in stacks_since(call.context).items()
    ]


async def dyno_sizes(call: Call) -> Response:
    return answer(_sizes())


async def dyno_size(call: Call) -> Response:
    for size in _sizes():
        if call.word("size").lower() in (size.name.lower(), size.id):
            return answer(size)
    raise errors.NotFound("dyno_size")


def _sizes() -> list[wire.DynoSize]:
    machine = platform.machine()
    architecture = ARCHITECTURES.get(machine, machine)
    return [
        wire.present_dyno_size(size, architecture=architecture) for size in formation.SIZES.values()
    ]


TABLE = (
    ("GET", "/regions", regions),
    ("GET", "/regions/{region}", region),
    ("GET", "/stacks", all_stacks),
    ("GET", "/stacks/{stack}", stack),
    ("GET", "/dyno-sizes", dyno_sizes),
    ("GET", "/dyno-sizes/{size}", dyno_size),
)

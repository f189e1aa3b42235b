"""Making, updating and taking down stacks as a process of its own, beside a platform that runs or not.

`deodar stacks:…` starts it. How far it is goes to stderr, a line a step (` 42% Installing git`), what
came of it to stdout as JSON. The platform looks at the folder each time that it needs a stack, so it
need not be told; apps are the API's, so whoever takes down a stack has asked there before.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deodar import settings as settings_
from deodar.adapters import stacks
from deodar.model import errors
from deodar.model.app import DEFAULT_STACK
from deodar.model.stack import Stack

NICE = 19  #: dynos and builds go first


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    os.nice(NICE)
    try:
        folder = settings_.read(os.environ).paths.stacks
        if arguments.command == "take-down":
            take_down(folder, arguments.name)
            return 0
        made = asyncio.run(_work(folder, arguments))
    except errors.PlatformError as error:
        print(f"deodar: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps([_told(stack, changed) for stack, changed in made]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deodar.stacks")
    commands = parser.add_subparsers(dest="command", required=True)
    bring_in = commands.add_parser("import", help="an OCI image becomes a stack")
    bring_in.add_argument("name")
    bring_in.add_argument("path", type=Path)
    bring_in.add_argument("--build", type=Path, help="another image, for builds")
    update = commands.add_parser("update", help="build anew what Deodar makes itself")
    update.add_argument("name", nargs="?")
    remove = commands.add_parser("take-down", help="a stack is no longer there")
    remove.add_argument("name")
    return parser


async def _work(folder: Path, arguments: argparse.Namespace) -> list[tuple[Stack, bool]]:
    if arguments.command == "import":
        on_progress = _teller(arguments.name)
        path, build = arguments.path, arguments.build
        return [
            await stacks.bring_in(
                folder, arguments.name, path, build=build, on_progress=on_progress
            )
        ]
    names = [arguments.name] if arguments.name else ours(folder)
    return [await stacks.update(folder, name, on_progress=_teller(name)) for name in names]


def ours(folder: Path) -> list[str]:
    """The stacks here that can be built anew."""
    return [stack.name for stack in stacks.list_present(folder) if stack.suite is not None]


def take_down(folder: Path, name: str) -> None:
    """Raises Refused for a stack that must stay or is not there."""
    if name == DEFAULT_STACK:
        raise errors.InvalidParams(f"{name} is the stack of new apps; it cannot be removed.")
    with stacks.only_one(folder, name):
        if stacks.present(folder, name) is None:
            raise errors.InvalidParams(f"There is no stack {name} on this machine.")
        stacks.take_down(folder, name)


def _teller(name: str) -> Callable[[stacks.Progress], None]:
    last = ""

    def tell(progress: stacks.Progress) -> None:
        nonlocal last
        line = f"{progress.fraction:4.0%} {name}: {progress.step}"
        if line != last:
            print(line, file=sys.stderr, flush=True)
            last = line

    return tell


def _told(stack: Stack, changed: bool) -> dict[str, str | bool]:
    return {"name": stack.name, "digest": stack.digest, "changed": changed}


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Builds the stack `deodar-12` below a folder, unless it is there: for tests, which run no platform."""

import asyncio
import sys
from pathlib import Path

from deodar.adapters import stacks
from deodar.model import app


def tell(progress: stacks.Progress) -> None:
    print(f"{progress.fraction:4.0%} {progress.step}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(stacks.build(Path(sys.argv[1]), app.DEFAULT_STACK, on_progress=tell))

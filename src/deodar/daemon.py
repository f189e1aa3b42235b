"""The control plane as a process: its command line, its one lock, its end; what it runs is Platform's.

`run` is the platform in the foreground. When it ends, by signal or by kill -9, dynos and the router go
on without it, and the next `run` finds them. `down` ends those too.
"""

import argparse
import asyncio
import fcntl
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import structlog

from deodar import settings as settings_
from deodar.adapters import host, stacks
from deodar.adapters.haproxy.process import Haproxy
from deodar.engines.local.engine import LocalEngine
from deodar.model import errors
from deodar.model.app import DEFAULT_STACK
from deodar.platform import Platform
from deodar.settings import Settings

log = structlog.get_logger("deodar")

#: what dynos and builds run on is its owner's to change: it may be in the middle of a busy day
OUTDATED = (
    "Note: the stack {name} was made by an earlier version of Deodar, and is used as it is. "
    "To bring it up to date: deodar stacks:update {name}"
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deodar.daemon")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="the control plane in the foreground")
    down = commands.add_parser("down", help="end dynos, router, mounts and network")
    down.add_argument("--purge", action="store_true", help="delete the data directory too")
    arguments = parser.parse_args(argv)
    configure_logs()
    try:
        settings = settings_.read(os.environ)
        with only_one(settings.paths.data):
            if arguments.command == "run":
                asyncio.run(run(settings))
            else:
                asyncio.run(take_down(settings, purge=arguments.purge))
    except errors.PlatformError as error:
        print(f"deodar: {error.message}", file=sys.stderr)
        return 1
    return 0


def configure_logs() -> None:
    """Our own log: an event and its keys a line, to stderr. What libraries say comes from warnings up."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=24, pad_level=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Holds the data directory for this process. Raises Conflict, naming who has it already."""
    data.mkdir(parents=True, exist_ok=True, mode=0o711)
    pid_file = data / "daemon.pid"
    with (data / "daemon.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = pid_file.read_text().strip() if pid_file.exists() else "unknown"
            raise errors.Conflict(
                f"The platform of {data} runs already (pid {holder}). Stop it first: deodar down"
            ) from None
        pid_file.write_text(f"{os.getpid()}\n")
        try:
            yield
        finally:
            pid_file.unlink(missing_ok=True)


# ---- run -----------------------------------------------------------------------------------------


async def run(settings: Settings) -> None:
    """The platform, until SIGTERM or SIGINT."""
    await build_stack(settings)
    host.check(settings, stack_built=True)
    async with AsyncExitStack() as exits:
        platform = Platform(settings)
        exits.push_async_callback(platform.close)
        await platform.prepare()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        serving = asyncio.create_task(platform.serve(), name="platform")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (serving, stopping):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        log.info("platform.stopped", dynos="run on", router="runs on")


async def build_stack(settings: Settings) -> None:
    """The stack, the first time: some minutes, told line by line."""
    folder = settings.paths.stacks
    if stacks.present(folder, DEFAULT_STACK) is not None:
        for stack in stacks.list_present(folder):
            if stacks.is_outdated(stack):
                print(OUTDATED.format(name=stack.name), file=sys.stderr, flush=True)
        return
    host.check(settings, stack_built=False)
    told = ""

    def tell(progress: stacks.Progress) -> None:
        nonlocal told
        line = f"Building the stack: {progress.fraction:4.0%} {progress.step}"
        if line != told:
            print(line, file=sys.stderr, flush=True)
            told = line

    await stacks.build(folder, DEFAULT_STACK, on_progress=tell)


# ---- down ----------------------------------------------------------------------------------------


async def take_down(settings: Settings, *, purge: bool) -> None:
    """Ends what outlives the control plane; with `purge`, deletes the data directory."""
    await Haproxy(settings).stop()
    engine = LocalEngine(paths=settings.paths, subnet=settings.subnet)
    try:
        await engine.find()
        await engine.teardown()
    finally:
        await engine.close()
    (settings.paths.data / "client.json").unlink(missing_ok=True)
    if purge:
        await asyncio.to_thread(shutil.rmtree, settings.paths.data)


if __name__ == "__main__":
    sys.exit(main())

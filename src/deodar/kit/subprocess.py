"""The one place that spawns host commands; leaves what they mean, and their failing, to the caller."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

#: before a command that others need not wait for. `nice` weighs within a group of processes; alone in a
#: session, a command is a group to the kernel's autogroup scheduling, which has a weight of its own.
AT_LEISURE = (
    *("sh", "-c", '{ echo 19 > /proc/self/autogroup; } 2> /dev/null; exec nice -n 19 "$@"'),
    "at-leisure",
)


class CommandFailed(Exception):
    """A host command ended with an error, was not found, or took too long."""

    def __init__(self, argv: Sequence[str], status: int | None, stderr: str) -> None:
        self.argv = tuple(argv)
        self.status = status  #: None when it never ran or ran out of time
        self.stderr = stderr.strip()
        super().__init__(f"{argv[0]} failed ({status}): {self.stderr or 'no word of why'}")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


async def run(
    *argv: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float = 60,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Runs `argv` to its end and answers with its output. Raises CommandFailed if status is not 0.

    `env` replaces the environment when given; `pass_fds` are open files that it inherits. A command
    that outlives `timeout` seconds, or whose caller is cancelled, is killed and reaped.
    """
    finished = await run_unchecked(
        *argv, stdin=stdin, env=env, cwd=cwd, timeout=timeout, pass_fds=pass_fds
    )
    if finished.status != 0:
        raise CommandFailed(argv, finished.status, finished.stderr.decode(errors="replace"))
    return finished


async def run_unchecked(
    *argv: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float = 60,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """As `run`, for commands whose status is an answer. Raises CommandFailed when it cannot run."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(argv, None, str(error)) from error
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate(stdin)
    except TimeoutError as error:
        raise CommandFailed(argv, None, f"no end after {timeout:g} s") from error
    finally:
        await _end(process)
    assert process.returncode is not None
    return Finished(process.returncode, stdout, stderr)


async def run_telling(
    *argv: str,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> None:
    """As `run`, for commands with much to say: each line of stdout and stderr is told as it comes.

    The error carries the last lines told.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
            limit=1 << 20,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(argv, None, str(error)) from error
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=20)
    try:
        async with asyncio.timeout(timeout):
            async for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                last.append(line)
                on_line(line)
            status = await process.wait()
    except TimeoutError as error:
        raise CommandFailed(argv, None, f"no end after {timeout:g} s") from error
    finally:
        await _end(process)
    if status != 0:
        raise CommandFailed(argv, status, "\n".join(last))


@asynccontextmanager
async def talking(
    *argv: str,
    env: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.PIPE,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`argv` while it runs, its stdin, stdout and stderr as streams that the caller serves, or files
    of the caller's.

    A command that is still there at the end of the block is killed with all that it started, which
    might hold its streams open otherwise. Raises CommandFailed when it cannot run.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(argv, None, str(error)) from error
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills a command that is still there, with all that it started: one of those might hold its
    output open, and `wait` would wait for it."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

"""Commands of the host: their answers, and their end."""

import asyncio
import contextlib
import time

import pytest

from deodar.kit import subprocess
from deodar.kit.subprocess import CommandFailed


async def test_a_command_answers_with_its_output() -> None:
    finished = await subprocess.run("sh", "-c", "cat; echo aside >&2", stdin=b"given")

    assert (finished.status, finished.text, finished.stderr) == (0, "given", b"aside\n")


async def test_a_failure_carries_status_and_words() -> None:
    with pytest.raises(CommandFailed, match="broken") as caught:
        await subprocess.run("sh", "-c", "echo broken >&2; exit 3")

    assert caught.value.status == 3


async def test_a_command_that_is_not_there_says_so() -> None:
    with pytest.raises(CommandFailed, match="No such file"):
        await subprocess.run("deodar-has-no-such-command")


async def test_a_command_out_of_time_is_killed_with_its_children() -> None:
    start = time.monotonic()
    # The child holds the output open for longer than anybody waits.
    with pytest.raises(CommandFailed, match=r"no end after 0\.2 s"):
        await subprocess.run("sh", "-c", "sleep 60 & wait", timeout=0.2)

    assert time.monotonic() - start < 30


async def test_a_cancelled_caller_leaves_nothing_running() -> None:
    task = asyncio.create_task(subprocess.run("sh", "-c", "sleep 60 & wait"))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert task.cancelled()


async def test_lines_are_told_as_they_come_and_the_last_ones_with_the_failure() -> None:
    told: list[str] = []
    with pytest.raises(CommandFailed, match="two"):
        await subprocess.run_telling(
            "sh", "-c", "echo one; echo two >&2; exit 1", on_line=told.append
        )

    assert told == ["one", "two"]

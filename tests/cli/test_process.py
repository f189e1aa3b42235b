"""Finding and ending the control plane, against real processes that hold a real lock."""

from pathlib import Path

import pytest

from deodar.cli import process
from tests.cli.conftest import daemon


@pytest.fixture
def files(data: Path) -> process.Files:
    return process.Files(data)


def test_one_that_holds_its_lock_is_running(data: Path, files: process.Files) -> None:
    with daemon(data) as child:
        assert process.running(files) == child.pid


def test_a_pid_that_was_left_behind_is_not_running(data: Path, files: process.Files) -> None:
    with daemon(data):
        pass

    assert files.pid.exists()
    assert process.running(files) is None


def test_another_process_with_the_pid_is_let_be(data: Path, files: process.Files) -> None:
    with daemon(data):
        files.pid.write_text("1")

        assert process.stop(files) is False


def test_it_ends_when_asked(data: Path, files: process.Files) -> None:
    with daemon(data) as child:
        assert process.stop(files) is True
        assert child.wait(timeout=0) == -15


def test_one_that_does_not_end_when_asked_is_killed(data: Path, files: process.Files) -> None:
    with daemon(data, on_term="stays") as child:
        assert process.stop(files, patience=0.1) is True
        assert child.wait(timeout=0) == -9


def test_asking_whether_it_runs_does_not_keep_it_from_starting(
    data: Path, files: process.Files
) -> None:
    files.lock.touch()
    assert process.running(files) is None

    with daemon(data) as child:
        assert process.running(files) == child.pid

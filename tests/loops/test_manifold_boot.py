"""How a dyno's command becomes a process."""

import subprocess
from pathlib import Path

import pytest

from deodar.loops.manifold import boot
from deodar.model.dyno import EXIT_CODE


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        ("python -c print(6*7)", "python -c 'print(6*7)'"),
        ("echo \"a b\" c'd'", "echo 'a b' cd"),
        ("python -c print(6*7)" + EXIT_CODE, "python -c 'print(6*7)'" + EXIT_CODE),
        ('echo "no end', 'echo "no end'),
    ],
)
def test_a_command_by_words_is_quoted_but_for_what_the_cli_added(command: str, quoted: str) -> None:
    assert boot.by_words(command) == quoted


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("python3 -c print(6*7)", "42\n"),
        ("echo $((6*7)) | tr 2 3", "43\n"),
        ("python3 -c print(6*7)" + EXIT_CODE, "42\n\uffff heroku-command-exit-status: 0\n"),
        ("exit 3", ""),
    ],
)
def test_what_somebody_typed_runs_as_the_shell_reads_it_or_else_word_by_word(
    tmp_path: Path, command: str, output: str
) -> None:
    done = subprocess.run(boot.typed(command), cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout == output
    assert done.returncode == (3 if command == "exit 3" else 0)
    assert done.stderr == ""

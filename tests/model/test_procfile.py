"""The Procfile's grammar."""

import pytest

from deodar.model import errors, procfile


def test_types_and_commands_come_in_the_files_order() -> None:
    text = "web: gunicorn app:app --bind 0.0.0.0:$PORT\nworker:python worker.py\n"

    assert list(procfile.parse(text).items()) == [
        ("web", "gunicorn app:app --bind 0.0.0.0:$PORT"),
        ("worker", "python worker.py"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n\nweb: serve",
        "\ufeffweb: serve\r\n",
        "  web:   serve  ",
        "web: other\nweb: serve",
    ],
)
def test_comments_empty_lines_marks_and_doubled_types_do_no_harm(text: str) -> None:
    assert procfile.parse(text) == {"web": "serve"}


@pytest.mark.parametrize(
    "line", ["web serve", "web:", "we b: serve", ": serve", f"{'x' * 64}: serve"]
)
def test_a_line_that_is_no_process_type_is_named_with_its_number(line: str) -> None:
    with pytest.raises(errors.BuildFailed, match="Procfile line 2 is not valid") as caught:
        procfile.parse(f"web: serve\n{line}\n")

    assert repr(line.strip()) in caught.value.message

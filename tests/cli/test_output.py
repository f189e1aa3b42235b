"""How progress is told where nobody watches a terminal."""

import pytest

from deodar.cli import output


def test_a_long_thing_is_told_a_line_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    with output.progress() as teller:
        teller.tell("Starting")
        teller.tell("Starting")
        for percent in range(101):
            teller.tell(f"Building: {percent}%", percent / 100)
        teller.tell("Waiting")

    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Starting",
        *(f"Building: {percent}%" for percent in range(0, 101, 5)),
        "Waiting",
    ]

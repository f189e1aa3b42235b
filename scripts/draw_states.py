#!/usr/bin/env python3
"""Draws a dyno's life into docs/life-of-a-dyno.md from the table that the code runs by.

Run it after a change of `model/dyno.MOVES`; a test says when that was forgotten.
"""

import sys
from pathlib import Path

from deodar.model.dyno import ENDS_COMPLETE, MOVES, SHOWN, Event, State

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/life-of-a-dyno.md"
BEGIN = "<!-- drawn by scripts/draw_states.py: do not edit -->"
END = "<!-- end of the drawing -->"


def draw() -> str:
    moves = [(start, event, end) for (start, event), end in MOVES.items()]
    moves += [(start, Event.EXITED, State.COMPLETE) for start in State if start in ENDS_COMPLETE]
    arrows = [f"    {start} --> {end}: {event}{_whose(end)}" for start, event, end in moves]
    diagram = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.PROVISIONING}", *arrows, "```"]
    table = [
        "| state | what happens | it becomes | the API shows |",
        "|---|---|---|---|",
        *(
            f"| {start} | {event} | {end}{_whose(end)} | {SHOWN[end]} |"
            for start, event, end in moves
        ),
    ]
    return "\n".join([BEGIN, *diagram, "", *table, END])


def _whose(end: State) -> str:
    return " (one-off)" if end is State.COMPLETE else ""


def redrawn(document: str) -> str:
    """The document with the drawing as it should be."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + draw() + after


if __name__ == "__main__":
    DOCUMENT.write_text(redrawn(DOCUMENT.read_text()))
    print(f"drawn into {DOCUMENT.name}", file=sys.stderr)

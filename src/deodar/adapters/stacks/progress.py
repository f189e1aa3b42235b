"""How far a stack is: steps, and the lines that they print, become a fraction of the whole."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    step: str  #: for a person, such as `Installing git`
    fraction: float  #: 0 to 1 of the whole, never falling


class Meter:
    """Turns steps and the lines that they print into a fraction of the whole."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._step = ""
        self._start = self._until = 0.0
        self._lines = self._seen = 0

    def begin(self, step: str, *, until: float, lines: int) -> None:
        """`lines` is how many lines of progress the step is known to print, more or less."""
        self._step, self._start, self._until = step, self._until, until
        self._lines, self._seen = lines, 0
        self.tell(step)

    def line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word.startswith(("Get:", "Collecting", "Downloading")):
            self.tell("Downloading", seen=1)
        elif word in ("Unpacking", "Setting"):
            package = rest.removeprefix("up ").split(" ", 1)[0]
            self.tell(f"{self._step}: {package}", seen=1)

    def tell(self, step: str, *, seen: int = 0) -> None:
        self._seen = min(self._seen + seen, self._lines)
        share = (self._until - self._start) * self._seen / self._lines
        done = self._until if self._until == 1.0 else self._start + share
        self._on_progress(Progress(step, round(done, 3)))

"""How the CLI speaks: data on stdout, everything about it on stderr, errors as a sentence and a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

STRIDE = 5  #: how many percent a long thing gets between two lines about it


class Failed(click.ClickException):
    """A command did not do what was asked; says what is wrong and what to do."""

    def __init__(self, what: str, remedy: str | None = None) -> None:
        super().__init__(what)
        self.remedy = remedy

    def show(self, file: object = None) -> None:
        click.echo(f"Error: {self.message}", err=True)
        if self.remedy:
            click.echo(f"       {self.remedy}", err=True)


class Teller(Protocol):
    def tell(self, text: str, fraction: float | None = None) -> None:
        """What happens now; `fraction` of the whole where it is known."""


class _Lines:
    """For a file or a pipe: each thing once, on a line of its own, and a long one a line now and then."""

    def __init__(self) -> None:
        self._last = ""
        self._due = 0  #: the percent from which on the next line is told

    def tell(self, text: str, fraction: float | None = None) -> None:
        percent = None if fraction is None else round(fraction * 100)
        if text == self._last or (percent is not None and percent < self._due):
            return
        click.echo(text, err=True)
        self._last = text
        self._due = 0 if percent is None else min(percent + STRIDE, 100)


class _Bar:
    """For a terminal: one line that moves."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def tell(self, text: str, fraction: float | None = None) -> None:
        self._progress.update(
            self._task,
            description=text,
            total=None if fraction is None else 1.0,
            completed=fraction or 0,
        )


@contextmanager
def progress() -> Iterator[Teller]:
    """Tells what happens while something takes its time; gone from the terminal afterwards."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)

"""A build's output, as its owner reads it while it is written; a file that outlives the build."""

import os
from pathlib import Path


class Output:
    """Appends to the build's output file. Each call is on disk for readers when it returns."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )

    def step(self, text: str) -> None:
        """`-----> text`: a new step begins."""
        self.raw(f"-----> {text}\n".encode())

    def detail(self, text: str) -> None:
        """Indented under its step."""
        self.raw(f"       {text}\n".encode())

    def error(self, text: str) -> None:
        """` !     text`, a line for each of its lines."""
        self.raw("".join(f" !     {line}\n" for line in text.splitlines()).encode())

    def line(self, text: str = "") -> None:
        self.raw(f"{text}\n".encode())

    def raw(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        os.close(self._descriptor)


def megabytes(size: int) -> str:
    """`34.2M`, as the slug compiler writes sizes."""
    return f"{size / 1_000_000:.1f}M"

"""The Procfile's grammar: text in, process types out (devcenter: procfile)."""

import re

from deodar.model import errors

LINE = re.compile(r"([A-Za-z0-9_-]{1,63})[ \t]*:[ \t]*(\S.*)")
COMMENT = re.compile(r"\s*(#.*)?")


def parse(text: str) -> dict[str, str]:
    """Process types and their commands, in the file's order; the last of a doubled type wins.

    Empty lines and lines that start with `#` are passed over. Raises BuildFailed with the line's
    number and text for anything else.
    """
    types: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if COMMENT.fullmatch(line):
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise errors.BuildFailed(
                f"Procfile line {number} is not valid: {line.strip()!r}. "
                "Write `<process type>: <command>`, for example `web: gunicorn app:app`."
            )
        types[match[1]] = match[2].strip()
    return types

"""Which part of a list a Range header asks for, and how to ask for the next. Pure.

`version ]5..; max=10, order=desc`: a field to sort by, the first and last value, and options. A value
is left out with `]` before it or `[` after it. In descending order the first value is the highest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from deodar.model import errors

PAGE = 200  #: items without `max`, as at Heroku
PAGE_LIMIT = 1000

SPEC = re.compile(r"\s*(?P<field>\w+)\s+(?P<start>[^;]*?)\.\.(?P<end>[^;]*?)\s*(;(?P<options>.*))?")

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    field: str
    start: str = ""  #: empty: from the first
    after_start: bool = False  #: `start` itself is left out
    end: str = ""
    before_end: bool = False
    max: int = PAGE
    descending: bool = False

    def __str__(self) -> str:
        opening = "]" if self.after_start else ""
        closing = "[" if self.before_end else ""
        order = ", order=desc" if self.descending else ""
        return f"{self.field} {opening}{self.start}..{self.end}{closing}; max={self.max}{order}"

    def numbers(self) -> tuple[int | None, int | None]:
        """The lowest and the highest value, both included, where the field is a number.

        Raises BadRequest for bounds that are none.
        """
        first = _number(self.start) if self.start else None
        last = _number(self.end) if self.end else None
        return (last, first) if self.descending else (first, last)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    items: list[Item]
    next: Range | None  #: what to ask for the rest; None when there is no more


def parse(header: str, fields: Sequence[str]) -> Range:
    """The Range that `header` asks for; without one, everything by the first of `fields`.

    Raises BadRequest for what is no range, and RangeNotSatisfiable for a field not among `fields`.
    """
    if not header.strip():
        return Range(field=fields[0])
    match = SPEC.fullmatch(header)
    if match is None:
        raise errors.BadRequest(
            "Invalid `Range` header. Please use format like `id ..; max=10, order=desc`."
        )
    if match["field"] not in fields:
        raise errors.RangeNotSatisfiable(
            f"Cannot sort by {match['field']!r} here. Use one of: {', '.join(fields)}."
        )
    start, end = match["start"].strip(), match["end"].strip()
    asked = Range(
        field=match["field"],
        start=start.strip("[]"),
        after_start=start.startswith("]"),
        end=end.strip("[]"),
        before_end=end.endswith("[") or end.startswith("]"),
    )
    for option in re.split(r"[,;\s]+", match["options"] or ""):
        asked = _with_option(asked, option)
    return asked


def _with_option(asked: Range, option: str) -> Range:
    name, _, value = option.partition("=")
    match name, value:
        case "max", _:
            if not (value.isascii() and value.isdigit() and 1 <= int(value) <= PAGE_LIMIT):
                raise errors.BadRequest(
                    f"Invalid `Range` header: max must be a number from 1 to {PAGE_LIMIT}."
                )
            return replace(asked, max=int(value))
        case "order", "asc" | "desc":
            return replace(asked, descending=value == "desc")
        case "order", _:
            raise errors.BadRequest("Invalid `Range` header: order must be asc or desc.")
    return asked  # options that we do not know change nothing, as at Heroku


def cut(items: Sequence[Item], asked: Range) -> Page[Item]:
    """The part of `items` that `asked` names, in its order.

    Items that agree in the field stay on one page, so that the next one begins with another value.
    """

    def value(item: Item) -> Any:
        return getattr(item, asked.field)

    ordered = sorted(items, key=value, reverse=asked.descending)
    kind = type(value(ordered[0])) if ordered else str
    if asked.start:
        first = _bound(asked.start, kind)
        ordered = [
            each for each in ordered if _beyond(value(each), first, asked, asked.after_start)
        ]
    if asked.end:
        last = _bound(asked.end, kind)
        ordered = [each for each in ordered if _within(value(each), last, asked, asked.before_end)]
    count = asked.max
    while 0 < count < len(ordered) and value(ordered[count]) == value(ordered[count - 1]):
        count += 1
    rest = None
    if count < len(ordered):
        rest = replace(asked, start=str(value(ordered[count - 1])), after_start=True)
    return Page(ordered[:count], rest)


def _bound(text: str, kind: type) -> Any:
    return _number(text) if kind is int else text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise errors.BadRequest(f"Invalid `Range` header: {text!r} is not a number.")
    return int(text)


def _beyond(value: Any, first: Any, asked: Range, exclusive: bool) -> bool:
    if value == first:
        return not exclusive
    return bool(value < first) if asked.descending else bool(value > first)


def _within(value: Any, last: Any, asked: Range, exclusive: bool) -> bool:
    if value == last:
        return not exclusive
    return bool(value > last) if asked.descending else bool(value < last)

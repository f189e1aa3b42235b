from dataclasses import dataclass

import pytest

from deodar.api.paging import Page, Range, cut, parse
from deodar.model import errors

FIELDS = ("version", "id")


@dataclass(frozen=True)
class Thing:
    version: int
    id: str = ""


def things(*versions: int) -> list[Thing]:
    return [Thing(version, id=f"id-{version}") for version in versions]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Range(field="version")),
        ("id ..", Range(field="id")),
        ("version ..; max=1, order=desc", Range(field="version", max=1, descending=True)),
        ("version ..; order=desc,max=1", Range(field="version", max=1, descending=True)),
        ("version ..; order=desc", Range(field="version", descending=True)),
        ("id ..; max=1000;", Range(field="id", max=1000)),
        ("version 2..5", Range(field="version", start="2", end="5")),
        (
            "version ]2..5[",
            Range(field="version", start="2", after_start=True, end="5", before_end=True),
        ),
        ("version [2..]5", Range(field="version", start="2", end="5", before_end=True)),
        ("version ]2..; max=3", Range(field="version", start="2", after_start=True, max=3)),
        ("  version   ..  ;  colour=red max=7 ", Range(field="version", max=7)),
    ],
)
def test_a_range_is_understood(header: str, expected: Range) -> None:
    assert parse(header, FIELDS) == expected


@pytest.mark.parametrize(
    ("header", "error", "message"),
    [
        (
            "objects 0-99/*",
            errors.BadRequest,
            "Invalid `Range` header. Please use format like `id ..; max=10, order=desc`.",
        ),
        (
            "id ..; max=0",
            errors.BadRequest,
            "Invalid `Range` header: max must be a number from 1 to 1000.",
        ),
        (
            "id ..; max=1001",
            errors.BadRequest,
            "Invalid `Range` header: max must be a number from 1 to 1000.",
        ),
        (
            "id ..; max=ten",
            errors.BadRequest,
            "Invalid `Range` header: max must be a number from 1 to 1000.",
        ),
        (
            "id ..; order=up",
            errors.BadRequest,
            "Invalid `Range` header: order must be asc or desc.",
        ),
        (
            "seq ..",
            errors.RangeNotSatisfiable,
            "Cannot sort by 'seq' here. Use one of: version, id.",
        ),
    ],
)
def test_what_is_no_range_is_refused(
    header: str, error: type[errors.Refused], message: str
) -> None:
    with pytest.raises(error) as caught:
        parse(header, FIELDS)

    assert caught.value.message == message


@pytest.mark.parametrize(
    ("header", "versions", "rest"),
    [
        ("version ..", [1, 2, 3, 10], None),
        ("version ..; order=desc", [10, 3, 2, 1], None),
        ("version ..; max=2", [1, 2], "version ]2..; max=2"),
        ("version ..; max=4", [1, 2, 3, 10], None),
        ("version ..; max=1, order=desc", [10], "version ]10..; max=1, order=desc"),
        ("version ]10..; max=2, order=desc", [3, 2], "version ]2..; max=2, order=desc"),
        ("version 2..3", [2, 3], None),
        ("version ]2..10[", [3], None),
        ("version 3..2; order=desc", [3, 2], None),
        ("version ]3..1[; order=desc", [2], None),
        ("version 11..", [], None),
        ("id id-2..", [2, 3], None),
        ("version ..3; max=2", [1, 2], "version ]2..3; max=2"),
    ],
)
def test_a_list_is_cut_as_the_range_says(
    header: str, versions: list[int], rest: str | None
) -> None:
    page = cut(things(3, 1, 10, 2), parse(header, FIELDS))

    assert ([each.version for each in page.items], page.next and str(page.next)) == (versions, rest)


def test_what_agrees_in_the_field_stays_on_one_page() -> None:
    twins = [Thing(1, id="a"), Thing(1, id="b"), Thing(2, id="c")]

    page = cut(twins, parse("version ..; max=1", FIELDS))

    assert page == Page(twins[:2], Range(field="version", start="1", after_start=True, max=1))


def test_a_bound_that_is_no_number_is_refused_where_numbers_are_sorted() -> None:
    with pytest.raises(errors.BadRequest) as caught:
        cut(things(1), parse("version x..", FIELDS))

    assert caught.value.message == "Invalid `Range` header: 'x' is not a number."


def test_nothing_is_cut_to_nothing() -> None:
    assert cut([], parse("version 5..", FIELDS)) == Page([], None)

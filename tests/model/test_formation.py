"""Quantities and sizes."""

import pytest

from deodar.model import errors, formation


@pytest.mark.parametrize(
    ("current", "wish", "quantity"),
    [(1, "3", 3), (1, 3, 3), (1, "+1", 2), (2, "-1", 1), (5, "0", 0)],
)
def test_a_quantity_is_absolute_or_relative(current: int, wish: str | int, quantity: int) -> None:
    assert formation.wished_quantity(current, wish) == quantity


@pytest.mark.parametrize("wish", ["", "x", "1.5", "-1", "101", "+100", "--1", "1e3"])
def test_another_quantity_is_refused(wish: str) -> None:
    with pytest.raises(errors.InvalidParams):
        formation.wished_quantity(1 if wish == "+100" else 0, wish)


def test_a_size_is_found_in_any_case_and_an_unknown_one_lists_those_there_are() -> None:
    assert formation.size_of("STANDARD-1x").name == "Standard-1X"
    with pytest.raises(errors.InvalidParams, match="Eco, Basic"):
        formation.size_of("huge")

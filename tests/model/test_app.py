"""Names, config vars."""

import random

import pytest

from deodar.model import app, errors
from deodar.model.app import ConfigVars


@pytest.mark.parametrize("name", ["shop", "a-1", "a" * 30, "x9z"])
def test_a_name_that_heroku_takes_is_taken(name: str) -> None:
    assert app.check_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ab", "too short"),
        ("a" * 31, "too long"),
        ("Shop", "must start with a letter"),
        ("1shop", "must start with a letter"),
        ("shop-", "must start with a letter"),
        ("sh_op", "must start with a letter"),
        ("shop\n", "must start with a letter"),
    ],
)
def test_another_name_is_refused_with_the_rule(name: str, message: str) -> None:
    with pytest.raises(errors.InvalidParams, match=message):
        app.check_name(name)


def test_a_random_name_is_a_name() -> None:
    dice = random.Random(7)

    assert [app.check_name(app.random_name(dice)) for _ in range(50)]


def test_config_values_are_not_shown() -> None:
    config = ConfigVars({"SECRET": "hunter2"})

    assert "hunter2" not in f"{config} {config!r}"


def test_merging_sets_and_removes() -> None:
    assert app.merge_config({"A": "1", "B": "2"}, {"A": None, "C": "3"}) == {"B": "2", "C": "3"}


@pytest.mark.parametrize(
    "changes",
    [
        {"A-B": "1"},
        {"1A": "x"},
        {"__A": "x"},
        {"PORT": "80"},
        {"A": "\0"},
        {"A": "x" * (64 * 1024)},
    ],
)
def test_what_no_process_can_be_given_is_refused(changes: dict[str, str | None]) -> None:
    with pytest.raises(errors.InvalidParams):
        app.merge_config({}, changes)


def test_config_may_fill_its_limit_to_the_byte() -> None:
    assert app.merge_config({}, {"A": "x" * (64 * 1024 - 1)})

"""What the environment may say, and what is refused at the start."""

import os

import pytest

from deodar import settings
from deodar.model import errors


@pytest.mark.parametrize("wish", ["0", "0.5", "-3"])
def test_a_platform_that_looks_at_its_dynos_without_a_pause_is_refused(wish: str) -> None:
    with pytest.raises(errors.InvalidParams, match=f"DEODAR_VITALS_EVERY .*, not {wish}"):
        settings.read({"DEODAR_VITALS_EVERY": wish})


def test_how_often_dynos_are_looked_at_can_be_said() -> None:
    assert settings.read({"DEODAR_VITALS_EVERY": "2"}).vitals_every == 2


@pytest.mark.parametrize(
    ("wish", "size"),
    [
        ("", None),
        ("off", None),
        ("4 GB", 4_000_000_000),
        ("half", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2),
    ],
)
def test_swap_in_ram_is_off_half_of_it_or_a_size(wish: str, size: int | None) -> None:
    assert settings.read({"DEODAR_ZRAM": wish}).zram == size


@pytest.mark.parametrize("wish", ["some", "0", "on"])
def test_swap_in_ram_of_any_other_wish_is_refused(wish: str) -> None:
    with pytest.raises(
        errors.InvalidParams, match=f"DEODAR_ZRAM must be off, half .*, not '{wish}'"
    ):
        settings.read({"DEODAR_ZRAM": wish})


@pytest.mark.parametrize(
    ("name", "wish", "words"),
    [
        ("DEODAR_ACME_DIRECTORY", "acme.example.com", "must be a URL"),
        ("DEODAR_ACME_CA", "ca.pem", "must be the absolute path of a file"),
        ("DEODAR_ACME_CA", "/nowhere/ca.pem", "must be the absolute path of a file"),
    ],
)
def test_where_certificates_are_got_is_checked_at_the_start(
    name: str, wish: str, words: str
) -> None:
    with pytest.raises(errors.InvalidParams, match=f"{name} {words}"):
        settings.read({name: wish})

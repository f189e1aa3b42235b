"""What an app's owner may say by a config var of Deodar's."""

from typing import get_args

import pytest

from deodar.model import errors, tuning


@pytest.mark.parametrize("value", ["0", "601", "", "-1", "1.5", "sixty", "٣"])
def test_a_boot_timeout_is_a_number_of_seconds_within_bounds(value: str) -> None:
    with pytest.raises(errors.InvalidParams) as refused:
        tuning.check("DEODAR_BOOT_TIMEOUT", value)

    assert refused.value.message == (
        "DEODAR_BOOT_TIMEOUT must be a number of seconds from 1 to 600."
    )


def test_an_app_that_says_nothing_has_the_platforms_boot_timeout() -> None:
    assert tuning.BOOT_TIMEOUT.of({}, 60) == 60
    assert tuning.BOOT_TIMEOUT.of({"DEODAR_BOOT_TIMEOUT": "90"}, 60) == 90


def test_a_switch_is_on_or_off() -> None:
    switch = tuning.Switch(name="DEODAR_LIGHT")

    with pytest.raises(errors.InvalidParams) as refused:
        switch.check("yes")
    assert refused.value.message == "DEODAR_LIGHT must be on or off."
    assert [switch.of({}, default=True), switch.of({"DEODAR_LIGHT": "off"}, default=True)] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://example.com/error.html?a=1&b=2", "https://example.com/error.html?a=1&b=2"),
        ("HTTP://example.com", "HTTP://example.com"),
        ('https://example.com/"><script>', "https://example.com/%22%3E%3Cscript%3E"),
        ("https://example.com/a|b;c'd e", "https://example.com/a%7Cb%3Bc%27d%20e"),
        ("https://example.com/é", "https://example.com/%C3%A9"),
        ("javascript:alert(1)", ""),
        ("//example.com", ""),
        ("https://", ""),
        ("https://example.com/" + "a" * 2000, ""),
        ("", ""),
    ],
)
def test_a_page_is_a_url_that_ends_no_quotes_and_no_command(value: str, url: str) -> None:
    assert tuning.ERROR_PAGE.of({"ERROR_PAGE_URL": value}) == url


def test_what_is_no_page_is_refused() -> None:
    with pytest.raises(errors.InvalidParams) as refused:
        tuning.check("ERROR_PAGE_URL", "maintenance.html")

    assert (
        refused.value.message
        == "ERROR_PAGE_URL must be a URL that begins with https:// or http://."
    )
    tuning.check("ERROR_PAGE_URL", "")


@pytest.mark.parametrize("value", ["0", "10001", "-1", "many", ""])
def test_a_count_is_a_number_within_bounds(value: str) -> None:
    with pytest.raises(errors.InvalidParams) as refused:
        tuning.check("DEODAR_CONCURRENCY", value)

    assert refused.value.message == "DEODAR_CONCURRENCY must be a number from 1 to 10000."


def test_other_config_vars_are_the_apps_own() -> None:
    tuning.check("GREETING", "anything")


def test_every_setting_that_there_is_is_checked() -> None:
    kinds = get_args(tuning.Setting)
    named = {each.name for each in vars(tuning).values() if isinstance(each, kinds)}

    assert set(tuning.SETTINGS) == named

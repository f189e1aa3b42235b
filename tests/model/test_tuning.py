"""What an app's owner may say by a config var of Deodar's."""

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


def test_other_config_vars_are_the_apps_own() -> None:
    tuning.check("GREETING", "anything")

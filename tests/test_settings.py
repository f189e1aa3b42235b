"""What the environment may say, and what is refused at the start."""

import pytest

from deodar import settings
from deodar.model import errors


@pytest.mark.parametrize("wish", ["0", "0.5", "-3"])
def test_a_platform_that_looks_at_its_dynos_without_a_pause_is_refused(wish: str) -> None:
    with pytest.raises(errors.InvalidParams, match=f"DEODAR_VITALS_EVERY .*, not {wish}"):
        settings.read({"DEODAR_VITALS_EVERY": wish})


def test_how_often_dynos_are_looked_at_can_be_said() -> None:
    assert settings.read({"DEODAR_VITALS_EVERY": "2"}).vitals_every == 2

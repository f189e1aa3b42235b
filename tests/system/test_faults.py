"""Each fault once, caused for real; then some at random. `make chaos` draws two hundred."""

from collections.abc import Callable, Iterator

import pytest

from tests.system.chaos import FAULTS, Chaos, shake, shaken_platform
from tests.system.harness import Platform


@pytest.fixture(scope="module")
def chaos(platform: Platform) -> Iterator[Chaos]:
    # Asked for so that what a platform needs is known to be there; it has its own.
    with shaken_platform() as made:
        made.recovered()
        yield made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_wish_is_reached_again_and_nothing_is_left(
    chaos: Chaos, fault: Callable[[Chaos], None]
) -> None:
    fault(chaos)

    chaos.recovered()


def test_faults_at_random_leave_everything_whole(chaos: Chaos) -> None:
    shake(chaos, seed=20, count=10, tell=print)

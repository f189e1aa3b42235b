import pytest

from deodar.actions import formations
from deodar.actions.formations import Wish
from deodar.model import errors
from deodar.model.formation import ProcessType

WEB = ProcessType(type="web", quantity=2, size="Basic", command="serve")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(type="web"), (2, "Basic")),
        (Wish(type="web", quantity=5), (5, "Basic")),
        (Wish(type="web", quantity="-1"), (1, "Basic")),
        (Wish(type="web", size="STANDARD-1x"), (2, "Standard-1X")),
        (Wish(type="web", quantity="0", size="eco"), (0, "Eco")),
    ],
)
def test_a_wish_changes_what_it_names(wish: Wish, expected: tuple[int, str]) -> None:
    changed = formations.apply(wish, WEB)

    assert (changed.quantity, changed.size, changed.command) == (*expected, "serve")


def test_the_formation_is_described_as_heroku_does() -> None:
    worker = ProcessType(type="worker", quantity=0, size="Standard-2X", command="work")

    assert formations.describe([WEB, worker]) == "Scaled to web@2:Basic worker@0:Standard-2X"


def test_an_unknown_process_type_is_not_found() -> None:
    with pytest.raises(errors.NotFound) as caught:
        formations.find([WEB], "foo")

    assert (caught.value.message, caught.value.resource) == (
        "Couldn't find that process type (foo).",
        "process_type",
    )

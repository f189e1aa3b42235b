"""What a policy of idling says."""

from datetime import timedelta

import pytest

from deodar.model import errors, idling, tuning
from deodar.model.formation import ProcessType
from deodar.model.idling import Bed, Defaults, Depth, Policy, Rule, Sleep
from tests.model.test_dyno import NOW

HOUR = timedelta(hours=1)


def web(size: str = "Basic", quantity: int = 1) -> ProcessType:
    return ProcessType(type="web", quantity=quantity, size=size, command="serve")


@pytest.mark.parametrize(
    ("name", "process", "after"),
    [
        ("eco", web("Eco"), HOUR / 2),
        ("eco", web("Basic"), None),
        ("single", web("Basic"), HOUR),
        ("single", web("Eco", quantity=2), None),
        ("never", web("Eco"), None),
        ("90", web("Performance-L", quantity=9), 1.5 * HOUR),
        ("0.5", web(), timedelta(seconds=30)),
    ],
)
def test_a_rule_says_which_apps_sleep_and_when(
    name: str, process: ProcessType, after: timedelta | None
) -> None:
    assert idling.rule_of("DEODAR_IDLE_AFTER", name).after_of(process) == after


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "50000", ""])
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidParams) as refused:
        idling.rule_of("DEODAR_IDLE_AFTER", text)

    assert refused.value.message == (
        "DEODAR_IDLE_AFTER must be eco, single, never or a number of minutes."
    )


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        ({}, Policy(after=HOUR, workers=True, bed=Bed.SINK)),
        ({"DEODAR_IDLE_AFTER": "never"}, Policy(after=None, workers=True, bed=Bed.SINK)),
        (
            {
                "DEODAR_IDLE_AFTER": "5",
                "DEODAR_IDLE_WORKERS": "off",
                "DEODAR_IDLE_DEPTH": "stop",
            },
            Policy(after=timedelta(minutes=5), workers=False, bed=Bed.STOP),
        ),
        # set before these names meant anything
        (
            {"DEODAR_IDLE_AFTER": "soon", "DEODAR_IDLE_DEPTH": "deep"},
            Policy(after=None, workers=True, bed=Bed.SINK),
        ),
    ],
)
def test_an_app_speaks_for_itself_where_it_says_something(
    config: dict[str, str], policy: Policy
) -> None:
    assert idling.policy(config, web(), Defaults(rule=Rule(after=HOUR))) == policy


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "DEODAR_IDLE_AFTER",
            "0",
            "DEODAR_IDLE_AFTER must be never or a number of minutes from 1 to 43200.",
        ),
        ("DEODAR_IDLE_WORKERS", "yes", "DEODAR_IDLE_WORKERS must be on or off."),
        (
            "DEODAR_IDLE_DEPTH",
            "deep",
            "DEODAR_IDLE_DEPTH must be one of sink, freeze, stop.",
        ),
    ],
)
def test_an_app_that_says_it_wrongly_is_told(name: str, value: str, message: str) -> None:
    with pytest.raises(errors.InvalidParams) as refused:
        tuning.check(name, value)

    assert refused.value.message == message


def test_workers_sleep_with_the_app_or_not_and_web_dynos_always_do() -> None:
    both = Sleep(since=NOW, depth=Depth.FROZEN, workers=True)
    alone = Sleep(since=NOW, depth=Depth.FROZEN, workers=False)

    assert [each.takes(kind) for each in (both, alone) for kind in ("web", "worker")] == [
        True,
        True,
        True,
        False,
    ]

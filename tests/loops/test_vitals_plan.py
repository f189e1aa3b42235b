"""What is said of memory and load, as tables; lines are Heroku's own, to the letter."""

from datetime import UTC, datetime, timedelta

import pytest

from deodar.engines.base import Usage
from deodar.loops.vitals import plan
from deodar.loops.vitals.plan import Level, Load
from deodar.model.app import AppId
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.formation import MB, size_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BASIC = size_of("Basic")
WEB = Dyno(
    id="d97d0ea7",
    app_id=AppId("2808254"),
    type="web",
    number=1,
    kind=Kind.FORMATION,
    size="Basic",
    command="serve",
    release_id="r1",
    release_version=1,
    slug_id="s1",
    state=State.UP,
    state_since=NOW,
    created_at=NOW,
)


@pytest.mark.parametrize(
    ("usage", "level"),
    [
        (Usage(), Level.WITHIN),
        (Usage(rss=512 * MB), Level.WITHIN),
        (Usage(rss=512 * MB + 1), Level.EXCEEDED),
        (Usage(rss=300 * MB, swap=300 * MB), Level.EXCEEDED),
        (Usage(rss=300 * MB, cache=300 * MB, shared=300 * MB), Level.EXCEEDED),
        (Usage(rss=300 * MB, cache=700 * MB), Level.WITHIN),
        (Usage(rss=1024 * MB - 1), Level.EXCEEDED),
        (Usage(rss=1024 * MB), Level.VASTLY),
        (Usage(rss=512 * MB, swap=512 * MB), Level.VASTLY),
        (Usage(rss=100 * MB, oom_kills=1, peak=1024 * MB), Level.VASTLY),
        (Usage(rss=100 * MB, oom_kills=1), Level.VASTLY),
        (Usage(rss=100 * MB, oom_kills=1, peak=400 * MB), Level.WITHIN),
    ],
)
def test_what_counts_is_what_cannot_be_given_back(usage: Usage, level: Level) -> None:
    assert plan.judge(usage, BASIC) is level


@pytest.mark.parametrize(
    ("usage", "line"),
    [
        (Usage(rss=int(512 * MB * 1.033)), "Process running mem=528M(103.3%)"),
        (Usage(rss=1000 * MB, shared=20 * MB, swap=9 * MB), "Process running mem=1029M(201.0%)"),
        (
            Usage(rss=100 * MB, oom_kills=1, peak=1024 * MB),
            "Process running mem=1024M(200.0%)",
        ),
    ],
)
def test_the_owner_is_told_how_much_and_of_how_much(usage: Usage, line: str) -> None:
    assert plan.running(usage, BASIC) == line


def test_memory_is_measured_in_herokus_words() -> None:
    usage = Usage(
        rss=102 * MB,
        cache=80 * MB + 20_972,
        shared=MB,
        swap=2 * MB,
        pgpgin=348_836,
        pgpgout=343_403,
    )

    assert plan.measured(WEB, usage, BASIC) == (
        "source=web.1 dyno=heroku.2808254.d97d0ea7 "
        "sample#memory_total=184.02MB sample#memory_rss=102.00MB sample#memory_cache=80.02MB "
        "sample#memory_swap=2.00MB sample#memory_pgpgin=348836pages "
        "sample#memory_pgpgout=343403pages sample#memory_quota=512.00MB"
    )


def test_pages_that_the_kernel_does_not_count_are_not_made_up() -> None:
    assert plan.measured(WEB, Usage(rss=MB), BASIC) == (
        "source=web.1 dyno=heroku.2808254.d97d0ea7 "
        "sample#memory_total=1.00MB sample#memory_rss=1.00MB sample#memory_cache=0.00MB "
        "sample#memory_swap=0.00MB sample#memory_quota=512.00MB"
    )


def watched(*runnable: int, every: float = 5) -> Load:
    """The load after a first look and then one for each number."""
    load = plan.sampled(None, 9, NOW)
    for index, count in enumerate(runnable, start=1):
        load = plan.sampled(load, count, NOW + timedelta(seconds=every * index))
    return load


def test_a_load_of_two_is_nearly_reached_in_its_period_and_then_in_full() -> None:
    # 1 - 1/e of it after one period, as in the kernel
    after = {minutes: watched(*[2] * 12 * minutes).averages for minutes in (1, 5, 15, 90)}

    assert [round(after[1][0], 2), round(after[5][1], 2), round(after[15][2], 2)] == [1.26] * 3
    assert [round(average, 1) for average in after[90]] == [2.0, 2.0, 2.0]


def test_averages_do_not_depend_on_how_often_one_looks() -> None:
    assert watched(*[3] * 60, every=1).averages == pytest.approx(watched(3, every=60).averages)


def test_a_load_that_is_gone_fades() -> None:
    assert [round(average, 2) for average in watched(*[1] * 12, *[0] * 12).averages] == [
        0.23,
        0.15,
        0.06,
    ]


@pytest.mark.parametrize(
    ("minutes", "samples"),
    [
        (0, None),
        (0.9, None),
        (1, "sample#load_avg_1m=1.26"),
        (5, "sample#load_avg_1m=1.99 sample#load_avg_5m=1.26"),
        (15, "sample#load_avg_1m=2.00 sample#load_avg_5m=1.90 sample#load_avg_15m=1.26"),
    ],
)
def test_an_average_is_told_once_it_had_its_time(minutes: float, samples: str | None) -> None:
    load = watched(*[2] * int(12 * minutes))

    expected = samples and f"source=web.1 dyno=heroku.2808254.d97d0ea7 {samples}"
    assert plan.loaded(WEB, load) == expected

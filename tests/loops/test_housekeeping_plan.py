"""What may go from the disk, as tables."""

from datetime import UTC, datetime, timedelta

import pytest

from deodar.loops.housekeeping import plan
from deodar.loops.housekeeping.plan import Cache, Leftover, Rules
from deodar.model.app import AppId
from deodar.model.build import Build, BuildStatus
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.release import Entry

NOW = datetime(2030, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def ledger(*ages: int, current: int | None = None) -> list[Entry]:
    """Releases v1, v2, … of slugs s1, s2, …, so many days old; the last is current."""
    return [
        Entry(
            version=version,
            slug_id=f"s{version}",
            current=version == (current or len(ages)),
            created_at=NOW - age * DAY,
        )
        for version, age in enumerate(ages, start=1)
    ]


def gone(
    entries: list[Entry], *, kept: int = 2, days: int = 30, held: tuple[str, ...] = ()
) -> set[str]:
    return plan.expired(
        entries,
        {entry.slug_id: entry.created_at for entry in entries},
        held=held,
        rules=Rules(slugs_kept=kept, slug_age=days * DAY),
        now=NOW,
    )


def test_a_slug_goes_when_it_is_neither_new_nor_young() -> None:
    assert gone(ledger(90, 80, 70, 60, 50)) == {"s1", "s2", "s3"}


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        pytest.param(ledger(90, 80, 29, 28, 27), {"s3", "s4", "s5"}, id="the young"),
        pytest.param(ledger(90, 80, 30, 1, 0), {"s4", "s5"}, id="at thirty days no more"),
        pytest.param(ledger(90, 80, 70, 60, current=1), {"s1", "s3", "s4"}, id="the current one"),
        pytest.param(ledger(90), {"s1"}, id="the only one"),
    ],
)
def test_what_is_kept(entries: list[Entry], kept: set[str]) -> None:
    assert {entry.slug_id for entry in entries} - gone(entries) == kept


def test_a_slug_that_a_dyno_still_runs_is_kept() -> None:
    assert gone(ledger(90, 80, 70, 60), held=("s1",)) == {"s2"}


def test_an_old_slug_that_was_rolled_back_to_is_as_young_as_its_newest_release() -> None:
    again = Entry(version=5, slug_id="s1", current=True, created_at=NOW)

    assert gone([*ledger(90, 80, 70, 60, current=5), again], kept=1) == {"s2", "s3", "s4"}


def test_a_slug_without_a_release_goes_once_it_is_old() -> None:
    orphans = {"old": NOW - 31 * DAY, "young": NOW - DAY}

    assert plan.expired([], orphans, held=(), rules=Rules(), now=NOW) == {"old"}


def cache(app_id: str, size: int, days: int = 1) -> Cache:
    return Cache(app_id=app_id, size=size, used_at=NOW - days * DAY)


@pytest.mark.parametrize(
    ("caches", "emptied"),
    [
        ([cache("a", 100)], []),
        ([cache("a", 101)], ["a"]),
        ([cache("a", 1, days=30)], ["a"]),
        ([cache("a", 80, days=2), cache("b", 80, days=3), cache("c", 80, days=1)], []),
        ([cache("a", 90, days=2), cache("b", 90, days=3), cache("c", 90, days=1)], ["b"]),
    ],
    ids=["within", "over its limit", "forgotten", "all within", "all too large: the oldest"],
)
def test_caches_are_bounded_one_by_one_and_together(
    caches: list[Cache], emptied: list[str]
) -> None:
    rules = Rules(cache_limit=100, caches_limit=240)

    spent = plan.spent_caches(caches, rules=rules, now=NOW)

    assert [each.app_id for each in spent] == emptied


@pytest.mark.parametrize(
    ("missing", "emptied"), [(0, []), (50, ["b"]), (51, ["b", "c"]), (1000, ["b", "c", "a"])]
)
def test_the_largest_caches_make_room(missing: int, emptied: list[str]) -> None:
    caches = [cache("a", 10), cache("b", 50), cache("c", 20)]

    assert [each.app_id for each in plan.caches_for(caches, missing)] == emptied


def build(id: str, app_id: str = "shop", *, hours: int = 2, pending: bool = False) -> Build:
    at = NOW - hours * HOUR
    return Build(
        id=id,
        app_id=AppId(app_id),
        user="",
        status=BuildStatus.PENDING if pending else BuildStatus.FAILED,
        stack="deodar-12",
        created_at=at,
        updated_at=at,
    )


def left(*names: str, hours: int = 2) -> list[Leftover]:
    return [Leftover(name=name, written_at=NOW - hours * HOUR) for name in names]


def test_outputs_stay_for_each_apps_newest_builds_and_for_one_that_waits() -> None:
    builds = [
        build("new", hours=2),
        build("old", hours=3),
        build("older", hours=4),
        build("waits", hours=5, pending=True),
        build("other", "blog", hours=9),
    ]
    files = left("new", "old", "older", "waits", "other", "of a destroyed app")

    spent = plan.spent_outputs(files, builds, rules=Rules(outputs_kept=2), now=NOW)

    assert spent == ["older", "of a destroyed app"]


@pytest.mark.parametrize(
    ("hours", "gone"), [(2, ["ended", "unknown"]), (0, [])], ids=["old", "may be wished any moment"]
)
def test_folders_stay_for_builds_that_wait_or_may_come(hours: int, gone: list[str]) -> None:
    builds = [build("waits", pending=True), build("ended")]

    assert (
        plan.left_folders(left("waits", "ended", "unknown", hours=hours), builds, now=NOW) == gone
    )


def dyno(id: str, state: State = State.UP, condemned: str | None = None) -> Dyno:
    return Dyno(
        id=id,
        app_id=AppId("shop"),
        type="web",
        number=1,
        kind=Kind.FORMATION,
        size="Basic",
        command="serve",
        release_id="r1",
        release_version=1,
        slug_id="s1",
        state=state,
        state_since=NOW,
        created_at=NOW,
        condemned=condemned,
    )


def test_a_dyno_that_wrote_too_much_is_ended_once() -> None:
    dynos = [
        dyno("modest"),
        dyno("greedy"),
        dyno("told already", condemned="restart"),
        dyno("ends already", State.STOPPING),
        dyno("not measured"),
    ]
    written = {"modest": 100, "greedy": 101, "told already": 200, "ends already": 200}

    assert plan.greedy(dynos, written, Rules(dyno_disk=100)) == [dyno("greedy")]

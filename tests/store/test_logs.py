"""The logs of apps: nothing lost, nothing doubled, whatever happens between two bytes."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deodar.model import errors
from deodar.model.log import LINE_LIMIT, LogLine
from deodar.store import logs as room
from deodar.store.logs import Logs, Position

AT = datetime(2026, 1, 1, 12, 0, 0, 123456, UTC)
APP = "app-1"


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    opened = Logs(tmp_path)
    yield opened
    opened.close()


def line(text: str, *, source: str = "app", dyno: str = "web.1") -> LogLine:
    return LogLine(at=AT, source=source, dyno=dyno, text=text)


def output(*texts: str, start: int = 0) -> list[tuple[int, LogLine]]:
    """Lines of a dyno, each of which takes ten bytes of its output."""
    return [(start + 10 * number, line(text)) for number, text in enumerate(texts, 1)]


async def texts(logs: Logs, count: int = 10_000) -> list[str]:
    return [each.text for each in (await logs.last(APP, count))[0]]


async def take(follower: AsyncIterator[tuple[Position, list[LogLine]]], count: int) -> list[str]:
    """As many texts as asked for, in as many pieces as they come."""
    texts: list[str] = []
    while len(texts) < count:
        texts += [each.text for each in (await anext(follower))[1]]
    return texts


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / APP).iterdir())


def fill(logs: Logs) -> None:
    """Lines beyond one segment's size; the next write begins a new one."""
    logs.append(APP, [line("x" * 9_000)] * (room.SEGMENT // 9_000 + 1))


# what is kept


async def test_a_line_comes_back_as_it_was_written(logs: Logs) -> None:
    written = line("tabs\there, and ünïcode \N{SNOWMAN}", source="heroku", dyno="router")

    logs.append(APP, [written])

    assert (await logs.last(APP, 10))[0] == [written]


async def test_last_gives_the_newest_lines_oldest_first(logs: Logs) -> None:
    logs.append(APP, [line(str(number)) for number in range(10)])

    assert await texts(logs, 3) == ["7", "8", "9"]


async def test_last_counts_only_lines_that_match(logs: Logs) -> None:
    for number in range(5):
        logs.append(APP, [line(f"web {number}"), line(f"worker {number}", dyno="worker.1")])
        logs.append(APP, [line(f"up {number}", source="heroku")])

    by_type, _ = await logs.last(APP, 2, dyno="web", source="app")
    by_name, _ = await logs.last(APP, 1, dyno="worker.1")

    assert [each.text for each in by_type + by_name] == ["web 3", "web 4", "worker 4"]


async def test_last_reads_over_the_edges_of_blocks_and_segments(
    logs: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BLOCK", 100)
    monkeypatch.setattr(room, "SEGMENT", 500)
    wanted = [f"{number:03} {'x' * (number % 90)}" for number in range(17)]
    for text in wanted:
        logs.append(APP, [line(text)])

    assert len(segments(tmp_path)) == 2
    assert await texts(logs) == wanted


async def test_a_line_over_the_limit_is_split_between_characters(logs: Logs) -> None:
    text = "a" + "é" * LINE_LIMIT

    logs.append(APP, [line(text)])

    pieces = await texts(logs)
    assert [len(piece.encode()) for piece in pieces] == [9_999, 10_000, 2]
    assert "".join(pieces) == text


async def test_an_empty_line_is_a_line(logs: Logs) -> None:
    logs.append(APP, [line("")])

    assert await texts(logs) == [""]


# rotation


async def test_only_the_last_segments_are_kept(logs: Logs, tmp_path: Path) -> None:
    for _ in range(4):
        fill(logs)
    logs.append(APP, [line("last")])

    assert segments(tmp_path) == ["00000004.log", "00000005.log"]
    assert await texts(logs, 1) == ["last"]


async def test_places_outlive_the_segments_in_which_they_were_written(
    logs: Logs, tmp_path: Path
) -> None:
    logs.append_output(APP, "dyno", output("one", "two"))
    for _ in range(4):
        fill(logs)
    logs.close()

    assert Logs(tmp_path).place(APP, "dyno") == 20


async def test_a_new_segment_that_cannot_be_begun_leaves_the_old_one_in_use(
    logs: Logs, tmp_path: Path
) -> None:
    logs.append_output(APP, "dyno", output("one"))
    fill(logs)
    blocker = tmp_path / APP / "00000002.half"
    blocker.mkdir()
    with pytest.raises(errors.StoreFailed):
        logs.append_output(APP, "dyno", output("two", start=10))
    assert logs.place(APP, "dyno") == 10
    blocker.rmdir()

    logs.append_output(APP, "dyno", output("two", start=10))

    assert segments(tmp_path) == ["00000001.log", "00000002.log"]
    assert (await texts(logs, 1), logs.place(APP, "dyno")) == (["two"], 20)


# what a kill leaves


async def test_places_are_where_they_were_after_a_kill(logs: Logs, tmp_path: Path) -> None:
    logs.append_output(APP, "dyno", output("one", "two"))
    logs.append_output(APP, "other", output("three"))

    after = Logs(tmp_path)  # nothing was closed

    assert [after.place(APP, dyno) for dyno in ("dyno", "other", "new")] == [20, 10, 0]


async def test_a_write_that_was_cut_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    lines = output("one", "two", "three " * 3, "four")
    whole = Logs(tmp_path / "whole")
    whole.append_output(APP, "dyno", lines)
    data = (tmp_path / "whole" / APP / "00000001.log").read_bytes()

    for cut in range(len(data) + 1):
        folder = tmp_path / str(cut)
        (folder / APP).mkdir(parents=True)
        (folder / APP / "00000001.log").write_bytes(data[:cut])
        logs = Logs(folder)
        place = logs.place(APP, "dyno")
        logs.append_output(APP, "dyno", [each for each in lines if each[0] > place])

        assert await texts(logs) == [each.text for _, each in lines]
        logs.close()


async def test_a_line_of_several_records_tells_its_place_with_the_last(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.append_output(APP, "dyno", output("x" * (LINE_LIMIT + 1)))
    path = tmp_path / APP / "00000001.log"
    os.truncate(path, path.stat().st_size - 1)

    assert Logs(tmp_path).place(APP, "dyno") == 0


async def test_what_a_power_cut_made_unreadable_is_passed_over(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.append(APP, [line("before")])
    with (tmp_path / APP / "00000001.log").open("ab") as file:
        file.write(b"\0" * 300 + b"\n" + b"half\ta\trecord\n")
    after = Logs(tmp_path)
    after.append(APP, [line("after")])

    assert await texts(after) == ["before", "after"]


async def test_a_dyno_that_is_gone_has_no_place_any_more_not_even_after_a_kill(
    tmp_path: Path,
) -> None:
    logs = Logs(tmp_path)
    logs.append_output(APP, "dyno", output("one"))
    logs.append_output(APP, "other", output("two"))

    logs.forget_dyno(APP, "dyno")
    logs.forget_dyno(APP, "dyno")

    after = Logs(tmp_path)
    assert [each.place(APP, "dyno") for each in (logs, after)] == [0, 0]
    assert after.place(APP, "other") == 10
    assert await texts(after) == ["one", "two"]


async def test_a_full_disk_keeps_what_is_whole_and_the_rest_can_be_written_again(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = output("one", "two", "three")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) * 2 // 3 + 1])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(errors.StoreFailed):
            logs.append_output(APP, "dyno", lines)
    place = logs.place(APP, "dyno")
    logs.append_output(APP, "dyno", [each for each in lines if each[0] > place])

    assert place == 20
    assert await texts(logs) == ["one", "two", "three"]


# following


async def test_a_follower_gets_what_is_there_and_what_comes(logs: Logs) -> None:
    logs.append(APP, [line("old")])
    _, end = await logs.last(APP, 0)
    logs.append(APP, [line("new")])
    follower = logs.follow(APP, end)

    first = await take(follower, 1)
    coming = asyncio.ensure_future(take(follower, 1))
    await asyncio.sleep(0)
    logs.append(APP, [line("newer")])

    assert first + await coming == ["new", "newer"]


async def test_a_follower_goes_on_from_any_position_it_was_given(logs: Logs) -> None:
    logs.append(APP, [line("0")])
    follower = logs.follow(APP, Position(1, 0))
    positions = []
    for number in range(1, 5):
        positions.append((await anext(follower))[0])
        logs.append(APP, [line(str(number))])

    again = [(await take(logs.follow(APP, position), 1))[0] for position in positions]

    assert again == ["1", "2", "3", "4"]


async def test_a_follower_sees_only_what_matches(logs: Logs) -> None:
    logs.append(APP, [line("a"), line("b", dyno="worker.1"), line("c", source="heroku"), line("d")])

    follower = logs.follow(APP, Position(1, 0), source="app", dyno="web")

    assert await take(follower, 2) == ["a", "d"]


async def test_a_follower_reads_on_over_a_rotation(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SEGMENT", 500)
    _, start = await logs.last(APP, 0)
    follower = logs.follow(APP, start)
    seen = []

    for number in range(100):
        logs.append(APP, [line(f"{number} {'x' * random.Random(number).randrange(100)}")])
        seen += await take(follower, 1)

    assert [text.split()[0] for text in seen] == [str(number) for number in range(100)]


async def test_a_follower_that_is_too_slow_goes_on_with_the_oldest_line(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SEGMENT", 100)
    logs.append(APP, [line("0" * 100)])
    follower = logs.follow(APP, Position(1, 0))
    await take(follower, 1)
    for number in range(1, 6):
        logs.append(APP, [line(str(number) * 100)])

    assert [text[0] for text in await take(follower, 2)] == ["4", "5"]


@pytest.mark.parametrize("made_up", [Position(1, 5), Position(1, 10**9), Position(77, 0)])
async def test_a_position_that_never_was_does_no_harm(logs: Logs, made_up: Position) -> None:
    logs.append(APP, [line("one")])
    follower = logs.follow(APP, made_up)
    coming = asyncio.ensure_future(take(follower, 1))
    await asyncio.sleep(0)

    logs.append(APP, [line("two")])

    assert await coming == ["two"]


async def test_followers_end_with_the_log(logs: Logs, tmp_path: Path) -> None:
    async def everything() -> list[str]:
        return [each.text async for _, lines in logs.follow(APP, Position(1, 0)) for each in lines]

    logs.append(APP, [line("one")])
    reading = asyncio.ensure_future(everything())
    await asyncio.sleep(0)

    logs.delete(APP)

    assert await reading in (["one"], [])
    assert not (tmp_path / APP).exists()


async def test_a_log_that_is_gone_is_not_made_again_by_who_only_looks(
    logs: Logs, tmp_path: Path
) -> None:
    logs.append_output(APP, "dyno", output("one"))
    logs.delete(APP)

    logs.forget_dyno(APP, "dyno")
    assert logs.place(APP, "dyno") == 0
    assert [each async for each in logs.follow(APP, Position(1, 0))] == []
    assert not (tmp_path / APP).exists()


async def test_followers_end_when_the_logs_are_closed(logs: Logs) -> None:
    logs.append(APP, [line("one")])
    _, end = await logs.last(APP, 0)
    reading = asyncio.ensure_future(anext(logs.follow(APP, end), None))
    await asyncio.sleep(0)

    logs.close()

    assert await reading is None


async def test_apps_do_not_see_each_other(logs: Logs) -> None:
    logs.append(APP, [line("mine")])
    logs.append("app-2", [line("theirs")])

    assert await texts(logs) == ["mine"]


# positions


def test_a_position_is_read_as_it_is_written() -> None:
    assert Position.parse(str(Position(12, 345))) == Position(12, 345)


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:b", "1:-2", "١:٢", "1:2:3"])
def test_what_is_no_position_is_none(text: str) -> None:
    assert Position.parse(text) is None

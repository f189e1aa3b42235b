"""conmon's log while conmon begins it anew: what was not read stays, and offsets go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deodar.engines.local import output
from deodar.engines.local.watch import Watch

STAMP = "2026-11-24T22:55:11.465581460+00:00"
HEAD = len(f"{STAMP} stdout F \n")


class Conmon:
    """Writes a log as conmon does."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._file = log.open("a")

    def say(self, *texts: str) -> None:
        self._file.writelines(f"{STAMP} stdout F {text}\n" for text in texts)
        self._file.flush()

    def begin_anew(self) -> None:
        self._file.close()
        new = self.log.with_name("log.tmp")
        self._file = new.open("w")
        new.rename(self.log)

    def close(self) -> None:
        self._file.close()


@pytest.fixture
async def conmon(tmp_path: Path) -> AsyncIterator[Conmon]:
    made = Conmon(tmp_path / "log")
    yield made
    made.close()


def read(log: Path, offset: int = 0) -> list[tuple[str, int]]:
    return [(piece.data.decode(), piece.offset) for piece in output.read(log, offset)]


def names(log: Path) -> list[str]:
    return sorted(path.name for path in log.parent.iterdir())


def test_what_was_not_read_stays_when_the_log_begins_anew(conmon: Conmon) -> None:
    conmon.say("one")
    first = read(conmon.log)
    conmon.say("two")
    conmon.begin_anew()
    conmon.say("three")

    second = read(conmon.log, first[-1][1])
    third = read(conmon.log, second[-1][1])

    one, two, three = HEAD + 3, 2 * (HEAD + 3), 3 * HEAD + 11
    assert [first, second, third] == [[("one", one)], [("two", two)], [("three", three)]]
    assert read(conmon.log, three) == []


def test_offsets_go_on_however_often_it_does(conmon: Conmon) -> None:
    offset = 0
    texts = []
    for number in range(10):
        conmon.say(str(number), "x")
        [*_, (_, offset)] = pieces = read(conmon.log, offset)
        texts += [text for text, _ in pieces]
        conmon.begin_anew()

    assert (texts, offset) == ([t for n in range(10) for t in (str(n), "x")], 20 * (HEAD + 1))


def test_a_file_that_was_read_goes_when_its_output_is_discarded(conmon: Conmon) -> None:
    conmon.say("one")
    read(conmon.log)
    conmon.begin_anew()
    conmon.say("two")
    [(_, one)] = read(conmon.log)
    [(_, two)] = read(conmon.log, one)
    before = names(conmon.log)

    output.discard(conmon.log, two)

    assert (before, names(conmon.log)) == (["log", "log.0", f"log.{one}"], ["log", f"log.{one}"])
    assert read(conmon.log, two) == []


def test_while_nobody_reads_one_old_file_is_kept_and_no_more(conmon: Conmon) -> None:
    conmon.say("one")
    [(_, one)] = read(conmon.log)
    for number in range(5):
        conmon.say(f"lost {number}")
        conmon.begin_anew()
    conmon.say("last")

    texts = []
    offset = one
    while pieces := read(conmon.log, offset):
        texts += [text for text, _ in pieces]
        offset = pieces[-1][1]

    assert texts == ["lost 0", "last"]


def test_a_flood_is_begun_late_over_the_edge_of_files(conmon: Conmon) -> None:
    conmon.say("a" * 10, "b" * 10)
    read(conmon.log)
    conmon.begin_anew()
    conmon.say("c" * 10)
    line = HEAD + 10

    starts = [output.start(conmon.log, 0, at_most=n * line + 1) for n in (1, 2, 3)]

    assert starts == [2 * line, line, 0]


def test_no_log_is_no_error(tmp_path: Path) -> None:
    log = tmp_path / "log"

    output.discard(log, 10)

    assert (output.read(log, 0), output.start(log, 5, at_most=0)) == ([], 5)


async def test_a_log_that_begins_anew_is_still_watched(conmon: Conmon) -> None:
    watch = Watch()
    watch.open()
    watch.add("dyno", conmon.log)
    read(conmon.log)
    await watch.grown()

    async with asyncio.timeout(5):
        conmon.begin_anew()
        first = await watch.grown()
        conmon.say("new")
        second = await watch.grown()

    assert (set(first), set(second)) == ({"dyno"}, {"dyno"})
    watch.close()

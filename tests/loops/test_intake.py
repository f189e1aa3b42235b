"""What dynos print comes into the log, each line once, whatever dies meanwhile."""

import asyncio

import pytest

from deodar.engines.base import Output, Spec
from deodar.loops.logplane import intake as room
from deodar.loops.logplane.intake import Intake, Whole, join
from deodar.model.app import ConfigVars
from deodar.model.formation import size_of
from deodar.model.log import LINE_LIMIT, LogLine
from deodar.store import apps
from tests.loops.conftest import SHOP, START, World


def intake(world: World) -> Intake:
    return Intake(world.db, world.engine, world.logs)


async def run(
    world: World, dyno_id: str = "one", *, name: str = "web.1", build: bool = False
) -> None:
    await world.engine.create(
        Spec(
            id=dyno_id,
            app_id=SHOP.id,
            name=name,
            uid=20_000,
            argv=("serve",),
            env=ConfigVars(),
            stack="deodar-12",
            size=size_of("Basic"),
            build=build,
        )
    )
    await world.engine.start(dyno_id)


async def said(world: World) -> list[str]:
    lines, _ = await world.logs.last(SHOP.id, 1000)
    return [line.text for line in lines if line.source == "app"]


async def test_a_line_of_a_dyno_becomes_a_line_of_its_apps_log(world: World) -> None:
    await run(world, name="worker.2")
    world.engine.say("one", "ready", at=START)

    await intake(world).reconcile(SHOP.id)

    lines, _ = await world.logs.last(SHOP.id, 1)
    assert lines == [LogLine(at=START, source="app", dyno="worker.2", text="ready")]


async def test_nothing_is_read_twice(world: World) -> None:
    await run(world)
    world.engine.say("one", "a")
    await intake(world).reconcile(SHOP.id)
    world.engine.say("one", "b", stream="stderr")

    await intake(world).reconcile(SHOP.id)
    await intake(world).reconcile(SHOP.id)

    assert await said(world) == ["a", "b"]


async def test_a_kill_between_the_log_and_the_discarding_doubles_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(world)
    line = "a" * 9000
    for _ in range(8):
        world.engine.say("one", line)

    async def killed(container_id: str, offset: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.engine, "discard_output", killed)
        with pytest.raises(KeyboardInterrupt):
            await intake(world).reconcile(SHOP.id)
    world.engine.say("one", "b")
    await intake(world).reconcile(SHOP.id)

    assert await said(world) == [line] * 8 + ["b"]


async def test_what_is_in_the_log_takes_no_space_at_the_engine(world: World) -> None:
    await run(world)
    reading = intake(world)
    for _ in range(8):
        world.engine.say("one", "a" * 9000)
    await reading.reconcile(SHOP.id)
    discarded = len(world.machine.containers["one"].log)
    world.engine.say("one", "a few bytes more")
    await reading.reconcile(SHOP.id)

    # the disk gets it back a block at a time, not line by line
    assert (discarded, len(world.machine.containers["one"].log)) == (0, 1)


async def test_a_line_without_an_end_is_taken_when_its_dyno_has_ended(world: World) -> None:
    await run(world)
    world.machine.containers["one"].log.append(Output(START.timestamp(), "stdout", b"$ ", True, 51))

    await intake(world).reconcile(SHOP.id)
    before = await said(world)
    world.engine.exit("one", 0)
    await intake(world).reconcile(SHOP.id)

    assert (before, await said(world)) == ([], ["$ "])
    # which is what the manifold asks before it removes the container
    assert await world.engine.output("one", world.logs.place(SHOP.id, "one")) == []


async def test_a_builds_output_is_not_the_logs_matter(world: World) -> None:
    await run(world, build=True)
    world.engine.say("one", "compiling")

    await intake(world).reconcile(SHOP.id)

    assert await said(world) == []
    assert await intake(world).keys() == []


async def test_the_last_words_of_a_destroyed_app_make_no_log(world: World) -> None:
    await run(world)
    world.engine.say("one", "help")
    async with world.db.write() as tx:
        await apps.delete_app(tx, SHOP.id)

    await intake(world).reconcile(SHOP.id)

    assert await said(world) == []


async def test_a_dyno_that_prints_without_end_is_read_bit_by_bit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MUCH", 100)
    await run(world)
    reader = intake(world)
    world.engine.say("one", "x" * 100)

    busy = await reader.reconcile(SHOP.id)
    quiet = await reader.reconcile(SHOP.id)

    assert busy is not None
    assert busy > 0
    assert quiet is None


async def test_an_app_that_is_behind_is_not_rung_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MUCH", 100)
    await run(world)
    reader = intake(world)
    rung: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(reader.watch(rung.put_nowait))
    world.engine.say("one", "x" * 100)
    first = await rung.get()
    await reader.reconcile(SHOP.id)
    world.engine.say("one", "behind")
    for _ in range(10):
        await asyncio.sleep(0)
    unrung = rung.empty()
    await reader.reconcile(SHOP.id)
    world.engine.say("one", "up to date")

    async with asyncio.timeout(5):
        second = await rung.get()

    assert (first, unrung, second) == (SHOP.id, True, SHOP.id)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_more_than_can_be_logged_is_dropped_and_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BACKLOG", 500)
    await run(world)
    for number in range(100):
        world.engine.say("one", f"{number:051}", at=START)  # each takes 100 bytes

    await intake(world).reconcile(SHOP.id)

    lines, _ = await world.logs.last(SHOP.id, 6)
    assert [(line.source, line.text) for line in lines] == [
        (
            "heroku",
            "Error L12 (Local buffer overflow) -> 0.0 MB of output dropped: more is printed than can "
            "be logged",
        ),
        *[("app", f"{number:051}") for number in range(95, 100)],
    ]
    assert await world.engine.output("one", world.logs.place(SHOP.id, "one")) == []


async def test_an_app_is_rung_when_one_of_its_dynos_prints(world: World) -> None:
    await run(world)
    await run(world, "build", build=True)
    rung: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(intake(world).watch(rung.put_nowait))

    world.engine.say("build", "compiling")
    world.engine.say("one", "ready")

    async with asyncio.timeout(5):
        assert await rung.get() == SHOP.id
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


# whole lines


def piece(text: str, offset: int, *, partial: bool = False, stream: str = "stdout") -> Output:
    return Output(float(offset), stream, text.encode(), partial, offset)


def test_pieces_of_a_line_are_joined_and_keep_the_moment_of_the_first() -> None:
    pieces = [piece("a", 1, partial=True), piece("b", 2, partial=True), piece("c", 3)]

    assert join(pieces) == [Whole(1.0, "abc", 3)]


def test_a_line_that_is_not_whole_is_left_for_later() -> None:
    assert join([piece("a", 1), piece("b", 2, partial=True)]) == [Whole(1.0, "a", 1)]


def test_a_line_is_cut_where_the_other_stream_speaks() -> None:
    pieces = [piece("a", 1, partial=True), piece("E", 2, stream="stderr"), piece("b", 3)]

    assert join(pieces) == [Whole(1.0, "a", 1), Whole(2.0, "E", 2), Whole(3.0, "b", 3)]


def test_a_line_that_grows_over_the_limit_is_not_waited_for() -> None:
    long = "x" * LINE_LIMIT

    assert join([piece(long, 1, partial=True)]) == [Whole(1.0, long, 1)]


def test_a_character_that_is_cut_between_pieces_is_whole_again() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    pieces = [Output(1, "stdout", first, True, 1), Output(2, "stdout", second, False, 2)]

    assert join(pieces) == [Whole(1, "é", 2)]


def test_what_is_no_text_does_no_harm() -> None:
    assert join([Output(1, "stdout", b"\xff\r", False, 1)]) == [Whole(1, "\ufffd", 1)]

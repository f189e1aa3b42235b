"""Apps that nobody asks for sleep, and no request is lost by their waking: on real parts."""

import asyncio
import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.system.conftest import HEROKU, STACKS
from tests.system.harness import APPS, Answer, Platform, eventually

HOST = "sleeper.localhost"
AFTER = 1.8  #: seconds without a request


@pytest.fixture(scope="module")
def drowsy(platform: Platform) -> Iterator[Platform]:
    """A platform whose apps soon fall asleep, with one app; the tests' own platform is as it was."""
    folder = Path(tempfile.mkdtemp(prefix="di-", dir=platform.data.parent.parent))
    folder.chmod(0o711)
    made = Platform.at(folder, stacks=STACKS, heroku=HEROKU)
    made.settings |= {
        "DEODAR_IDLE_AFTER": str(AFTER / 60),
        "DEODAR_IDLE_LOOK": "0.3",
        "DEODAR_IDLE_QUIET_PATHS": "/health",
    }
    try:
        made.up()
        made.deploy("sleeper", APPS / "sleeper", folder / "repo")
        yield made
    finally:
        made.down()
        shutil.rmtree(folder)


@pytest.fixture
def asleep(drowsy: Platform) -> Platform:
    drowsy.up()
    eventually(lambda: drowsy.dynos("sleeper") == {"web.1": "idle"}, within=60)
    return drowsy


def life(platform: Platform) -> str:
    answer = platform.get(HOST, timeout=80)
    assert answer.status == 200
    return answer.body


def told(platform: Platform, words: str) -> int:
    return platform.logs("sleeper", lines=1500, dyno="web.1").count(words)


def many(platform: Platform, count: int) -> list[Answer]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: platform.get(HOST, timeout=80), range(count)))


def test_a_request_wakes_the_process_that_slept_and_the_cli_sees_it_idle(
    asleep: Platform,
) -> None:
    before = life(asleep)
    eventually(lambda: asleep.dynos("sleeper") == {"web.1": "idle"})
    listed = asleep.heroku("ps", "--app", "sleeper").stdout

    assert life(asleep) == before
    assert "web.1: idle" in listed
    log = [line.partition(": ")[2] for line in asleep.logs("sleeper", dyno="web.1").splitlines()]
    idling = [line for line in log if "dling" in line or "changed" in line]
    assert idling[-4:] == [
        "Idling",
        "State changed from up to down",
        "Unidling",
        "State changed from down to up",
    ]


def test_the_body_of_the_request_that_wakes_it_arrives_whole(asleep: Platform) -> None:
    body = bytes(range(256)) * 4096
    port = asleep.settings["DEODAR_HTTP_PORT"]
    answer = httpx.post(
        f"http://127.0.0.1:{port}/", content=body, headers={"Host": HOST}, timeout=80
    )

    assert (answer.status_code, answer.text) == (200, hashlib.sha256(body).hexdigest())


def test_a_health_check_does_not_wake_it_and_who_wakes_it_is_told_so_if_he_asks(
    asleep: Platform,
) -> None:
    port = asleep.settings["DEODAR_HTTP_PORT"]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": HOST}) as client:
        health = client.get("/health")
        states = asleep.dynos("sleeper")
        woke = client.get("/", headers={"Deodar-Wake": "ask"}, timeout=80).headers["Deodar-Wake"]
    milliseconds = re.fullmatch(r"frozen:(\d+)", woke)

    assert (health.status_code, health.text, states) == (200, "Asleep.\n", {"web.1": "idle"})
    assert milliseconds is not None
    eventually(lambda: f"wake=frozen wake_ms={milliseconds[1]}\n" in asleep.logs("sleeper"))


async def test_a_websocket_wakes_it_and_keeps_it_awake(asleep: Platform) -> None:
    port = int(asleep.settings["DEODAR_HTTP_PORT"])
    before = told(asleep, "Idling")
    async with connect(f"ws://{HOST}:{port}/", host="127.0.0.1", open_timeout=80) as socket:
        await socket.send("first")
        first = await socket.recv()
        # Time itself is what is tested here: it would be asleep by now.
        await asyncio.sleep(2 * AFTER)
        await socket.send("last")
        last = await socket.recv()
        idled = told(asleep, "Idling") - before

    assert (first, last, idled) == ("first", "last", 0)


def test_three_hundred_at_once_wake_it_once_and_none_is_lost(asleep: Platform) -> None:
    before = told(asleep, "Unidling")
    answers = Counter(answer.status for answer in many(asleep, 300))

    assert answers == {200: 300}
    assert told(asleep, "Unidling") == before + 1


def test_a_request_that_comes_while_the_control_plane_is_down_is_held_and_answered(
    asleep: Platform,
) -> None:
    asleep.kill()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(life, asleep)
        asleep.up()

        assert held.result()


def test_an_app_that_is_stopped_boots_and_where_it_cannot_all_are_told_why(
    asleep: Platform,
) -> None:
    asleep.api("PATCH", "/apps/sleeper/config-vars", {"DEODAR_IDLE_DEPTH": "stop"})
    lives = []
    for _ in range(2):
        lives.append(life(asleep))
        eventually(lambda: asleep.dynos("sleeper") == {"web.1": "idle"}, within=60)
    stacks = asleep.data / "stacks"
    stacks.rename(stacks.with_name("gone"))
    try:
        answers = Counter(answer.status for answer in many(asleep, 20))
    finally:
        stacks.with_name("gone").rename(stacks)
    log = eventually(lambda: text if (text := asleep.logs("sleeper")).count("H10") >= 20 else "")

    assert lives[0] != lives[1]
    assert answers == {503: 20}
    assert log.count('code=H10 desc="App crashed"') == 20
    assert "stack" in log
    assert "wake=cold" in log

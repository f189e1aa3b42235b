"""What must not happen when the control plane dies: a lost request, a lost log line, a half-made release."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.harness import APPS, SAMPLES, Load, Platform, Repo, eventually, load

HOST = "steady.localhost"


@pytest.fixture(scope="module")
def steady(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("steady")
    repo = platform.deploy("steady", APPS / "hello", folder, web=2, worker=1)
    platform.settle("steady", "web.1", "web.2", "worker.1")
    return repo


@pytest.fixture
def alive(platform: Platform) -> Iterator[None]:
    """However a test ends, the next finds the control plane up."""
    yield
    platform.up()


def test_no_request_is_lost_by_a_deploy(platform: Platform, steady: Repo) -> None:
    text = (steady.folder / "server.py").read_text()
    steady.write("server.py", text.replace('VERSION = "one"', 'VERSION = "two"'))
    steady.commit("Version two")
    with load(platform, HOST) as stream:
        pushed = steady.push()
        eventually(lambda: platform.get(HOST).body.startswith("two "))
        platform.settle("steady", "web.1", "web.2", "worker.1")
        _many_more(stream, 100)

    assert pushed.status == 0, pushed.all
    assert stream.lost == {}


def test_no_request_is_lost_by_scaling_up_and_down(platform: Platform, steady: Repo) -> None:
    with load(platform, HOST) as stream:
        platform.api("PATCH", "/apps/steady/formation/web", {"quantity": 5})
        platform.settle("steady", "web.1", "web.2", "web.3", "web.4", "web.5", "worker.1")
        platform.api("PATCH", "/apps/steady/formation/web", {"quantity": 2})
        platform.settle("steady", "web.1", "web.2", "worker.1")
        _many_more(stream, 100)

    assert stream.lost == {}


def test_no_request_is_lost_by_a_restart(platform: Platform, steady: Repo) -> None:
    before = platform.dyno_ids("steady")
    with load(platform, HOST) as stream:
        platform.api("DELETE", "/apps/steady/dynos")
        eventually(lambda: not set(before.values()) & set(platform.dyno_ids("steady").values()))
        platform.settle("steady", "web.1", "web.2", "worker.1")
        _many_more(stream, 100)

    assert stream.lost == {}


def test_no_request_is_lost_by_a_config_change(platform: Platform, steady: Repo) -> None:
    with load(platform, HOST) as stream:
        platform.api("PATCH", "/apps/steady/config-vars", {"GREETING": "bonjour"})
        eventually(lambda: " bonjour " in platform.get(HOST).body)
        platform.settle("steady", "web.1", "web.2", "worker.1")
        _many_more(stream, 100)

    assert stream.lost == {}


def test_a_request_that_runs_is_answered_before_its_dyno_ends(
    platform: Platform, steady: Repo
) -> None:
    with ThreadPoolExecutor() as pool:
        slow = [pool.submit(platform.get, HOST, "/slow?seconds=4") for _ in range(6)]
        platform.api("DELETE", "/apps/steady/dynos")

        assert [one.result().status for one in slow] == [200] * 6
    platform.settle("steady", "web.1", "web.2", "worker.1")


@pytest.mark.usefixtures("alive")
def test_killed_and_started_again_it_finds_everything_as_it_was(
    platform: Platform, steady: Repo
) -> None:
    dynos = platform.dyno_ids("steady")
    with load(platform, HOST) as stream:
        platform.kill()
        _many_more(stream, 200)
        platform.up()
        _many_more(stream, 100)

    assert stream.lost == {}
    assert platform.dyno_ids("steady") == dynos
    platform.settle("steady", "web.1", "web.2", "worker.1")


@pytest.mark.usefixtures("alive")
def test_no_log_line_is_lost_while_it_is_away(platform: Platform, steady: Repo) -> None:
    def counted() -> list[int]:
        log = platform.logs("steady", lines=1500, dyno="worker.1")
        return [int(number) for number in re.findall(r"worker\.1 counts (\d+)", log)]

    before = counted()[-1]
    platform.kill()
    # The worker's own output, as its supervisor keeps it, grows on: three seconds' worth.
    with load(platform, HOST) as stream:
        _many_more(stream, 300)
    platform.up()

    numbers = eventually(lambda: _reaching(before + 20, counted()))
    since = [number for number in numbers if number >= before]
    assert since == list(range(before, before + len(since)))


@pytest.mark.usefixtures("alive")
def test_killed_in_the_middle_of_a_build_it_fails_the_build_and_takes_the_next_push(
    platform: Platform, tmp_path: Path
) -> None:
    platform.create("halfway")
    repo = Repo.of(SAMPLES / "python-web-worker", tmp_path / "halfway", platform, app="halfway")
    push = repo.start_push()
    assert push.stdout is not None
    seen = []
    for line in push.stdout:
        seen.append(line)
        if "Python app detected" in line:
            break
    platform.kill()
    seen.append(push.communicate(timeout=60)[0])
    platform.up()

    assert push.returncode == 1, "".join(seen)
    builds = eventually(lambda: _no_longer_pending(platform.api("GET", "/apps/halfway/builds")))
    assert [build["status"] for build in builds] == ["failed"]
    assert max(one["version"] for one in platform.api("GET", "/apps/halfway/releases")) <= 2
    repo.commit("Again")
    again = repo.push()
    assert again.status == 0, again.all
    assert platform.get("halfway.localhost").status == 200
    platform.api("DELETE", "/apps/halfway")


def test_a_second_start_finds_the_first_and_leaves_it(platform: Platform) -> None:
    pid = platform.pid

    result = platform.deodar("up", "--detach")

    assert (result.status, platform.pid) == (0, pid), result.all


def test_two_control_planes_on_one_data_directory_are_refused(platform: Platform) -> None:
    result = platform.deodar("up")

    assert result.status == 1
    assert f"(pid {platform.pid})" in result.stderr


def _many_more(stream: Load, count: int) -> None:
    goal = stream.total + count
    eventually(lambda: stream.total >= goal)


def _reaching(goal: int, numbers: list[int]) -> list[int]:
    assert numbers[-1] >= goal, numbers[-1]
    return numbers


def _no_longer_pending(builds: list[dict[str, str]]) -> list[dict[str, str]]:
    assert "pending" not in {build["status"] for build in builds}
    return builds

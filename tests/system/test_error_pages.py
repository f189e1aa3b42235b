"""What a visitor sees, and the owner reads, when no dyno can answer."""

import re
from functools import partial
from pathlib import Path

import pytest

from tests.system.harness import APPS, Platform, eventually


def test_an_unknown_host_is_no_such_app(platform: Platform) -> None:
    answer = platform.get("nobody-has-this-name.localhost")

    assert answer.status == 404
    assert "There’s nothing here, yet." in answer.body


@pytest.fixture(scope="module")
def hello(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    platform.deploy("greeter", APPS / "hello", tmp_path_factory.mktemp("greeter"))
    platform.settle("greeter", "web.1")
    return "greeter.localhost"


def test_no_web_dynos_is_h14(platform: Platform, hello: str) -> None:
    platform.api("PATCH", "/apps/greeter/formation/web", {"quantity": 0})

    answer = eventually(lambda: unavailable(platform, hello))

    assert answer == 503
    eventually(
        lambda: logged(
            platform, "greeter", r'at=error code=H14 desc="No web processes running" method=GET'
        )
    )
    platform.api("PATCH", "/apps/greeter/formation/web", {"quantity": 1})
    eventually(lambda: platform.get(hello).status == 200)


def test_maintenance_is_h80_and_the_dynos_run_on(platform: Platform, hello: str) -> None:
    dynos = platform.dyno_ids("greeter")
    platform.api("PATCH", "/apps/greeter", {"maintenance": True})

    eventually(lambda: unavailable(platform, hello))

    eventually(
        lambda: logged(platform, "greeter", r'at=info code=H80 desc="Maintenance mode" method=GET')
    )
    assert platform.dyno_ids("greeter") == dynos
    platform.api("PATCH", "/apps/greeter", {"maintenance": False})
    eventually(lambda: platform.get(hello).status == 200)


def test_requests_carry_what_heroku_adds(platform: Platform, hello: str) -> None:
    headers = platform.get(hello, "/headers").body

    for pattern in (
        r"Host: greeter\.localhost",
        r"X-Forwarded-For: 127\.0\.0\.1",
        r"X-Forwarded-Proto: http",
        r"X-Forwarded-Port: \d+",
        r"X-Request-Id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        r"X-Request-Start: \d{13}",
        r"Via: 1\.1 heroku-router",
    ):
        assert re.search(pattern, headers, re.IGNORECASE), f"{pattern}\n{headers}"


def test_an_app_that_crashes_is_h10_and_says_why(platform: Platform, tmp_path: Path) -> None:
    platform.deploy("crasher", APPS / "crashing", tmp_path / "crasher")

    eventually(lambda: platform.dynos("crasher") == {"web.1": "crashed"})
    eventually(lambda: unavailable(platform, "crasher.localhost"))

    for pattern in (
        r"app\[web\.1\]: no database here",
        r"heroku\[web\.1\]: Process exited with status 3",
        r"heroku\[web\.1\]: State changed from starting to crashed",
        r'heroku\[router\]: at=error code=H10 desc="App crashed" method=GET path="/"',
    ):
        eventually(partial(logged, platform, "crasher", pattern))
    platform.api("DELETE", "/apps/crasher")


def test_an_app_that_never_listens_is_r10(platform: Platform, tmp_path: Path) -> None:
    """The platform under test lets a dyno boot for 10 seconds."""
    platform.deploy("deaf", APPS / "deaf", tmp_path / "deaf")

    eventually(
        lambda: logged(
            platform,
            "deaf",
            r"heroku\[web\.1\]: Error R10 \(Boot timeout\) -> Web process failed to bind to \$PORT "
            r"within 10 seconds of launch",
        )
    )
    eventually(lambda: unavailable(platform, "deaf.localhost"), within=60)
    platform.api("DELETE", "/apps/deaf")


def unavailable(platform: Platform, host: str) -> int:
    status = platform.get(host, timeout=90).status
    assert status == 503
    return status


def logged(platform: Platform, app: str, pattern: str) -> bool:
    log = platform.logs(app)
    assert re.search(pattern, log), f"{pattern}\n{log}"
    return True

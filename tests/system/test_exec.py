"""Into running dynos with the official CLI: commands, shells, files and ports; and one-offs beside them."""

import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.harness import APPS, Platform, eventually, free_ports

APP = "inside"


@pytest.fixture(scope="module", autouse=True)
def _inside(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    source = tmp_path_factory.mktemp("source") / "app"
    shutil.copytree(APPS / "hello", source)
    (source / ".profile.d").mkdir()
    (source / ".profile.d" / "set.sh").write_text("export FROM_PROFILE=sourced\n")
    (source / "large").write_bytes(bytes(range(256)) * 4096)
    platform.deploy(APP, source, tmp_path_factory.mktemp("inside"), web=2, worker=1)
    platform.settle(APP, "web.1", "web.2", "worker.1")
    old = set(platform.dyno_ids(APP).values())
    platform.api("PATCH", f"/apps/{APP}/config-vars", {"GREETING": "good day"})
    eventually(lambda: not old & set(platform.dyno_ids(APP).values()))
    platform.settle(APP, "web.1", "web.2", "worker.1")
    yield
    platform.api("DELETE", f"/apps/{APP}")


def test_a_command_runs_in_a_dyno_with_all_that_its_process_has(platform: Platform) -> None:
    dynos = platform.dyno_ids(APP)

    result = platform.heroku(
        *("ps:exec", "--app", APP, "--dyno", "web.2", "--"),
        'echo "$DYNO, $GREETING, $FROM_PROFILE, $PORT, $PWD, $(hostname), $(ls Procfile)"; id -u',
    )

    assert result.status == 0, result.all
    assert re.fullmatch(
        r"web\.2, good day, sourced, 5000, /app, web-2, Procfile\r?\n2\d{4}\r?\n", result.stdout
    )
    assert platform.dyno_ids(APP) == dynos


def test_a_shell_answers_in_a_terminal(platform: Platform, tmp_path: Path) -> None:
    seen = platform.heroku_in_terminal(
        "ps:exec", "--app", APP, typed="echo in-$DYNO; tty; exit\n", cwd=tmp_path
    )

    assert "Connecting to" in seen
    assert re.search(r"\rin-web\.1\s+/dev/pts/\d+\s", seen), seen


def test_a_shell_takes_what_is_piped_into_it(platform: Platform) -> None:
    result = platform.heroku("ps:exec", "--app", APP, stdin="echo piped-$DYNO; exit\n")

    assert result.status == 0, result.all
    assert "\npiped-web.1" in result.stdout


def test_the_systems_own_ssh_gets_in_as_well(platform: Platform) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("there is no ssh on this machine")

    result = platform.heroku("ps:exec", "--app", APP, "--ssh", "--", "printenv", "DYNO")

    assert (result.status, result.stdout) == (0, "web.1\n"), result.all


def test_the_dynos_that_can_be_entered_are_listed(platform: Platform) -> None:
    result = platform.heroku("ps:exec", "--app", APP, "--status")

    assert result.status == 0, result.all
    for dyno in ("web.1", "web.2", "worker.1"):
        assert re.search(rf"^ *{re.escape(dyno)} +up +running", result.stdout, re.MULTILINE)


def test_a_file_is_copied_byte_for_byte(platform: Platform, tmp_path: Path) -> None:
    result = platform.heroku("ps:copy", "large", "--app", APP, cwd=tmp_path)

    assert result.status == 0, result.all
    assert (tmp_path / "large").read_bytes() == bytes(range(256)) * 4096


def test_a_file_that_is_not_there_is_not_made_here(platform: Platform, tmp_path: Path) -> None:
    result = platform.heroku("ps:copy", "nothing", "--app", APP, cwd=tmp_path)

    assert result.status != 0
    assert list(tmp_path.iterdir()) == []


def test_a_dyno_that_does_not_run_is_told_so(platform: Platform) -> None:
    result = platform.heroku("ps:exec", "--app", APP, "--dyno", "web.9", "--", "true")

    assert result.status != 0
    assert "Could not connect to dyno!" in result.all


def test_a_port_is_forwarded_again_and_again(platform: Platform) -> None:
    [port] = free_ports(1)

    with cli_in_the_background(platform, "ps:forward", f"{port}:5000", "--app", APP, port=port):
        pages = [
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read() for _ in range(3)
        ]

    assert pages == [b"one good day web.1\n"] * 3


def test_a_socks_proxy_leads_into_the_dyno(platform: Platform) -> None:
    with cli_in_the_background(platform, "ps:socks", "--app", APP, "--dyno", "web.2", port=1080):
        result = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--max-time", "20"),
                *("--socks5-hostname", "127.0.0.1:1080", "http://localhost:5000/"),
            ],
            capture_output=True,
            text=True,
        )

    assert (result.stdout, result.stderr) == ("one good day web.2\n", "")


def test_a_shell_ends_with_the_control_plane_and_the_dyno_does_not(platform: Platform) -> None:
    dynos = platform.dyno_ids(APP)
    command = (str(platform.heroku_binary), "ps:exec", "--app", APP, "--", "echo begun; sleep 5000")
    shell = subprocess.Popen(
        command,
        env=platform.environment,
        cwd=platform.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert shell.stdout is not None
        assert shell.stdout.readline().strip() == "begun"
        platform.kill()
        platform.up()
    finally:
        shell.kill()
        shell.communicate()

    def gone() -> bool:
        listing = platform.heroku(
            "ps:exec", "--app", APP, "--", "pgrep -f '[s]leep 5000' || echo none"
        )
        return "none" in listing.stdout

    eventually(gone)
    assert platform.dyno_ids(APP) == dynos


# one-offs


def test_a_one_off_has_the_size_and_the_type_that_are_wished(platform: Platform) -> None:
    result = platform.heroku(
        *("run:detached", "--app", APP, "--size", "standard-2x", "--type", "chore"),
        *("--", "sleep 1000"),
    )

    assert result.status == 0, result.all
    [chore] = [one for one in _dynos(platform) if one["type"] == "chore"]
    assert (chore["size"], chore["command"]) == ("Standard-2X", "sleep 1000")
    assert re.fullmatch(r"chore\.\d{4}", chore["name"])
    stopped = platform.heroku("ps:stop", chore["name"], "--app", APP)
    assert stopped.status == 0, stopped.all
    eventually(lambda: chore["name"] not in platform.dynos(APP))


def test_a_process_types_name_runs_its_command(platform: Platform) -> None:
    result = platform.heroku("run:detached", "--app", APP, "--", "worker")

    assert result.status == 0, result.all
    [name] = re.findall(r"run\.\d{4}", result.all)[:1]
    [run] = [one for one in _dynos(platform) if one["name"] == name]
    assert run["command"] == "python3 worker.py"
    eventually(lambda: f"app[{name}]: {name} counts" in platform.logs(APP))
    platform.api("POST", f"/apps/{APP}/dynos/{name}/actions/stop")
    eventually(lambda: name not in platform.dynos(APP))


def _dynos(platform: Platform) -> list[dict[str, str]]:
    found: list[dict[str, str]] = platform.api("GET", f"/apps/{APP}/dynos")
    return found


@contextmanager
def cli_in_the_background(platform: Platform, *arguments: str, port: int) -> Iterator[None]:
    """The official CLI while it listens on a port of this machine."""
    process = subprocess.Popen(
        (str(platform.heroku_binary), *arguments),
        env=platform.environment,
        cwd=platform.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: _answers(port))
        yield
    finally:
        process.kill()  # at SIGTERM it goes on while it listens
        process.wait(timeout=10)


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True

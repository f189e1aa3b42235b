"""What `deodar` prints, to the letter, and with which status it ends."""

import json
import re
from pathlib import Path

import certifi
import click
import pytest

from deodar.cli import main, swap
from tests.cli.conftest import Run, daemon, serve

GB = 1000**3
CLIENT = {
    "HEROKU_HOST": "https://localhost:5443",
    "HEROKU_API_KEY": "it's secret",
    "NODE_EXTRA_CA_CERTS": "/var/lib/deodar/ca/ca.pem",
}


def test_env_can_be_evaluated_by_a_posix_shell(deodar: Run, data: Path) -> None:
    (data / "client.json").write_text(json.dumps(CLIENT))

    result = deodar("env")

    assert (result.status, result.stderr) == (0, "")
    assert result.stdout == (
        "export HEROKU_HOST='https://localhost:5443'\n"
        "export HEROKU_API_KEY='it'\"'\"'s secret'\n"
        "export NODE_EXTRA_CA_CERTS='/var/lib/deodar/ca/ca.pem'\n"
    )


def test_env_can_be_sourced_by_fish(deodar: Run, data: Path) -> None:
    (data / "client.json").write_text(json.dumps(CLIENT))

    assert deodar("env", "--shell", "fish").stdout == (
        "set -gx HEROKU_HOST 'https://localhost:5443'\n"
        "set -gx HEROKU_API_KEY 'it\\'s secret'\n"
        "set -gx NODE_EXTRA_CA_CERTS '/var/lib/deodar/ca/ca.pem'\n"
    )


def test_env_can_be_read_by_a_program(deodar: Run, data: Path) -> None:
    (data / "client.json").write_text(json.dumps(CLIENT))

    assert json.loads(deodar("env", "--shell", "json").stdout) == CLIENT


def test_without_a_platform_env_says_how_to_start_one(deodar: Run, data: Path) -> None:
    result = deodar("env")

    assert (result.status, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: There is no platform at {data}.\n       Start one: deodar up --detach\n"
    )


def test_a_wrong_setting_is_named(deodar: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEODAR_HTTP_PORT", "eighty")

    result = deodar("status")

    assert result.status == 1
    assert result.stderr == "Error: DEODAR_HTTP_PORT must be a number, not 'eighty'.\n"


def test_an_unknown_option_is_refused_with_the_usage_status(deodar: Run) -> None:
    result = deodar("status", "--verbose")

    assert (result.status, result.stdout) == (2, "")
    assert result.stderr == (
        "Usage: deodar status [OPTIONS]\n"
        "Try 'deodar status --help' for help.\n\n"
        "Error: No such option '--verbose'.\n"
    )


def test_status_of_a_platform_that_is_down_says_so_and_fails(deodar: Run, data: Path) -> None:
    (data / "daemon.pid").write_text("1")  # somebody else's by now

    result = deodar("status", "--json")

    assert result.status == 1
    facts = json.loads(result.stdout)
    space = facts.pop("space")
    assert facts.pop("swap").keys() == {"used", "total", "ram"}
    assert 0 < space["free"] < space["total"]
    assert facts == {
        "data": str(data),
        "control_plane": None,
        "api": False,
        "router": False,
        "apps": None,
        "dynos": None,
        "stacks": [],
        "disk": dict.fromkeys(
            ["stacks", "slugs", "caches", "repositories", "builds", "logs", "dynos", "database"], 0
        ),
    }


def test_status_counts_what_the_platform_holds(
    deodar: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[str, tuple[int, object]] = {
        "/account": (200, {}),
        "/apps": (200, [{"id": "a1"}, {"id": "a2"}]),
        "/apps/a1/dynos": (200, [{"state": "up"}, {"state": "crashed"}]),
        "/apps/a2/dynos": (200, [{"state": "up"}]),
    }
    (data / "stacks/deodar-12").mkdir(parents=True)
    (data / "stacks/deodar-12/stack.json").touch()
    (data / "logs").mkdir()
    (data / "logs/app.log").write_bytes(b"x" * 9000)
    with serve(answers) as port, daemon(data) as process:
        client = CLIENT | {
            "HEROKU_HOST": f"http://127.0.0.1:{port}",
            "NODE_EXTRA_CA_CERTS": certifi.where(),
        }
        (data / "client.json").write_text(json.dumps(client))
        monkeypatch.setenv(
            "DEODAR_HTTP_PORT", str(port)
        )  # the 404 of an unknown path is a router's

        result = deodar("status", "--json")

    facts = json.loads(result.stdout)
    disk = facts.pop("disk")
    for name in ("space", "swap"):
        facts.pop(name)
    assert (result.status, result.stderr) == (0, "")
    assert facts == {
        "data": str(data),
        "control_plane": process.pid,
        "api": True,
        "router": True,
        "apps": 2,
        "dynos": {"crashed": 1, "up": 2},
        "stacks": ["deodar-12"],
    }
    assert disk["logs"] >= 9000


@pytest.mark.parametrize(
    ("floor", "said"), [("1 MB", "; builds pause below 1 MB"), ("900 TB", ": too little")]
)
def test_status_says_how_much_is_free_and_whether_that_suffices(
    deodar: Run, monkeypatch: pytest.MonkeyPatch, floor: str, said: str
) -> None:
    monkeypatch.setenv("DEODAR_DISK_FLOOR", floor)

    [line] = [line for line in deodar("status").stdout.splitlines() if line.startswith("  free")]

    assert re.search(r"  free +\d.* of \d", line)
    assert said in line


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ((0, 0, 0), "none: what dynos sleep with stays in RAM (see DEODAR_ZRAM)"),
        ((0, 4 * GB, 0), "0 B of 4.0 GB used"),
        ((2 * GB, 4 * GB, GB), "2.0 GB of 4.0 GB used; it takes 1.0 GB of RAM"),
    ],
)
def test_status_says_what_swap_there_is_and_what_it_takes_of_ram(
    deodar: Run, monkeypatch: pytest.MonkeyPatch, usage: tuple[int, int, int], said: str
) -> None:
    used, total, ram = usage
    monkeypatch.setattr(swap, "usage", lambda: {"used": used, "total": total, "ram": ram})

    [line] = [line for line in deodar("status").stdout.splitlines() if line.startswith("Swap")]

    assert line.split(maxsplit=1)[1].rstrip() == said


def test_down_without_a_platform_has_nothing_to_do(deodar: Run, data: Path) -> None:
    data.rmdir()

    result = deodar("down")

    assert (result.status, result.stderr) == (0, f"There is no platform at {data}.\n")


def test_purge_keeps_its_hands_off_a_folder_that_holds_other_things(
    deodar: Run, data: Path
) -> None:
    for name in ("deodar.db", "deodar.db-wal", "daemon.lock", "client.json", "logs", "thesis.tex"):
        (data / name).touch()

    result = deodar("down", "--purge")

    assert (result.status, (data / "deodar.db").exists()) == (1, True)
    assert result.stderr == (
        f"Error: {data} holds what is not Deodar's: thesis.tex.\n"
        "       Nothing was stopped or deleted. Move it away, or use deodar down without --purge.\n"
    )


@pytest.mark.parametrize("name", sorted(main.commands.commands))
def test_every_command_shows_an_example(name: str) -> None:
    command = main.commands.commands[name]

    assert f"Example:\n  sudo deodar {name}" in _plain(command) or (
        f'Example:\n  eval "$(sudo deodar {name})"' in _plain(command)
    )


def _plain(command: click.Command) -> str:
    text = command.get_help(click.Context(command))
    return "\n".join(line.removeprefix("  ") for line in text.splitlines())

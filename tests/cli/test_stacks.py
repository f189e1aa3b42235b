"""`deodar stacks…`: what is listed, what is refused, and what the process that works on them says."""

import json
import os
from pathlib import Path

import certifi
import pytest

from deodar.adapters.stacks import shelf
from deodar.model.stack import Stack
from tests import images
from tests.cli.conftest import Run, serve


def lay(data: Path, stack: Stack) -> None:
    shelf.begin(data / "stacks", stack.name)
    shelf.put(data / "stacks", stack)


@pytest.fixture
def shelves(data: Path) -> Path:
    (data / "stacks").mkdir()
    lay(data, images.stack("deodar-12", suite="bookworm", size=1_300_000_000))
    lay(data, images.stack("own", image="/srv/own.tar", size=80_000_000))
    return data / "stacks"


def app(name: str, *, runs_on: str, builds_on: str) -> dict[str, object]:
    return {"name": name, "stack": {"name": runs_on}, "build_stack": {"name": builds_on}}


APPS = [
    app("old", runs_on="deodar-12", builds_on="deodar-12"),
    app("moving", runs_on="deodar-12", builds_on="own"),
]


def test_stacks_are_listed_with_the_apps_on_them(deodar: Run, data: Path, shelves: Path) -> None:
    with serve({"/account": (200, {}), "/apps": (200, APPS)}) as port:
        client = {
            "HEROKU_HOST": f"http://127.0.0.1:{port}",
            "HEROKU_API_KEY": "secret",
            "NODE_EXTRA_CA_CERTS": certifi.where(),
        }
        (data / "client.json").write_text(json.dumps(client))

        listed, refused = deodar("stacks"), deodar("stacks:remove", "own")

    assert (listed.status, listed.stderr) == (0, "")
    assert [line.rstrip() for line in listed.stdout.splitlines()] == [
        "Name       Digest        Base                    Size    Built                 Apps",
        "deodar-12  000000000000  Debian bookworm         1.3 GB  2026-11-25 12:00 UTC  moving, old",
        "own        000000000000  OCI image /srv/own.tar  80 MB   2026-11-25 12:00 UTC  moving",
    ]
    assert (refused.status, refused.stderr) == (
        1,
        "Error: Apps are on the stack own: moving.\n"
        "       Give them another (heroku stack:set, then deploy), or use --force.\n",
    )


def test_while_the_platform_is_down_apps_are_unknown_and_removing_takes_force(
    deodar: Run, shelves: Path
) -> None:
    listed, refused = deodar("stacks", "--json"), deodar("stacks:remove", "own")
    forced, again = deodar("stacks:remove", "own", "--force"), deodar("stacks", "--json")

    assert [(each["name"], each["apps"]) for each in json.loads(listed.stdout)] == [
        ("deodar-12", None),
        ("own", None),
    ]
    assert (refused.status, refused.stderr.splitlines()[0]) == (
        1,
        "Error: Whether apps are on the stack own is not known: the API does not answer.",
    )
    assert (forced.status, forced.stderr) == (
        0,
        "The stack own is removed; its files go when no dyno uses them.\n",
    )
    assert [each["name"] for each in json.loads(again.stdout)] == ["deodar-12"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("stacks:remove", "deodar-12", "--force"),
            "Error: deodar-12 is the stack of new apps; it cannot be removed.",
        ),
        (("stacks:remove", "none", "--force"), "Error: There is no stack none on this machine."),
        (
            ("stacks:update", "own"),
            "Error: The stack own was imported. Import it again: deodar stacks:import own PATH",
        ),
        (
            ("stacks:import", "own", "{data}/none"),
            "Error: There is no file or folder {data}/none.",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    deodar: Run, data: Path, shelves: Path, arguments: tuple[str, ...], said: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("working on stacks needs root")

    result = deodar(*(word.format(data=data) for word in arguments))

    assert result.status == 1
    assert result.stderr.splitlines()[-1] == said.format(data=data)


def test_an_import_tells_how_far_it_is_and_what_came_of_it(
    deodar: Run, data: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("importing a stack needs root")
    system = images.layer(
        *(images.file(name) for name in ("bin/bash", "usr/bin/tini", "etc/passwd"))
    )
    path = images.layout(tmp_path / "image", system)

    first = deodar("stacks:import", "own", str(path))
    second = deodar("stacks:import", "own", str(path))

    stack = shelf.present(data / "stacks", "own")
    assert stack is not None
    digest = stack.digest.removeprefix("SHA256:")[:12]
    assert (first.status, first.stdout) == (0, "")
    assert first.stderr.splitlines() == [
        "0% own: Reading the image",
        "10% own: Laying layer 1 of 1, run image",
        "100% own: Finishing",
        "100% own: Stack own is ready",
        f"The stack own is now {digest}.",
        "Builds and new dynos use it; dynos that run do from their next restart on.",
    ]
    assert second.stderr.splitlines()[-1] == f"The stack own is up to date: still {digest}."

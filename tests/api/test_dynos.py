from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from deodar.model.dyno import Kind, State
from deodar.store import dynos

Given = Any


async def test_dynos_are_as_herokus_schema_says(world: Given, conforms: Given) -> None:
    app = await world.create()
    _, release = await world.deploy()
    dyno = await world.start(app["id"], 1)

    [shown] = (await world.get("/apps/example-app/dynos")).json()

    conforms("dyno", shown)
    assert shown == {
        "id": dyno.id,
        "name": "web.1",
        "type": "web",
        "command": "gunicorn app:app",
        "size": "Basic",
        "state": "up",
        "app": {"id": app["id"], "name": "example-app"},
        "release": {"id": release.id, "version": 3},
        "attach_url": None,
        "exit_status": None,
        "reason": None,
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z",
    }


async def test_a_list_of_dynos_says_why_they_died(world: Given) -> None:
    app = await world.create()
    await world.deploy()
    crashed = await world.start(app["id"], 1)
    again = await world.start(app["id"], 2)
    async with world.db.write() as tx:
        await dynos.update_dyno(tx, replace(crashed, state=State.CRASHED, exit_status=137))
        await dynos.update_dyno(tx, replace(again, fate="Command not found: gunicorm"))

    answer = await world.get("/apps/example-app/dynos")

    assert answer.headers["Warning-Message"] == (
        "web.1 crashed: Process exited with status 137 (SIGKILL); "
        "web.2 was restarted after a crash: Command not found: gunicorm"
    )
    assert [each["reason"] for each in answer.json()] == [
        "Process exited with status 137 (SIGKILL)",
        "Command not found: gunicorm",
    ]


async def test_an_attached_one_off_is_wished_and_its_url_told_once(
    world: Given, conforms: Given
) -> None:
    app = await world.create()
    await world.deploy()
    world.rung.clear()

    answer = await world.send(
        "POST",
        "/apps/example-app/dynos",
        {
            "attach": True,
            "command": "bash",
            "env": {"TERM": "xterm", "COLUMNS": 80, "LINES": 24},
            "size": "standard-2x",
            "time_to_live": 60,
        },
    )

    assert answer.status_code == 201
    conforms("dyno", answer.json())
    [dyno] = await world.dynos(app["id"])
    assert (dyno.kind, dyno.state, dyno.attached, dyno.tty) == (
        Kind.ONE_OFF,
        State.PROVISIONING,
        True,
        True,
    )
    assert (dyno.type, dyno.command, dyno.size, dyno.time_to_live, dict(dyno.env)) == (
        "run",
        "bash",
        "Standard-2X",
        60,
        {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    assert 1000 <= dyno.number <= 9999
    base, token = answer.json()["attach_url"].rsplit("/", 1)
    assert base == "rendezvous://localhost:5444"
    signer, now = world.context.signers.rendezvous, world.context.clock()
    assert signer.open(token, now=now) == dyno.id
    assert signer.open(token, now=now + timedelta(minutes=11)) is None
    assert world.rung == [app["id"]]
    assert (await world.log(app["id"]))[-1] == (
        "app[api]: Starting process with command `bash` by user ada@example.com"
    )
    assert (await world.get(f"/apps/example-app/dynos/{dyno.name}")).json()["attach_url"] is None


@pytest.mark.parametrize(
    ("asked", "attached", "tty"),
    [
        ({"attach": False}, False, False),
        ({}, False, False),
        ({"attach": True, "force_no_tty": True}, True, False),
        ({"attach": True, "force_no_tty": False}, True, True),
    ],
)
async def test_only_an_attached_dyno_has_a_terminal_unless_it_is_not_wanted(
    world: Given, asked: dict[str, Any], attached: bool, tty: bool
) -> None:
    app = await world.create()
    await world.deploy()

    answer = await world.send("POST", "/apps/example-app/dynos", {"command": "env"} | asked)

    [dyno] = await world.dynos(app["id"])
    assert (dyno.attached, dyno.tty) == (attached, tty)
    assert (answer.json()["attach_url"] is not None) == attached


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("worker", "python worker.py"),
        ("worker now", "worker now"),
        (
            'worker ; echo "\uffff heroku-command-exit-status: $?"',
            'python worker.py ; echo "\uffff heroku-command-exit-status: $?"',
        ),
    ],
)
async def test_a_process_types_name_alone_means_its_command(
    world: Given, command: str, runs: str
) -> None:
    await world.create()
    await world.deploy()

    answer = await world.send("POST", "/apps/example-app/dynos", {"command": command})

    assert answer.json()["command"] == runs


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Invalid request: Object missing required field `command`."),
        ({"command": " "}, "Command can't be blank."),
        ({"command": "x" * 70_000}, "Command is too long (maximum is 65536 bytes)."),
        ({"command": "a\0b"}, "A command or its env contains a NUL byte."),
        ({"command": "a", "env": {"A": "\0"}}, "A command or its env contains a NUL byte."),
        ({"command": "a", "env": {"A B": "1"}}, "Env key 'A B' is not valid."),
        ({"command": "a", "type": "a b"}, "Type 'a b' is not a valid process type."),
        ({"command": "a", "time_to_live": 0}, "Time to live must be from 1 to 86400 seconds."),
        (
            {"command": "a", "time_to_live": 10**30},
            "Time to live must be from 1 to 86400 seconds.",
        ),
        ({"command": "a", "attach": "yes"}, "Invalid attach: Expected `bool | null`, got `str`."),
    ],
)
async def test_a_one_off_that_cannot_be_is_refused(
    world: Given, body: dict[str, Any], message: str
) -> None:
    await world.create()
    await world.deploy()

    answer = await world.send("POST", "/apps/example-app/dynos", body)

    assert (answer.status_code, answer.json()) == (
        422,
        {"id": "invalid_params", "message": message},
    )


async def test_an_app_without_code_runs_nothing(world: Given) -> None:
    await world.create()

    answer = await world.send("POST", "/apps/example-app/dynos", {"command": "bash"})

    assert (answer.status_code, answer.json()) == (
        422,
        {
            "id": "invalid_params",
            "message": "Cannot run a dyno: this app has no code yet. "
            "Deploy it first with `git push heroku main`.",
        },
    )


async def test_while_a_dyno_is_replaced_only_the_new_one_is_shown(world: Given) -> None:
    app = await world.create()
    await world.deploy()
    later = world.context.clock() + timedelta(seconds=5)
    await world.start(app["id"], 1, state=State.STOPPING)
    new = await world.start(app["id"], 1, state=State.STARTING, created_at=later)
    await world.start(app["id"], 2, state=State.DOWN)

    answer = await world.get("/apps/example-app/dynos")

    assert [(each["id"], each["state"]) for each in answer.json()] == [(new.id, "starting")]


async def test_restarting_all_leaves_one_offs_alone(world: Given) -> None:
    app = await world.create()
    await world.deploy()
    await world.start(app["id"], 1)
    await world.start(app["id"], 1, type="worker")
    await world.start(app["id"], 4242, type="run", kind=Kind.ONE_OFF)
    world.rung.clear()

    answer = await world.client.delete("/apps/example-app/dynos")

    assert (answer.status_code, answer.json()) == (202, {})
    assert {each.name: each.condemned for each in await world.dynos(app["id"])} == {
        "run.4242": None,
        "web.1": "restart",
        "worker.1": "restart",
    }
    assert world.rung == [app["id"]]


@pytest.mark.parametrize(
    ("method", "path", "condemned"),
    [
        ("DELETE", "dynos/web.1", {"web.1": "restart"}),
        ("POST", "dynos/web.2/actions/stop", {"web.2": "stop"}),
        ("POST", "dynos/run.4242/actions/stop", {"run.4242": "stop"}),
        ("DELETE", "formations/web", {"web.1": "restart", "web.2": "restart"}),
        ("POST", "formations/run/actions/stop", {"run.4242": "stop"}),
        ("DELETE", "formations/worker", {}),
    ],
)
async def test_a_dyno_or_a_type_is_restarted_or_stopped(
    world: Given, method: str, path: str, condemned: dict[str, str]
) -> None:
    app = await world.create()
    await world.deploy()
    await world.start(app["id"], 1)
    await world.start(app["id"], 2)
    await world.start(app["id"], 4242, type="run", kind=Kind.ONE_OFF)

    answer = await world.client.request(method, f"/apps/example-app/{path}")

    assert (answer.status_code, answer.json()) == (202, {})
    assert {
        each.name: each.condemned for each in await world.dynos(app["id"]) if each.condemned
    } == condemned


@pytest.mark.parametrize(
    ("method", "path", "resource", "message"),
    [
        ("GET", "dynos/web.9", "dyno", "Couldn't find that dyno (web.9)."),
        ("DELETE", "dynos/web.9", "dyno", "Couldn't find that dyno (web.9)."),
        ("POST", "dynos/web.9/actions/stop", "dyno", "Couldn't find that dyno (web.9)."),
        (
            "DELETE",
            "formations/foo",
            "process_type",
            "Couldn't find that process type (foo).",
        ),
        (
            "POST",
            "formations/foo/actions/stop",
            "process_type",
            "Couldn't find that process type (foo).",
        ),
    ],
)
async def test_what_does_not_run_cannot_be_ended(
    world: Given, method: str, path: str, resource: str, message: str
) -> None:
    await world.create()
    await world.deploy()

    answer = await world.client.request(method, f"/apps/example-app/{path}")

    assert (answer.status_code, answer.json()) == (
        404,
        {"id": "not_found", "message": message, "resource": resource},
    )

import base64
from datetime import timedelta
from typing import Any

import httpx
import pytest

from deodar.api import exec as manager
from deodar.api.app import create_app
from deodar.model import grant
from deodar.model.dyno import State
from deodar.model.grant import Grant
from tests.api.conftest import TOKEN

Given = Any

KEY = b"\0\0\0\7ssh-rsa" + b"\0\0\0\1\3" + b"\0\0\0\1\5"
LINE = f"ssh-rsa {base64.b64encode(KEY).decode()}"
PUBLIC = "ssh-rsa AAAA"


class Cli:
    """Asks as the official CLI does: the app is HTTP's user name."""

    def __init__(self, world: Given) -> None:
        app = create_app(
            world.context,
            extra_routes=manager.routes(world.context, manager.Manager(public_key=PUBLIC)),
        )
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        )

    async def ask(
        self, method: str, path: str, body: Any = None, *, app: str = "example-app"
    ) -> httpx.Response:
        return await self._client.request(method, path, json=body, auth=(app, TOKEN))


@pytest.fixture
def cli(world: Given) -> Cli:
    return Cli(world)


async def test_a_running_dyno_can_be_entered_with_the_key_that_was_shown(
    world: Given, cli: Cli
) -> None:
    app = await world.create()
    await world.deploy()
    dyno = await world.start(app["id"], 1, address="172.30.0.2")

    answer = await cli.ask("PUT", "/api/v2/web.1", {"client_key": f"{LINE} "})

    entrance = answer.json()
    user = entrance.pop("client_user")
    assert (answer.status_code, entrance) == (
        200,
        {"tunnel_host": "127.0.0.80", "proxy_public_key": PUBLIC, "dyno_ip": "172.30.0.2"},
    )
    signer, now = world.context.signers.exec, world.context.clock()
    granted = signer.open(user, now=now + timedelta(hours=23))
    assert Grant.parse(granted) == Grant(dyno.id, grant.fingerprint(KEY))
    assert signer.open(user, now=now + timedelta(hours=25)) is None


async def test_dynos_that_run_are_listed(world: Given, cli: Cli) -> None:
    app = await world.create()
    await world.deploy()
    await world.start(app["id"], 1, address="172.30.0.2")
    await world.start(app["id"], 2, state=State.CRASHED)

    answer = await cli.ask("GET", "/api/v2")

    assert answer.json() == [{"dyno_name": "web.1"}]


async def test_what_does_not_run_cannot_be_entered(world: Given, cli: Cli) -> None:
    app = await world.create()
    await world.deploy()
    await world.start(app["id"], 1, state=State.CRASHED)

    answers = [
        await cli.ask("PUT", path, {"client_key": LINE}, app=name)
        for name, path in (
            ("example-app", "/api/v2/web.1"),
            ("example-app", "/api/v2/web.2"),
            ("another-app", "/api/v2/web.1"),
        )
    ]

    assert [(answer.status_code, answer.json()["message"]) for answer in answers] == [
        (409, "web.1 does not run. Try again once it is up."),
        (404, "Couldn't find that dyno (web.2)."),
        (404, "Couldn't find that app."),
    ]


async def test_nobody_enters_without_a_token(world: Given) -> None:
    await world.create()
    cli = Cli(world)

    answer = await cli._client.put("/api/v2/web.1", json={"client_key": LINE})

    assert answer.status_code == 401


async def test_the_feature_is_on_and_stays_on(world: Given, conforms: Given) -> None:
    await world.create()
    path = "/apps/example-app/features/runtime-heroku-exec"

    shown = (await world.get(path)).json()
    answers = [await world.send("PATCH", path, {"enabled": wish}) for wish in (True, False)]

    conforms("app-feature", shown)
    assert (shown["name"], shown["enabled"]) == ("runtime-heroku-exec", True)
    assert [answer.status_code for answer in answers] == [200, 422]

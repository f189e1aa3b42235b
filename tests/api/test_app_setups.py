import functools
import io
import json
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from deodar.model.setup import Setup, State
from deodar.store import setups

Given = Any


@functools.cache  # an archive tells when it was made
def a_source() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        info = tarfile.TarInfo("app.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    return file.getvalue()


async def upload(world: Given) -> str:
    urls = (await world.client.post("/sources")).json()["source_blob"]
    await world.client.put(urls["put_url"], content=a_source(), headers={"Authorization": ""})
    return str(urls["get_url"])


async def stored(world: Given, setup_id: str) -> Setup:
    async with world.db.read() as tx:
        found = await setups.get(tx, setup_id)
    assert found is not None
    return found


async def test_a_setup_is_begun_with_an_empty_app(world: Given, conforms: Given) -> None:
    world.rung.clear()

    answer = await world.send(
        "POST",
        "/app-setups",
        {
            "source_blob": {"url": await upload(world), "version": "v1"},
            "app": {"name": "garden", "region": "us", "personal": True},
            "overrides": {"env": {"A": "1"}, "buildpacks": [{"url": "heroku/go"}]},
        },
    )

    assert answer.status_code == 202
    shown = answer.json()
    conforms("app-setup", shown)
    assert (shown["status"], shown["app"]["name"], shown["build"]) == ("pending", "garden", None)
    setup = await stored(world, shown["id"])
    assert (setup.env, setup.buildpacks, setup.source["version"]) == (
        {"A": "1"},
        ("heroku/go",),
        "v1",
    )
    source = world.context.settings.paths.setups / setup.id / "upload"
    assert source.read_bytes() == a_source()
    assert world.rung == [shown["app"]["id"]]
    assert (await world.get("/apps/garden")).json()["id"] == shown["app"]["id"]


async def test_a_source_elsewhere_is_left_for_the_loop_to_fetch(world: Given) -> None:
    url = "https://example.com/a.tgz?token=secret"

    answer = await world.send("POST", "/app-setups", {"source_blob": {"url": url}})

    assert answer.status_code == 202
    setup = await stored(world, answer.json()["id"])
    assert setup.source == {"url": url}
    assert not (world.context.settings.paths.setups / setup.id).exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source_blob": {"url": "ftp://x/y"}}, "Invalid source_blob.url: give an http or https"),
        ({"app": {"name": "X"}}, "Name is too short (minimum is 3 characters)"),
        ({"app": {"stack": "heroku-1"}}, "Stack 'heroku-1' is not available."),
        ({"overrides": {"env": {"PORT": "1"}}}, "Config var PORT is set by the platform"),
        ({"overrides": {"env": {"A": 1}}}, "Invalid overrides.env[...]: Expected `str`, got `int`."),
    ],
)  # fmt: skip
async def test_what_cannot_be_set_up_is_refused_and_nothing_is_left(
    world: Given, changed: dict[str, Any], message: str
) -> None:
    body = {"source_blob": {"url": await upload(world)}} | changed

    answer = await world.send("POST", "/app-setups", body)

    assert (answer.status_code, answer.json()["message"][: len(message)]) == (422, message)
    assert (await world.get("/apps")).json() == []
    assert list(world.context.settings.paths.setups.glob("*")) == []


async def test_how_a_setup_ended_is_shown(world: Given, conforms: Given) -> None:
    body = {"source_blob": {"url": "https://example.com/a.tgz"}, "app": {"name": "garden"}}
    begun = (await world.send("POST", "/app-setups", body)).json()
    build = await world.wish_build("garden")
    async with world.db.write() as tx:
        setup = await setups.get(tx, begun["id"])
        assert setup is not None
        ended = replace(
            setup,
            state=State.SUCCEEDED,
            build_id=build.id,
            manifest=json.dumps({"success_url": "/welcome"}),
            notes=("addons[0]: passed over",),
            output="seeding\n",
            exit_code=0,
        )
        await setups.update_setup(tx, ended)

    shown = (await world.get(f"/app-setups/{begun['id']}")).json()

    conforms("app-setup", shown)
    assert (shown["status"], shown["postdeploy"], shown["manifest_errors"]) == (
        "succeeded",
        {"output": "seeding\n", "exit_code": 0},
        ["addons[0]: passed over"],
    )
    assert shown["resolved_success_url"] == "https://garden.localhost:8443/welcome"
    assert (shown["build"]["id"], shown["build"]["status"]) == (build.id, "pending")


async def test_a_failed_setup_is_told_of_when_its_app_is_gone(
    world: Given, conforms: Given
) -> None:
    body = {"source_blob": {"url": "https://example.com/a.tgz"}, "app": {"name": "garden"}}
    begun = (await world.send("POST", "/app-setups", body)).json()
    async with world.db.write() as tx:
        setup = await setups.get(tx, begun["id"])
        assert setup is not None
        await setups.update_setup(
            tx, replace(setup, state=State.FAILED, failure="app.json not found")
        )
    await world.send("DELETE", "/apps/garden")

    shown = (await world.get(f"/app-setups/{begun['id']}")).json()

    conforms("app-setup", shown)
    assert (shown["app"], shown["failure_message"]) == (begun["app"], "app.json not found")


async def test_an_unknown_setup_is_not_found(world: Given) -> None:
    answer = await world.get("/app-setups/none")

    assert (answer.status_code, answer.json()["message"]) == (
        404,
        "Couldn't find that app setup.",
    )

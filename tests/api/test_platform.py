import base64
from importlib import metadata
from typing import Any

import pytest

from deodar.adapters.stacks import shelf
from tests import images

Given = Any


@pytest.mark.parametrize(
    ("path", "noun"),
    [
        ("/account", "account"),
        ("/users/~", "account"),
        ("/account/rate-limits", "rate-limit"),
        ("/regions/us", "region"),
        ("/stacks/deodar-12", "stack"),
        ("/dyno-sizes/basic", "dyno-size"),
    ],
)
async def test_what_the_platform_offers_is_as_herokus_schema_says(
    world: Given, conforms: Given, path: str, noun: str
) -> None:
    answer = await world.get(path)

    assert answer.status_code == 200
    conforms(noun, answer.json())


@pytest.mark.parametrize(
    ("path", "noun"),
    [
        ("/regions", "region"),
        ("/stacks", "stack"),
        ("/dyno-sizes", "dyno-size"),
        ("/oauth/authorizations", "oauth-authorization"),
        ("/apps/example-app/features", "app-feature"),
    ],
)
async def test_lists_hold_what_herokus_schema_says(
    world: Given, conforms: Given, path: str, noun: str
) -> None:
    await world.create()

    answer = await world.get(path)

    assert answer.status_code == 200
    assert answer.json()
    for each in answer.json():
        conforms(noun, each)


@pytest.mark.parametrize(
    "path",
    [
        "/addons",
        "/addon-attachments",
        "/account/features",
        "/account/keys",
        "/teams",
        "/pipelines",
        "/apps/example-app/addons",
        "/apps/example-app/addon-attachments",
        "/apps/example-app/sni-endpoints",
        "/apps/example-app/log-drains",
        "/apps/example-app/webhooks",
    ],
)
async def test_what_nobody_has_here_is_an_empty_list(world: Given, path: str) -> None:
    await world.create()

    answer = await world.get(path)

    assert (answer.status_code, answer.json()) == (200, [])


@pytest.mark.parametrize(
    ("method", "path", "resource"),
    [
        ("GET", "/regions/eu", "region"),
        ("GET", "/stacks/heroku-18", "stack"),
        ("GET", "/dyno-sizes/huge", "dyno_size"),
        ("GET", "/apps/example-app/features/none", "feature"),
        ("GET", "/account/features/none", "feature"),
        ("GET", "/apps/example-app/pipeline-couplings", "pipeline_coupling"),
        ("GET", "/addons/none", "add_on"),
        ("POST", "/actions/addons/resolve", "add_on"),
        ("POST", "/actions/addon-attachments/resolve", "attachment"),
        ("DELETE", "/oauth/sessions/~", "session"),
        ("GET", "/oauth/authorizations/~", "authorization"),
        ("GET", "/buildpacks/heroku/none", "buildpack"),
    ],
)
async def test_what_is_not_there_is_told_by_its_noun(
    world: Given, method: str, path: str, resource: str
) -> None:
    await world.create()

    answer = await world.client.request(method, path)

    assert (answer.status_code, answer.json()["resource"]) == (404, resource)


async def test_preboot_is_on_until_it_is_switched_off(world: Given) -> None:
    await world.create()

    before = (await world.get("/apps/example-app/features/preboot")).json()["enabled"]
    off = await world.send("PATCH", "/apps/example-app/features/preboot", {"enabled": False})
    after = (await world.get("/apps/example-app/features/preboot")).json()["enabled"]

    assert (before, off.status_code, off.json()["enabled"], after) == (True, 200, False, False)


async def test_runtime_metrics_are_off_until_they_are_switched_on(world: Given) -> None:
    await world.create()
    path = "/apps/example-app/features/log-runtime-metrics"

    before = (await world.get(path)).json()["enabled"]
    on = await world.send("PATCH", path, {"enabled": True})
    after = (await world.get(path)).json()["enabled"]
    off = await world.send("PATCH", path, {"enabled": False})

    assert (before, on.status_code, on.json()["enabled"], after) == (False, 200, True, True)
    assert off.json()["enabled"] is False


async def test_session_affinity_is_off_until_it_is_switched_on(world: Given) -> None:
    await world.create()
    path = "/apps/example-app/features/http-session-affinity"

    before = (await world.get(path)).json()["enabled"]
    on = await world.send("PATCH", path, {"enabled": True})
    after = (await world.get(path)).json()["enabled"]

    assert (before, on.status_code, on.json()["enabled"], after) == (False, 200, True, True)


async def test_an_authorization_is_the_token_one_came_with(world: Given, conforms: Given) -> None:
    answer = await world.send("POST", "/oauth/authorizations", {"description": "mine"})

    conforms("oauth-authorization", answer.json())
    assert (answer.status_code, answer.json()["description"]) == (201, "mine")
    assert answer.json()["access_token"]["token"] == "11111111-2222-4333-8444-555555555555"


async def test_the_registry_knows_the_shipped_buildpacks_and_asks_nobody_who_they_are(
    world: Given,
) -> None:
    answer = await world.get("/buildpacks/heroku%2Fpython", Authorization="")
    found = await world.get("/buildpacks?in[namespace][]=heroku&in[name][]=python")

    assert (answer.status_code, answer.json()["blob_url"]) == (200, "urn:buildpack:heroku/python")
    assert found.json() == [answer.json()]


async def test_the_registry_tells_a_buildpacks_version_and_what_it_says_of_itself(
    world: Given,
) -> None:
    (revision,) = (await world.get("/buildpacks/heroku%2Fgo/revisions", Authorization="")).json()
    readme = (await world.get("/buildpacks/heroku%2Fgo/readme", Authorization="")).json()

    assert (revision["release"], revision["license"], revision["status"]) == (
        metadata.version("deodar"),
        "Apache-2.0",
        "published",
    )
    assert base64.b64decode(readme["content"]).decode() == (
        "Compiles a Go module's main packages into /app/bin; vendored modules need no network.\n"
    )


async def test_the_registry_is_searched_by_a_word_of_the_description(world: Given) -> None:
    answer = await world.get("/buildpacks?like[description]=nodejs")

    assert [each["name"] for each in answer.json()] == ["nodejs"]


async def test_an_imported_stack_can_be_chosen_until_it_is_removed(world: Given) -> None:
    await world.create()
    folder = world.context.settings.paths.stacks
    shelf.begin(folder, "own")
    shelf.put(folder, images.stack("own"))

    listed = await world.get("/stacks")
    chosen = await world.send("PATCH", "/apps/example-app", {"build_stack": "own"})
    shelf.take_down(folder, "own")
    gone = await world.send("PATCH", "/apps/example-app", {"build_stack": "own"})

    assert [each["name"] for each in listed.json()] == ["deodar-12", "deodar-13", "own"]
    assert listed.json()[-1]["created_at"] == "2026-11-25T12:00:00Z"
    assert chosen.json()["build_stack"]["name"] == "own"
    assert (gone.status_code, gone.json()["message"]) == (
        422,
        "Stack 'own' is not available. There are: deodar-12, deodar-13.",
    )

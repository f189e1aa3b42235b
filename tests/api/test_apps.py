from typing import Any

import pytest
from httpx import Response

from deodar.api.app import NO_SUCH_ENDPOINT

Given = Any


def refusal(answer: Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()


async def test_an_app_is_created_as_herokus_schema_says(world: Given, conforms: Given) -> None:
    answer = await world.send("POST", "/apps", {"name": "example-app"})

    assert answer.status_code == 201
    conforms("app", answer.json())


async def test_a_new_app_tells_where_it_is_and_what_it_runs_on(world: Given) -> None:
    app = await world.create()

    named = ("region", "stack", "build_stack", "generation", "owner")
    assert {key: value for key, value in app.items() if key not in ("id", *named)} == {
        "name": "example-app",
        "maintenance": False,
        "web_url": "https://example-app.localhost:8443/",
        "git_url": "https://localhost:5443/example-app.git",
        "buildpack_provided_description": None,
        "repo_size": None,
        "slug_size": None,
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z",
        "released_at": "2026-01-02T03:04:05Z",
        "acm": False,
        "archived_at": None,
        "internal_routing": None,
        "organization": None,
        "team": None,
        "space": None,
    }
    assert [app[key]["name"] for key in named[:-1]] == ["us", "deodar-12", "deodar-12", "cedar"]
    assert app["owner"]["email"] == "ada@example.com"


async def test_an_app_without_a_name_gets_one(world: Given) -> None:
    answer = await world.client.post("/apps")

    assert answer.status_code == 201
    adjective, noun, number = answer.json()["name"].split("-")
    assert (adjective.isalpha(), noun.isalpha(), len(number)) == (True, True, 5)


async def test_creating_an_app_is_told_in_its_log_and_wakes_the_loops(world: Given) -> None:
    app = await world.create()

    assert await world.log(app["id"]) == [
        "app[api]: Initial release by user ada@example.com",
        "app[api]: Release v1 created by user ada@example.com",
        "app[api]: Enable Logplex by user ada@example.com",
        "app[api]: Release v2 created by user ada@example.com",
    ]
    assert world.rung == [app["id"]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "taken"}, "Name taken is already taken"),
        ({"name": "ab"}, "Name is too short (minimum is 3 characters)"),
        ({"name": "a" * 31}, "Name is too long (maximum is 30 characters)"),
        (
            {"name": "Upper"},
            "Name must start with a letter, end with a letter or digit and can only contain "
            "lowercase letters, digits, and dashes.",
        ),
        ({"name": 5}, "Invalid name: Expected `str | null`, got `int`."),
        (
            {"stack": "heroku-18"},
            "Stack 'heroku-18' is not available. There are: deodar-12, deodar-13.",
        ),
        ({"region": "eu"}, "Region 'eu' is not available. There is: us."),
    ],
)
async def test_an_app_that_cannot_be_is_refused(
    world: Given, body: dict[str, Any], message: str
) -> None:
    await world.create("taken")

    answer = await world.send("POST", "/apps", body)

    assert refusal(answer) == (422, {"id": "invalid_params", "message": message})


async def test_unknown_fields_are_passed_over(world: Given) -> None:
    answer = await world.send("POST", "/apps", {"name": "example-app", "feature_flags": ["x"]})

    assert answer.status_code == 201


@pytest.mark.parametrize("path", ["/apps", "/users/~/apps"])
async def test_apps_are_listed_by_name(world: Given, conforms: Given, path: str) -> None:
    for name in ("zebra", "aardvark"):
        await world.create(name)

    answer = await world.get(path)

    assert (answer.status_code, [app["name"] for app in answer.json()]) == (
        200,
        ["aardvark", "zebra"],
    )
    for app in answer.json():
        conforms("app", app)


@pytest.mark.parametrize("by", ["name", "id"])
async def test_an_app_is_found_by_name_or_id(world: Given, by: str) -> None:
    app = await world.create()

    answer = await world.get(f"/apps/{app[by]}")

    assert (answer.status_code, answer.json()) == (200, app)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/apps/nobody"),
        ("PATCH", "/apps/nobody"),
        ("DELETE", "/apps/nobody"),
        ("GET", "/apps/nobody/collaborators"),
        ("GET", "/apps/nobody/buildpack-installations"),
        ("GET", "/apps/nobody/config-vars"),
        ("PATCH", "/apps/nobody/config-vars"),
        ("GET", "/apps/nobody/releases"),
        ("POST", "/apps/nobody/releases"),
        ("GET", "/apps/nobody/formation"),
        ("GET", "/apps/nobody/dynos"),
        ("DELETE", "/apps/nobody/dynos"),
        ("GET", "/apps/nobody/domains"),
        ("GET", "/apps/nobody/builds"),
        ("GET", "/apps/nobody/features"),
        ("GET", "/apps/nobody/addons"),
        ("GET", "/apps/nobody/addon-attachments"),
        ("GET", "/apps/nobody/sni-endpoints"),
        ("GET", "/apps/nobody/pipeline-couplings"),
        ("GET", "/teams/apps/nobody"),
    ],
)
async def test_an_unknown_app_is_told_as_heroku_tells_it(
    world: Given, method: str, path: str
) -> None:
    answer = await world.send(method, path, {} if method in ("PATCH", "POST") else None)

    assert refusal(answer) == (
        404,
        {"id": "not_found", "message": "Couldn't find that app.", "resource": "app"},
    )


async def test_a_renamed_app_keeps_its_id_and_changes_its_urls(world: Given) -> None:
    app = await world.create()

    answer = await world.send("PATCH", "/apps/example-app", {"name": "new-name"})

    assert answer.json() == app | {
        "name": "new-name",
        "web_url": "https://new-name.localhost:8443/",
        "git_url": "https://localhost:5443/new-name.git",
    }
    assert (await world.get("/apps/example-app")).status_code == 404


async def test_an_app_cannot_take_anothers_name(world: Given) -> None:
    await world.create("one")
    await world.create("two")

    answer = await world.send("PATCH", "/apps/one", {"name": "two"})

    assert refusal(answer) == (
        422,
        {"id": "invalid_params", "message": "Name two is already taken"},
    )


async def test_of_several_changes_all_or_none_are_made(world: Given) -> None:
    app = await world.create()

    answer = await world.send(
        "PATCH", "/apps/example-app", {"maintenance": True, "build_stack": "heroku-18"}
    )

    assert answer.status_code == 422
    assert (await world.get("/apps/example-app")).json() == app


async def test_maintenance_is_switched_and_wakes_the_loops(world: Given) -> None:
    app = await world.create()
    world.rung.clear()

    on = await world.send("PATCH", "/apps/example-app", {"maintenance": True})
    off = await world.send("PATCH", "/apps/example-app", {"maintenance": False})

    assert (on.json()["maintenance"], off.json()["maintenance"]) == (True, False)
    assert world.rung == [app["id"], app["id"]]


async def test_a_destroyed_app_is_gone_with_its_log_and_its_name_is_free(world: Given) -> None:
    app = await world.create()
    await world.deploy()
    await world.start(app["id"], 1)
    await world.send("POST", "/apps/example-app/domains", {"hostname": "www.example.com"})
    await world.wish_build()
    world.rung.clear()

    answer = await world.client.delete("/apps/example-app")

    assert (answer.status_code, answer.json()["id"]) == (200, app["id"])
    assert world.rung == [app["id"]]
    assert await world.log(app["id"]) == []
    assert (await world.get(f"/apps/{app['id']}")).status_code == 404
    assert (await world.create())["id"] != app["id"]


async def test_the_owner_is_the_only_collaborator(world: Given, conforms: Given) -> None:
    await world.create()

    [collaborator] = (await world.get("/apps/example-app/collaborators")).json()

    conforms("collaborator", collaborator)
    assert (collaborator["role"], collaborator["user"]["email"]) == ("owner", "ada@example.com")


async def test_buildpacks_are_set_in_order_and_shown_as_herokus(
    world: Given, conforms: Given
) -> None:
    await world.create()
    wished = [{"buildpack": "heroku/nodejs"}, {"buildpack": "https://github.com/x/y"}]

    answer = await world.send(
        "PUT", "/apps/example-app/buildpack-installations", {"updates": wished}
    )

    expected = [
        {
            "ordinal": 0,
            "buildpack": {"url": "urn:buildpack:heroku/nodejs", "name": "heroku/nodejs"},
        },
        {
            "ordinal": 1,
            "buildpack": {"url": "https://github.com/x/y", "name": "https://github.com/x/y"},
        },
    ]
    assert (answer.status_code, answer.json()) == (200, expected)
    assert (await world.get("/apps/example-app/buildpack-installations")).json() == expected
    for installation in expected:
        conforms("buildpack-installation", installation)


async def test_a_buildpack_that_the_registry_did_not_know_is_refused(world: Given) -> None:
    """The CLI then sends an update without one."""
    await world.create()

    answer = await world.send("PUT", "/apps/example-app/buildpack-installations", {"updates": [{}]})

    assert refusal(answer) == (
        422,
        {"id": "invalid_params", "message": "Couldn't find that buildpack in the registry."},
    )


async def test_a_wrong_verb_is_no_endpoint(world: Given) -> None:
    answer = await world.client.put("/apps")

    assert refusal(answer) == (404, {"id": "not_found", "message": NO_SUCH_ENDPOINT})

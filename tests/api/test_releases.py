from typing import Any

import pytest

Given = Any


async def test_releases_are_as_herokus_schema_says(world: Given, conforms: Given) -> None:
    await world.create()
    slug, release = await world.deploy()

    answer = await world.get("/apps/example-app/releases")

    assert answer.status_code == 200
    for each in answer.json():
        conforms("release", each)
    newest = answer.json()[-1]
    assert {key: value for key, value in newest.items() if key not in ("app", "user")} == {
        "id": release.id,
        "version": 3,
        "description": "Deploy 1a2b3c4d",
        "status": "succeeded",
        "current": True,
        "slug": {"id": slug.id},
        "eligible_for_rollback": True,
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z",
        "output_stream_url": None,
        "addon_plan_names": [],
        "artifacts": [],
    }


async def test_the_newest_releases_come_first_when_asked_so(world: Given) -> None:
    await world.create()
    for value in range(4):
        await world.send("PATCH", "/apps/example-app/config-vars", {"A": str(value)})

    answer = await world.get("/apps/example-app/releases", Range="version ..; max=2, order=desc")

    assert (answer.status_code, [each["version"] for each in answer.json()]) == (206, [6, 5])
    assert {
        key: answer.headers[key] for key in ("accept-ranges", "content-range", "next-range")
    } == {
        "accept-ranges": "version",
        "content-range": "version 6..5; max=2",
        "next-range": "version ]5..; max=2, order=desc",
    }


async def test_following_next_range_brings_every_release_once(world: Given) -> None:
    await world.create()
    for value in range(6):
        await world.send("PATCH", "/apps/example-app/config-vars", {"A": str(value)})

    versions, header = [], "version ..; max=3, order=desc"
    while header:
        answer = await world.get("/apps/example-app/releases", Range=header)
        versions += [each["version"] for each in answer.json()]
        header = answer.headers.get("next-range")

    assert versions == [8, 7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("by", ["id", "version"])
async def test_a_rollback_is_a_new_release_of_old_code_and_config(
    world: Given, conforms: Given, by: str
) -> None:
    app = await world.create()
    slug, _ = await world.deploy()
    await world.send("PATCH", "/apps/example-app/config-vars", {"A": "1"})
    target = (await world.get("/apps/example-app/releases/v3")).json()

    answer = await world.send("POST", "/apps/example-app/releases", {"release": target[by]})

    assert answer.status_code == 201
    conforms("release", answer.json())
    made = answer.json()
    assert (made["version"], made["description"], made["slug"], made["current"]) == (
        5,
        "Rollback to v3",
        {"id": slug.id},
        True,
    )
    assert (await world.get("/apps/example-app/config-vars")).json() == {}
    assert (await world.log(app["id"]))[-2:] == [
        "app[api]: Rollback to v3 by user ada@example.com",
        "app[api]: Release v5 created by user ada@example.com",
    ]


async def test_a_slug_is_deployed_by_its_id(world: Given) -> None:
    app = await world.create()
    slug, _ = await world.deploy()

    answer = await world.send("POST", "/apps/example-app/releases", {"slug": slug.id})

    assert (answer.status_code, answer.json()["description"]) == (201, "Deploy 1a2b3c4d")
    assert (await world.log(app["id"]))[-2:] == [
        "app[api]: Deploy 1a2b3c4d by user ada@example.com",
        "app[api]: Release v4 created by user ada@example.com",
    ]


@pytest.mark.parametrize(
    ("body", "status", "refusal"),
    [
        (
            {},
            422,
            {
                "id": "invalid_params",
                "message": "Invalid request: give a `release` to roll back to, or a `slug`.",
            },
        ),
        (
            {"release": "9"},
            404,
            {
                "id": "not_found",
                "message": "Couldn't find that release.",
                "resource": "release",
            },
        ),
        (
            {"slug": "none"},
            404,
            {"id": "not_found", "message": "Couldn't find that slug.", "resource": "slug"},
        ),
        (
            {"release": "v1"},
            422,
            {
                "id": "invalid_params",
                "message": "Cannot roll back to v1: it has no slug that can run. "
                "Choose another with `heroku releases`.",
            },
        ),
    ],
)
async def test_a_release_that_cannot_be_made_is_refused(
    world: Given, body: dict[str, Any], status: int, refusal: dict[str, Any]
) -> None:
    await world.create()

    answer = await world.send("POST", "/apps/example-app/releases", body)

    assert (answer.status_code, answer.json()) == (status, refusal)


@pytest.mark.parametrize("version", ["9", "v9", "0", "9" * 30, "none"])
async def test_a_release_that_never_was_is_not_found(world: Given, version: str) -> None:
    await world.create()

    answer = await world.get(f"/apps/example-app/releases/{version}")

    assert (answer.status_code, answer.json()["resource"]) == (404, "release")


async def test_another_apps_slug_is_not_found(world: Given) -> None:
    await world.create("one")
    await world.create("two")
    slug, _ = await world.deploy("one")

    answers = [
        await world.send("POST", "/apps/two/releases", {"slug": slug.id}),
        await world.get(f"/apps/two/slugs/{slug.id}"),
    ]

    assert [answer.status_code for answer in answers] == [404, 404]


async def test_a_made_up_archive_url_is_not_found(world: Given) -> None:
    answer = await world.get("/slugs/bm90aGluZw.c2VhbA")

    assert answer.status_code == 404

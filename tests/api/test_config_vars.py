from typing import Any

import pytest

Given = Any


async def test_config_vars_are_set_and_removed_and_answered_whole(
    world: Given, conforms: Given
) -> None:
    await world.create()

    first = await world.send("PATCH", "/apps/example-app/config-vars", {"A": "1", "B": "2"})
    second = await world.send("PATCH", "/apps/example-app/config-vars", {"A": None, "C": "3"})

    assert (first.status_code, first.json()) == (200, {"A": "1", "B": "2"})
    assert (second.status_code, second.json()) == (200, {"B": "2", "C": "3"})
    shown = (await world.get("/apps/example-app/config-vars")).json()
    conforms("config-var", shown)
    assert shown == {"B": "2", "C": "3"}


async def test_a_change_is_a_release_told_by_its_names_and_never_by_its_values(
    world: Given,
) -> None:
    app = await world.create()

    await world.send("PATCH", "/apps/example-app/config-vars", {"KEY": "s3cr3t", "GONE": None})

    log = await world.log(app["id"])
    assert log[4:] == [
        "app[api]: Set KEY config vars and Remove GONE config vars by user ada@example.com",
        "app[api]: Release v3 created by user ada@example.com",
    ]
    assert "s3cr3t" not in "".join(log)


async def test_a_change_that_changes_nothing_makes_no_release(world: Given) -> None:
    app = await world.create()
    await world.send("PATCH", "/apps/example-app/config-vars", {"A": "1"})
    before = await world.log(app["id"])

    answer = await world.send("PATCH", "/apps/example-app/config-vars", {"A": "1", "B": None})

    assert (answer.status_code, answer.json()) == (200, {"A": "1"})
    assert await world.log(app["id"]) == before
    assert len((await world.get("/apps/example-app/releases")).json()) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"A": 5}, "Invalid A: give a text, or null to remove it."),
        ({"A": ["s3cr3t"]}, "Invalid A: give a text, or null to remove it."),
        (
            {"1A": "x"},
            "Config var key '1A' is not valid: use letters, digits and underscores, "
            "start with a letter.",
        ),
        ({"PORT": "80"}, "Config var PORT is set by the platform; choose another name."),
        (
            {"A": "x" * 70_000},
            "Config vars take 70001 bytes in all; the limit is 65536. Remove some or shorten them.",
        ),
    ],
)
async def test_config_vars_that_cannot_be_are_refused(
    world: Given, body: dict[str, Any], message: str
) -> None:
    await world.create()

    answer = await world.send("PATCH", "/apps/example-app/config-vars", body)

    assert (answer.status_code, answer.json()) == (
        422,
        {"id": "invalid_params", "message": message},
    )


@pytest.mark.parametrize("version", ["3", "v3"])
async def test_a_release_keeps_the_config_vars_it_had(world: Given, version: str) -> None:
    await world.create()
    for value in ("old", "new"):
        await world.send("PATCH", "/apps/example-app/config-vars", {"A": value})

    answer = await world.get(f"/apps/example-app/releases/{version}/config-vars")

    assert (answer.status_code, answer.json()) == (200, {"A": "old"})

from typing import Any

import pytest

Given = Any


async def test_the_formation_is_as_herokus_schema_says(world: Given, conforms: Given) -> None:
    await world.create()
    await world.deploy()

    answer = await world.get("/apps/example-app/formation")

    for each in answer.json():
        conforms("formation", each)
    assert [
        (each["type"], each["quantity"], each["size"], each["dyno_size"]["name"], each["command"])
        for each in answer.json()
    ] == [
        ("web", 1, "Basic", "Basic", "gunicorn app:app"),
        ("worker", 0, "Basic", "Basic", "python worker.py"),
    ]


async def test_scaling_is_one_change_told_in_the_log(world: Given) -> None:
    app = await world.create()
    await world.deploy()
    world.rung.clear()

    answer = await world.send(
        "PATCH",
        "/apps/example-app/formation",
        {
            "updates": [
                {"type": "web", "quantity": "3"},
                {"type": "worker", "quantity": "+1", "size": "standard-1x"},
            ]
        },
    )

    assert (
        answer.status_code,
        [(each["type"], each["quantity"], each["size"]) for each in answer.json()],
    ) == (200, [("web", 3, "Basic"), ("worker", 1, "Standard-1X")])
    assert (await world.log(app["id"]))[-1] == (
        "app[api]: Scaled to web@3:Basic worker@1:Standard-1X by user ada@example.com"
    )
    assert world.rung == [app["id"]]


@pytest.mark.parametrize("quantity", [2, "2", "+1"])
async def test_a_process_type_is_scaled_by_number_or_text(world: Given, quantity: Any) -> None:
    await world.create()
    await world.deploy()

    answer = await world.send("PATCH", "/apps/example-app/formation/web", {"quantity": quantity})

    assert (answer.status_code, answer.json()["quantity"]) == (200, 2)


@pytest.mark.parametrize("size", ["performance-m", {"name": "Performance-M"}])
async def test_a_size_comes_as_text_or_as_reference(world: Given, size: Any) -> None:
    await world.create()
    await world.deploy()

    answer = await world.send("PATCH", "/apps/example-app/formation/web", {"dyno_size": size})

    assert (answer.status_code, answer.json()["size"]) == (200, "Performance-M")


async def test_a_process_type_is_found_by_the_id_it_has_in_the_api(world: Given) -> None:
    await world.create()
    await world.deploy()
    [web, _] = (await world.get("/apps/example-app/formation")).json()

    answer = await world.get(f"/apps/example-app/formation/{web['id']}")

    assert answer.json() == web


async def test_when_one_update_is_refused_none_is_made(world: Given) -> None:
    await world.create()
    await world.deploy()
    before = (await world.get("/apps/example-app/formation")).json()

    answer = await world.send(
        "PATCH",
        "/apps/example-app/formation",
        {"updates": [{"type": "web", "quantity": "5"}, {"type": "foo", "quantity": "1"}]},
    )

    assert (answer.status_code, answer.json()) == (
        404,
        {
            "id": "not_found",
            "message": "Couldn't find that process type (foo).",
            "resource": "process_type",
        },
    )
    assert (await world.get("/apps/example-app/formation")).json() == before


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (
            {"quantity": "many"},
            "Quantity 'many' is not valid: give a number, or +1 or -1.",
        ),
        (
            {"quantity": "101"},
            "Cannot scale to 101 dynos: a process type has 0 to 100.",
        ),
        ({"quantity": True}, "Invalid quantity: Expected `int | str | null`, got `bool`."),
        ({"quantity": 1.5}, "Invalid quantity: Expected `int | str | null`, got `float`."),
        (
            {"size": "huge"},
            "Couldn't find the dyno size 'huge'. There are: Eco, Basic, Standard-1X, Standard-2X, "
            "Performance-M, Performance-L, Performance-L-RAM, Performance-XL, Performance-2XL.",
        ),
    ],
)
async def test_a_scale_that_cannot_be_is_refused(
    world: Given, update: dict[str, Any], message: str
) -> None:
    await world.create()
    await world.deploy()

    answer = await world.send("PATCH", "/apps/example-app/formation/web", update)

    assert (answer.status_code, answer.json()) == (
        422,
        {"id": "invalid_params", "message": message},
    )


async def test_updates_without_a_type_are_refused_by_their_place(world: Given) -> None:
    await world.create()

    answer = await world.send(
        "PATCH", "/apps/example-app/formation", {"updates": [{"quantity": "1"}]}
    )

    assert (answer.status_code, answer.json()) == (
        422,
        {
            "id": "invalid_params",
            "message": "Invalid updates[0]: Object missing required field `type`.",
        },
    )

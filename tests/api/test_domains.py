from typing import Any

import pytest

Given = Any


async def test_domains_begin_with_the_platforms_own(world: Given, conforms: Given) -> None:
    await world.create()
    await world.send(
        "POST",
        "/apps/example-app/domains",
        {"hostname": "WWW.Example.com.", "sni_endpoint": None},
    )

    answer = await world.get("/apps/example-app/domains", Range="id ..; max=1000;")

    for each in answer.json():
        conforms("domain", each)
    assert sorted((each["hostname"], each["kind"], each["cname"]) for each in answer.json()) == [
        ("example-app.localhost", "heroku", None),
        ("www.example.com", "custom", "example-app.localhost"),
    ]


async def test_adding_and_removing_a_domain_wakes_the_loops(world: Given) -> None:
    app = await world.create()
    world.rung.clear()

    added = await world.send("POST", "/apps/example-app/domains", {"hostname": "www.example.com"})
    removed = await world.client.delete("/apps/example-app/domains/www.example.com")

    assert (added.status_code, removed.status_code) == (201, 200)
    assert removed.json() == added.json()
    assert world.rung == [app["id"], app["id"]]
    assert len((await world.get("/apps/example-app/domains")).json()) == 1


@pytest.mark.parametrize("by", ["hostname", "id"])
@pytest.mark.parametrize("kind", [0, 1])
async def test_a_domain_is_found_by_name_or_id(world: Given, by: str, kind: int) -> None:
    await world.create()
    await world.send("POST", "/apps/example-app/domains", {"hostname": "www.example.com"})
    domain = (await world.get("/apps/example-app/domains")).json()[kind]

    answer = await world.get(f"/apps/example-app/domains/{domain[by]}")

    assert (answer.status_code, answer.json()) == (200, domain)


@pytest.mark.parametrize(
    ("hostname", "message"),
    [
        ("www.other.com", "www.other.com is currently in use by another app."),
        ("www.mine.com", "www.mine.com is currently in use by this app."),
        (
            "else.localhost",
            "else.localhost is below localhost, where the platform itself names apps. "
            "Rename the app to have another name there.",
        ),
        (
            "not a name",
            "'not a name' is not a valid hostname: give a full name such as www.example.com.",
        ),
    ],
)
async def test_a_domain_that_cannot_be_the_apps_is_refused(
    world: Given, hostname: str, message: str
) -> None:
    await world.create()
    await world.create("other")
    await world.send("POST", "/apps/other/domains", {"hostname": "www.other.com"})
    await world.send("POST", "/apps/example-app/domains", {"hostname": "www.mine.com"})

    answer = await world.send("POST", "/apps/example-app/domains", {"hostname": hostname})

    assert (answer.status_code, answer.json()) == (
        422,
        {"id": "invalid_params", "message": message},
    )


async def test_another_apps_domain_is_not_found(world: Given) -> None:
    await world.create("one")
    await world.create("two")
    await world.send("POST", "/apps/one/domains", {"hostname": "www.example.com"})

    answer = await world.client.delete("/apps/two/domains/www.example.com")

    assert (answer.status_code, answer.json()) == (
        404,
        {
            "id": "not_found",
            "message": "Couldn't find that domain (www.example.com).",
            "resource": "domain",
        },
    )


async def test_a_certificate_that_is_not_there_cannot_be_chosen(world: Given) -> None:
    await world.create()
    await world.send("POST", "/apps/example-app/domains", {"hostname": "www.example.com"})

    answer = await world.send(
        "PATCH", "/apps/example-app/domains/www.example.com", {"sni_endpoint": "cert"}
    )

    assert (answer.status_code, answer.json()["resource"]) == (404, "sni_endpoint")

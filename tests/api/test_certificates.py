"""Certificates and ACM as the official CLI asks for them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests import pem

Given = Any


@pytest.fixture
async def app(world: Given) -> Any:
    app = await world.create()
    await world.send(
        "POST",
        "/apps/example-app/domains",
        {"hostname": "www.example.com", "sni_endpoint": None},
    )
    world.moment[0] = datetime.now(UTC)  # certificates of tests are made now
    world.rung.clear()
    return app


def wish(pair: pem.Pair) -> dict[str, str]:
    return {"certificate_chain": pair.pem, "private_key": pair.key}


async def add(world: Given, *names: str) -> Any:
    answer = await world.send(
        "POST", "/apps/example-app/sni-endpoints", wish(pem.certificate(*names))
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def domain(world: Given, hostname: str = "www.example.com") -> Any:
    return (await world.get(f"/apps/example-app/domains/{hostname}")).json()


async def choose(world: Given, endpoint: str | None) -> Any:
    return await world.send(
        "PATCH", "/apps/example-app/domains/www.example.com", {"sni_endpoint": endpoint}
    )


async def test_a_certificate_is_added_and_shown_without_its_key(
    world: Given, app: Any, conforms: Given
) -> None:
    added = await add(world, "www.example.com")

    conforms("sni-endpoint", added)
    assert (await world.get("/apps/example-app/sni-endpoints")).json() == [added]
    for identity in (added["name"], added["id"]):
        answer = await world.get(f"/apps/example-app/sni-endpoints/{identity}")
        assert answer.json() == added
        assert "PRIVATE" not in answer.text
    assert (added["ssl_cert"]["cert_domains"], added["ssl_cert"]["self_signed?"]) == (
        ["www.example.com"],
        True,
    )
    assert added["ssl_cert"]["acm"] is False


async def test_a_certificate_that_is_none_is_refused_in_words(world: Given, app: Any) -> None:
    answer = await world.send(
        "POST",
        "/apps/example-app/sni-endpoints",
        {"certificate_chain": "x", "private_key": pem.certificate("a.example.com").key},
    )

    assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
    assert answer.json()["message"].startswith("The certificate could not be read.")


async def test_a_domain_chooses_its_certificate_and_lets_it_go(
    world: Given, app: Any, conforms: Given
) -> None:
    endpoint = await add(world, "*.example.com")

    chosen = await choose(world, endpoint["name"])

    conforms("domain", chosen.json())
    assert chosen.json()["sni_endpoint"] == {"id": endpoint["id"], "name": endpoint["name"]}
    shown = (await world.get("/apps/example-app/sni-endpoints")).json()[0]
    assert shown["domains"] == [chosen.json()["id"]]
    assert (await choose(world, None)).json()["sni_endpoint"] is None
    assert world.rung == [app["id"], app["id"]]


async def test_a_domain_is_added_with_its_certificate(world: Given, app: Any) -> None:
    endpoint = await add(world, "shop.example.com")

    answer = await world.send(
        "POST",
        "/apps/example-app/domains",
        {"hostname": "shop.example.com", "sni_endpoint": endpoint["id"]},
    )

    assert answer.json()["sni_endpoint"]["name"] == endpoint["name"]


async def test_a_domain_keeps_its_certificate_where_none_is_spoken_of(
    world: Given, app: Any
) -> None:
    endpoint = await add(world, "www.example.com")
    await choose(world, endpoint["name"])

    answer = await world.send("PATCH", "/apps/example-app/domains/www.example.com", {})

    assert answer.status_code == 422
    assert (await domain(world))["sni_endpoint"]["name"] == endpoint["name"]


async def test_a_certificate_for_another_name_is_not_chosen(world: Given, app: Any) -> None:
    endpoint = await add(world, "shop.example.com", "*.example.org")

    answer = await choose(world, endpoint["name"])

    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "The certificate is not for www.example.com, but for shop.example.com, *.example.org.",
    )


async def test_a_certificate_is_replaced_by_one_for_the_same_domains_only(
    world: Given, app: Any
) -> None:
    endpoint = await add(world, "www.example.com")
    await choose(world, endpoint["name"])
    path = f"/apps/example-app/sni-endpoints/{endpoint['name']}"
    newer = pem.certificate("www.example.com", "example.com")

    refused = await world.send("PATCH", path, wish(pem.certificate("example.com")))
    changed = await world.send("PATCH", path, wish(newer))

    assert refused.status_code == 422
    assert changed.json()["certificate_chain"] == newer.pem
    assert (changed.json()["id"], changed.json()["domains"]) == (
        endpoint["id"],
        [(await domain(world))["id"]],
    )


async def test_a_certificate_that_is_removed_leaves_its_domains_without(
    world: Given, app: Any
) -> None:
    endpoint = await add(world, "www.example.com")
    await choose(world, endpoint["name"])

    answer = await world.client.delete(f"/apps/example-app/sni-endpoints/{endpoint['name']}")

    assert answer.status_code == 200
    assert (await domain(world))["sni_endpoint"] is None
    assert (await world.get("/apps/example-app/sni-endpoints")).json() == []
    gone = await world.get(f"/apps/example-app/sni-endpoints/{endpoint['name']}")
    assert (gone.status_code, gone.json()["resource"]) == (404, "sni_endpoint")


async def test_an_app_is_destroyed_with_its_certificates(world: Given, app: Any) -> None:
    await choose(world, (await add(world, "www.example.com"))["name"])

    assert (await world.client.delete("/apps/example-app")).status_code == 200


async def test_acm_is_turned_on_and_off(world: Given, app: Any) -> None:
    on = await world.send("POST", "/apps/example-app/acm", {})
    waiting = (await domain(world))["acm_status"]
    refreshed = await world.send("PATCH", "/apps/example-app/acm", {"acm_refresh": True})
    off = await world.client.delete("/apps/example-app/acm")

    assert [each.json()["acm"] for each in (on, refreshed, off)] == [True, True, False]
    assert (waiting, (await domain(world))["acm_status"]) == ("pending", None)
    assert (await world.get("/apps/example-app")).json()["acm"] is False


async def test_a_domain_that_is_added_while_acm_is_on_waits_for_its_certificate(
    world: Given, app: Any
) -> None:
    await world.send("POST", "/apps/example-app/acm", {})

    answer = await world.send(
        "POST", "/apps/example-app/domains", {"hostname": "a.example.com", "sni_endpoint": None}
    )

    assert answer.json()["acm_status"] == "pending"

"""Slugs from elsewhere, and in Heroku's form for whoever holds their URL."""

import hashlib
import io
import json
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deodar.adapters import slugs
from deodar.model.app import DEFAULT_STACK

Given = Any
WANTED = {"process_types": {"web": "bin/serve"}, "commit": "1a2b3c4d"}


def tarball(name: str = "./app/bin/serve") -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = 5
        tar.addfile(info, io.BytesIO(b"serve"))
    return into.getvalue()


@pytest.fixture
async def shop(world: Given) -> Given:
    """An app on a machine that has its stack."""
    folder = world.context.settings.paths.stacks / DEFAULT_STACK
    folder.mkdir(parents=True)
    facts = {
        "name": DEFAULT_STACK,
        "suite": "bookworm",
        "built_at": "2030-01-01T00:00:00+00:00",
        "digest": "SHA256:00",
        "packages": {},
        "build_packages": {},
    }
    (folder / "stack.json").write_text(json.dumps(facts))
    await world.create()
    return world


async def ask(world: Given, **more: object) -> Any:
    answer = await world.send("POST", "/apps/example-app/slugs", WANTED | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def put(world: Given, slug: Any, data: bytes) -> Any:
    return await world.client.put(
        slug["blob"]["url"], content=data, headers={"Authorization": "", "Content-Type": ""}
    )


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


async def test_a_slug_from_elsewhere_is_uploaded_and_released(shop: Given, conforms: Given) -> None:
    wanted = await ask(shop)
    before = await shop.get(f"/apps/example-app/slugs/{wanted['id']}")

    uploaded = await put(shop, wanted, tarball())
    released = await shop.send("POST", "/apps/example-app/releases", {"slug": wanted["id"]})

    conforms("slug", wanted)
    assert (wanted["blob"]["method"], wanted["size"], before.status_code) == ("put", None, 404)
    assert (uploaded.status_code, released.status_code) == (200, 201)
    slug = (await shop.get(f"/apps/example-app/slugs/{wanted['id']}")).json()
    assert (released.json()["description"], slug["process_types"], slug["commit"]) == (
        "Deploy 1a2b3c4d",
        {"web": "bin/serve"},
        "1a2b3c4d",
    )
    stored = slugs.archives(shop.context.settings.paths.slugs)
    assert list(stored) == [slug["checksum"]]
    assert left(shop.context.settings.paths.builds) == []


async def test_whoever_holds_a_slugs_url_may_have_it_as_heroku_gives_it(
    shop: Given, conforms: Given
) -> None:
    wanted = await ask(shop)
    await put(shop, wanted, tarball())

    slug = (await shop.get(f"/apps/example-app/slugs/{wanted['id']}")).json()
    got = await shop.client.get(slug["blob"]["url"], headers={"Authorization": ""})

    conforms("slug", slug)
    assert (got.status_code, got.headers["content-type"]) == (200, "application/gzip")
    with tarfile.open(fileobj=io.BytesIO(got.content), mode="r:gz") as tar:
        assert tar.getnames() == ["./app", "./app/bin", "./app/bin/serve"]
    assert left(shop.context.settings.paths.builds) == []


async def test_a_slug_is_uploaded_once(shop: Given) -> None:
    wanted = await ask(shop)
    await put(shop, wanted, tarball())

    again = await put(shop, wanted, tarball("./app/bin/other"))

    assert (again.status_code, again.json()["id"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"no tar at all", 422), (tarball("./elsewhere/serve"), 422), (tarball("../serve"), 422)],
)
async def test_what_is_no_slug_leaves_nothing(shop: Given, data: bytes, status: int) -> None:
    wanted = await ask(shop)

    answer = await put(shop, wanted, data)

    assert answer.status_code == status
    assert (await shop.get(f"/apps/example-app/slugs/{wanted['id']}")).status_code == 404
    assert left(shop.context.settings.paths.builds) == []


async def test_a_given_checksum_must_be_that_of_what_comes(shop: Given) -> None:
    right = f"SHA256:{hashlib.sha256(tarball('./app/x')).hexdigest()}"

    answers = [
        await put(shop, await ask(shop, checksum=sum_), tarball("./app/x"))
        for sum_ in ("SHA256:00", right)
    ]

    assert [answer.status_code for answer in answers] == [422, 200]


async def test_an_upload_url_is_over_after_an_hour(shop: Given) -> None:
    wanted = await ask(shop)
    shop.moment[0] += timedelta(hours=1)

    assert (await put(shop, wanted, tarball())).status_code == 404


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"process_types": {"we b": "x"}}, "Type 'we b' is not a valid process type."),
        ({"process_types": {"web": " "}}, "The command of web can't be blank"),
        ({"process_types": {"web": "x" * 20_000}}, "Process types are too long"),
        ({"commit": "x" * 3000}, "A description is over 2000 characters."),
        ({"stack": "deodar-0"}, "The stack 'deodar-0' is not on this machine."),
    ],
)
async def test_what_no_slug_can_be_is_refused(
    shop: Given, changed: dict[str, Any], message: str
) -> None:
    answer = await shop.send("POST", "/apps/example-app/slugs", WANTED | changed)

    assert answer.status_code == 422
    assert message in answer.json()["message"]

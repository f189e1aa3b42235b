import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from deodar.model.build import Build
from deodar.store import builds

Given = Any
ARCHIVE = b"a tar of some source"


async def upload(world: Given) -> str:
    urls = (await world.client.post("/sources")).json()["source_blob"]
    put = await world.client.put(urls["put_url"], content=ARCHIVE, headers={"Authorization": ""})
    assert put.status_code == 200
    return str(urls["get_url"])


async def wished(world: Given, app_id: str) -> list[Build]:
    async with world.db.read() as tx:
        return await builds.of_app(tx, app_id)


async def test_builds_are_listed_and_shown(world: Given, conforms: Given) -> None:
    app = await world.create()
    build = await world.wish_build()

    [listed] = (await world.get("/apps/example-app/builds")).json()
    shown = (await world.get(f"/apps/example-app/builds/{build.id}")).json()

    conforms("build", shown)
    assert shown == listed
    token = shown["output_stream_url"].removeprefix("http://localhost:5080/builds/").partition("/")
    signer = world.context.signers.build_output
    assert signer.open(token[0], now=world.context.clock()) == f"{app['id']}/{build.id}"
    assert (shown["status"], shown["source_blob"]["version"], shown["release"]) == (
        "pending",
        "1a2b3c4d5e6f",
        None,
    )


async def test_an_unknown_build_is_not_found(world: Given) -> None:
    await world.create()

    answer = await world.get("/apps/example-app/builds/none")

    assert (answer.status_code, answer.json()) == (
        404,
        {"id": "not_found", "message": "Couldn't find that build.", "resource": "build"},
    )


async def test_an_upload_can_be_read_back(world: Given) -> None:
    url = await upload(world)

    answer = await world.get(url, Authorization="")

    assert (answer.status_code, answer.content) == (200, ARCHIVE)


async def test_an_uploaded_source_is_built(world: Given, conforms: Given) -> None:
    app = await world.create()
    world.rung.clear()

    answer = await world.send(
        "POST",
        "/apps/example-app/builds",
        {
            "source_blob": {
                "url": await upload(world),
                "checksum": f"SHA256:{hashlib.sha256(ARCHIVE).hexdigest()}",
                "version": "v1.3.0",
                "version_description": "Say hello",
            },
            "buildpacks": [{"url": "heroku/go"}, {"name": "heroku/nodejs"}],
        },
    )

    assert answer.status_code == 201
    conforms("build", answer.json())
    [build] = await wished(world, app["id"])
    assert (build.id, build.commit, build.commit_description, build.buildpacks) == (
        answer.json()["id"],
        "v1.3.0",
        "Say hello",
        ("heroku/go", "heroku/nodejs"),
    )
    source = world.context.settings.paths.builds / build.id / "upload"
    assert source.read_bytes() == ARCHIVE
    assert world.rung == [app["id"]]


async def test_a_source_elsewhere_is_left_for_the_compiler_to_fetch(world: Given) -> None:
    await world.create()
    blob = {"url": "https://example.com/source.tgz?token=x", "checksum": "SHA256:00"}

    answer = await world.send("POST", "/apps/example-app/builds", {"source_blob": blob})

    assert answer.status_code == 201
    folder = world.context.settings.paths.builds / answer.json()["id"]
    assert json.loads((folder / "address.json").read_text()) == blob
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        (
            {"url": "ftp://example.com/source.tgz"},
            422,
            "Invalid source_blob.url: give an http or https address, or ask `POST /sources` for one, "
            "PUT the archive there, and name its get_url.",
        ),
        (
            {"checksum": "SHA256:00"},
            422,
            f"The source's checksum is SHA256:{hashlib.sha256(ARCHIVE).hexdigest()}, "
            "not SHA256:00. Upload it again.",
        ),
        ({"version": "x" * 65}, 422, "Invalid source_blob.version: over 64 characters."),
        ({"url": 5}, 422, "Invalid source_blob.url: Expected `str`, got `int`."),
    ],
)
async def test_a_source_that_cannot_be_built_is_refused_and_nothing_is_left(
    world: Given, changed: dict[str, Any], status: int, message: str
) -> None:
    app = await world.create()
    blob = {"url": await upload(world)} | changed

    answer = await world.send("POST", "/apps/example-app/builds", {"source_blob": blob})

    assert (answer.status_code, answer.json()["message"]) == (status, message)
    assert await wished(world, app["id"]) == []
    folder = world.context.settings.paths.builds
    assert not folder.exists() or list(folder.iterdir()) == []


async def test_an_upload_that_never_came_is_not_found(world: Given) -> None:
    await world.create()
    url = (await world.client.post("/sources")).json()["source_blob"]["get_url"]

    answer = await world.send("POST", "/apps/example-app/builds", {"source_blob": {"url": url}})

    assert (answer.status_code, answer.json()["message"]) == (
        404,
        "Couldn't find that source. Upload it again.",
    )


async def test_an_upload_url_is_good_for_an_hour(world: Given) -> None:
    url = await upload(world)
    world.moment[0] += timedelta(hours=1, seconds=1)

    answer = await world.get(url)

    assert answer.status_code == 404


async def test_old_uploads_are_swept_when_a_new_one_is_asked_for(world: Given) -> None:
    await upload(world)
    folder = world.context.settings.paths.sources
    [path] = folder.iterdir()
    world.moment[0] = world.moment[0].fromtimestamp(path.stat().st_mtime, tz=world.moment[0].tzinfo)
    await world.client.post("/sources")
    kept = list(folder.iterdir())
    world.moment[0] += timedelta(hours=2)

    await world.client.post("/sources")

    assert (kept, list(folder.iterdir())) == ([path], [])


async def test_a_waiting_build_is_canceled(world: Given, conforms: Given) -> None:
    app = await world.create()
    build = await world.wish_build()
    folder = world.context.settings.paths.builds / build.id
    folder.mkdir(parents=True)

    canceled = await world.send("DELETE", f"/apps/example-app/builds/{build.id}")
    again = await world.send("DELETE", f"/apps/example-app/builds/{build.id}")

    conforms("build", canceled.json())
    assert (canceled.status_code, canceled.json()["status"], again.status_code) == (
        202,
        "failed",
        409,
    )
    assert (await world.log(app["id"]))[-1] == "app[api]: Build canceled by user ada@example.com"
    assert not folder.exists()

"""Log sessions and build outputs, as the official CLI, curl and older clients read them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message

from deodar.api import logs as door
from deodar.api.app import create_app
from deodar.api.outputs import Outputs
from deodar.model.build import Build, BuildStatus
from deodar.model.log import LogLine
from deodar.store import builds

EVENTS = "text/event-stream"


class Stream:
    """An answer that may never end, read as it comes."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.status = 0
        self.text = ""

    async def until(self, text: str) -> None:
        """Reads on until `text` came."""
        async with asyncio.timeout(5):
            while text not in self.text:
                await self._read()

    async def to_the_end(self) -> str:
        async with asyncio.timeout(5):
            while await self._read():
                pass
        return self.text

    async def _read(self) -> bool:
        message = await self.sent.get()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return True
        self.text += message.get("body", b"").decode()
        return bool(message.get("more_body", False))


@asynccontextmanager
async def streaming(app: ASGIApp, path: str, **headers: str) -> AsyncIterator[Stream]:
    stream = Stream()
    asked = asyncio.Event()

    async def receive() -> Message:
        if asked.is_set():
            await asyncio.Event().wait()
        asked.set()
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
    }
    client = asyncio.create_task(_call(app, scope, receive, stream))
    try:
        yield stream
    finally:
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)


async def _call(app: ASGIApp, scope: Any, receive: Any, stream: Stream) -> None:
    async def send(message: Message) -> None:
        stream.sent.put_nowait(message)

    await app(scope, receive, send)


class Viewer:
    """The API with the logs' door, and one app in it."""

    def __init__(self, world: Any, app_id: str, data: Path) -> None:
        self.world = world
        self.app_id = app_id
        self.folder = data / "builds"
        self.folder.mkdir()
        outputs = Outputs(world.db, self.folder)
        self.app = create_app(world.context, extra_routes=door.routes(world.context, outputs))
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://localhost:5080",
            headers={"Authorization": world.client.headers["Authorization"]},
        )

    def log(self, *texts: str, source: str = "app", dyno: str = "web.1") -> None:
        self.world.context.logs.append(
            self.app_id,
            [
                LogLine(at=self.world.moment[0], source=source, dyno=dyno, text=text)
                for text in texts
            ],
        )

    async def session(self, **wanted: Any) -> str:
        """The path of a new log session."""
        answer = await self.client.post("/apps/example-app/log-sessions", json=wanted)
        assert answer.status_code == 201, answer.text
        url: str = answer.json()["logplex_url"]
        return url.removeprefix("http://localhost:5080")

    async def read(self, path: str, **headers: str) -> str:
        return (await self.client.get(path, headers=headers)).text

    async def end(self, build: Build, status: BuildStatus) -> None:
        async with self.world.db.write() as tx:
            await builds.update_build(tx, replace(build, status=status))


@pytest.fixture
async def viewer(world: Any, tmp_path: Path) -> AsyncIterator[Viewer]:
    app = await world.create()
    world.context.logs.delete(app["id"])  # what the API said of its making
    viewer = Viewer(world, app["id"], tmp_path)
    async with viewer.client:
        yield viewer


def shown(*texts: str, dyno: str = "app[web.1]") -> list[str]:
    return [f"2026-01-02T03:04:05.000000+00:00 {dyno}: {text}" for text in texts]


async def test_a_session_is_as_the_schema_says(viewer: Viewer, conforms: Any) -> None:
    answer = await viewer.client.post("/apps/example-app/log-sessions", json={"lines": 5})

    conforms("log-session", answer.json())
    assert answer.status_code == 201


async def test_a_plain_client_gets_lines_and_an_end(viewer: Viewer) -> None:
    viewer.log("one", "two", "three")

    text = await viewer.read(await viewer.session(lines=2))

    assert text.splitlines() == shown("two", "three")


async def test_the_official_cli_gets_one_event_and_an_end(viewer: Viewer) -> None:
    viewer.log("one", "two")

    text = await viewer.read(await viewer.session(), accept=EVENTS)

    one, two = shown("one", "two")
    end = (await viewer.world.context.logs.last(viewer.app_id, 0))[1]
    assert text == f"id: {end}\ndata: {one}\ndata: {two}\n\n"


async def test_a_session_looks_back_100_lines_and_never_more_than_1500(viewer: Viewer) -> None:
    viewer.log(*(str(number) for number in range(1600)))

    usual = await viewer.read(await viewer.session())
    most = await viewer.read(await viewer.session(lines=9999))

    assert [len(text.splitlines()) for text in (usual, most)] == [100, 1500]


async def test_a_session_shows_what_was_asked_for(viewer: Viewer) -> None:
    viewer.log("web")
    viewer.log("worker", dyno="worker.1")
    viewer.log("up", source="heroku")

    answers = [
        await viewer.read(await viewer.session(**wanted))
        for wanted in (
            {"dyno": "worker"},
            {"dyno_name": "worker.1"},
            {"source": "heroku", "dyno": "web.1"},
        )
    ]

    worker = shown("worker", dyno="app[worker.1]")
    assert [text.splitlines() for text in answers] == [
        worker,
        worker,
        shown("up", dyno="heroku[web.1]"),
    ]


async def test_a_tail_goes_on_with_what_comes(viewer: Viewer) -> None:
    viewer.log("old")
    path = await viewer.session(tail=True, lines=1)

    async with streaming(viewer.app, path) as stream:
        await stream.until("old")
        viewer.log("new")
        await stream.until("new\n")

    assert stream.text.splitlines() == shown("old", "new")


async def test_a_tail_that_reconnects_sees_nothing_twice_and_misses_nothing(viewer: Viewer) -> None:
    viewer.log("one")
    path = await viewer.session(tail=True)
    async with streaming(viewer.app, path, accept=EVENTS) as stream:
        await stream.until("one\n\n")
    last = stream.text.split("\n", 1)[0].removeprefix("id: ")
    viewer.log("two")

    async with streaming(viewer.app, path, accept=EVENTS, last_event_id=last) as again:
        await again.until("two\n\n")
        viewer.log("three")
        await again.until("three\n\n")

    events = [event for event in again.text.split("\n\n") if event]
    assert [event.split("data: ")[1] for event in events] == shown("two", "three")


async def test_a_last_event_id_that_is_none_of_ours_is_passed_over(viewer: Viewer) -> None:
    viewer.log("one")

    text = await viewer.read(await viewer.session(), accept=EVENTS, last_event_id="17")

    assert shown("one")[0] in text


async def test_a_silent_tail_is_kept_alive(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "KEEP_ALIVE", 0.01)
    path = await viewer.session(tail=True)

    async with streaming(viewer.app, path, accept=EVENTS) as stream:
        await stream.until(":\n\n:\n\n")
        viewer.log("awake")

        await stream.until("awake\n\n")


async def test_a_carriage_return_does_not_break_an_event(viewer: Viewer) -> None:
    viewer.log("10%\r20%")

    text = await viewer.read(await viewer.session(), accept=EVENTS)

    assert text.split("\n")[1:] == [f"data: {shown('10%')[0]}", "data: 20%", "", ""]


async def test_a_tail_ends_when_the_app_is_destroyed(viewer: Viewer) -> None:
    viewer.log("one")

    async with streaming(viewer.app, await viewer.session(tail=True)) as stream:
        await stream.until("one\n")
        viewer.world.context.logs.delete(viewer.app_id)

        assert await stream.to_the_end() == shown("one")[0] + "\n"


async def test_a_session_must_be_opened_within_five_minutes(viewer: Viewer) -> None:
    path = await viewer.session()
    viewer.world.moment[0] += timedelta(minutes=5)

    answer = await viewer.client.get(path)

    assert (answer.status_code, answer.json()["id"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/logs/made.up", "/builds/made.up/output"])
async def test_a_token_that_is_made_up_opens_nothing(viewer: Viewer, path: str) -> None:
    assert (await viewer.client.get(path)).status_code == 404


async def test_a_session_of_a_destroyed_app_is_gone(viewer: Viewer) -> None:
    path = await viewer.session()
    await viewer.client.delete("/apps/example-app")

    assert (await viewer.client.get(path)).status_code == 404


async def output_path(viewer: Viewer, build: Build) -> str:
    answer = await viewer.client.get(f"/apps/example-app/builds/{build.id}")
    url: str = answer.json()["output_stream_url"]
    return url.removeprefix("http://localhost:5080")


async def test_a_builds_output_is_shown_while_it_is_written_until_its_end(viewer: Viewer) -> None:
    build = await viewer.world.wish_build()
    file = viewer.folder / f"{build.id}.log"

    async with streaming(viewer.app, await output_path(viewer, build)) as stream:
        file.write_text("-----> Python\n")
        await stream.until("-----> Python\n")
        with file.open("a") as more:
            more.write("Verifying deploy... done.\n")
        await viewer.end(build, BuildStatus.SUCCEEDED)

        assert await stream.to_the_end() == "-----> Python\nVerifying deploy... done.\n"


async def test_the_output_of_a_build_that_ended_can_be_read_again(viewer: Viewer) -> None:
    build = await viewer.world.wish_build()
    (viewer.folder / f"{build.id}.log").write_text("it failed\n" * 20_000)
    await viewer.end(build, BuildStatus.FAILED)

    assert await viewer.read(await output_path(viewer, build)) == "it failed\n" * 20_000

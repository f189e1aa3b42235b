import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deodar.api.app import NO_SUCH_ENDPOINT, create_app
from deodar.model import errors

Given = Any
TOKEN = "11111111-2222-4333-8444-555555555555"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {TOKEN}",
        f"bearer  {TOKEN} ",
        basic("", TOKEN),
        basic("ada@example.com", TOKEN),
    ],
)
async def test_a_token_lets_one_in_as_bearer_or_as_the_password(world: Given, header: str) -> None:
    answer = await world.get("/account", Authorization=header)

    assert (answer.status_code, answer.json()["email"]) == (200, "ada@example.com")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        basic(TOKEN, "wrong"),
        basic(TOKEN, ""),
        "Basic !!!",
        "Basic //79",
        f"Token {TOKEN}",
        TOKEN,
    ],
)
async def test_nobody_else_comes_in(world: Given, header: str) -> None:
    answer = await world.get("/account", Authorization=header)

    assert (answer.status_code, answer.json()) == (
        401,
        {"id": "unauthorized", "message": "Invalid credentials provided."},
    )


@pytest.mark.parametrize("path", ["/", "/nothing", "/apps/", "/apps/x/nothing"])
async def test_an_unknown_path_is_told_as_heroku_tells_it(world: Given, path: str) -> None:
    answer = await world.get(path)

    assert (answer.status_code, answer.json()) == (
        404,
        {"id": "not_found", "message": NO_SUCH_ENDPOINT},
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The request's body is not valid JSON."),
        (b"\xff\xfe", "The request's body is not valid JSON."),
        (b"[" * 100_000, "The request's body is not valid JSON."),
        (b'{"name": "\\ud800"}', "The request's body is not valid JSON."),
        (b"[]", "The request's body must be a JSON object."),
        (b'"text"', "The request's body must be a JSON object."),
        (b"null", "The request's body must be a JSON object."),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    world: Given, body: bytes, message: str
) -> None:
    answer = await world.client.post("/apps", content=body)

    assert (answer.status_code, answer.json()) == (400, {"id": "bad_request", "message": message})


async def test_a_body_over_one_megabyte_is_refused_however_it_comes(world: Given) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 64 * 1024

    whole = await world.client.post("/apps", content=b" " * (1024 * 1024 + 1))
    chunked = await world.client.post("/apps", content=chunks())

    assert [(each.status_code, each.json()["id"]) for each in (whole, chunked)] == [
        (413, "payload_too_large"),
        (413, "payload_too_large"),
    ]


@pytest.mark.parametrize(
    "accept",
    [
        "application/vnd.heroku+json; version=3",
        "application/vnd.heroku+json; version=3.sdk",
        "application/json",
        "*/*",
        "",
    ],
)
async def test_any_word_for_json_is_accepted(world: Given, accept: str) -> None:
    answer = await world.get("/account", Accept=accept)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [("newest-1,older-2,older-3", "newest-1"), ("one", "one"), ("two,\tthree", "two")],
)
async def test_the_first_request_id_comes_back(world: Given, sent: str, echoed: str) -> None:
    answer = await world.get("/account", **{"Request-Id": sent})

    assert answer.headers["request-id"] == echoed


@pytest.mark.parametrize("sent", ["", "bad id", "x" * 129])
async def test_a_request_without_a_usable_id_gets_one(world: Given, sent: str) -> None:
    answer = await world.get("/nothing", **{"Request-Id": sent})

    assert len(answer.headers["request-id"]) == 36


async def test_every_answer_tells_how_many_calls_remain(world: Given) -> None:
    answer = await world.get("/account")

    assert answer.headers["ratelimit-remaining"] == "4500"


async def test_a_head_request_is_answered_like_its_get(world: Given) -> None:
    answer = await world.client.head("/account")

    assert (answer.status_code, answer.content) == (200, b"")


async def test_what_nobody_expected_is_an_error_that_tells_nothing(
    world: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_request: Request) -> Response:
        raise RuntimeError("a secret of the inside")

    answer = await _ask(world, broken)

    assert (answer.status_code, answer.json()) == (
        500,
        {"id": "internal_server_error", "message": "Internal server error."},
    )
    assert "a secret of the inside" in capsys.readouterr().out


async def test_a_part_that_is_away_is_told_as_unavailable(world: Given) -> None:
    async def away(_request: Request) -> Response:
        raise errors.StoreFailed("The store cannot write: disk full")

    answer = await _ask(world, away)

    assert (answer.status_code, answer.json()) == (
        503,
        {"id": "service_unavailable", "message": "The store cannot write: disk full"},
    )


async def _ask(world: Given, endpoint: Any) -> httpx.Response:
    app = create_app(world.context, extra_routes=[Route("/extra", endpoint)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/extra")


async def test_another_accounts_app_is_forbidden(world: Given) -> None:
    from deodar.model.app import Account
    from deodar.store import accounts

    await world.create()
    stranger = Account(id="stranger", email="bob@example.com", created_at=world.context.clock())
    async with world.db.write() as tx:
        await accounts.create(tx, stranger, token="another")

    answer = await world.get("/apps/example-app", Authorization="Bearer another")

    assert (answer.status_code, answer.json()) == (
        403,
        {"id": "forbidden", "message": "You do not have access to the app example-app."},
    )
    assert (await world.get("/apps", Authorization="Bearer another")).json() == []

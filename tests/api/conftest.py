"""A platform's API in process: a real store, real log files, a clock that stands until it is moved."""

import json
import random
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from cryptography.fernet import Fernet

from deodar import settings
from deodar.actions import accounts, releases
from deodar.actions import builds as wishes
from deodar.api.app import create_app
from deodar.api.context import Context, Signers
from deodar.kit.loop import Bell
from deodar.model.app import AppId
from deodar.model.build import Build
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.release import Release, Slug
from deodar.store import apps, dynos
from deodar.store import releases as ledger
from deodar.store.db import Database, open_sqlite
from deodar.store.logs import Logs

TOKEN = "11111111-2222-4333-8444-555555555555"
EMAIL = "ada@example.com"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TYPES = {"web": "gunicorn app:app", "worker": "python worker.py"}


@dataclass(kw_only=True)
class World:
    context: Context
    client: httpx.AsyncClient
    rung: list[str]
    moment: list[datetime] = field(default_factory=lambda: [NOW])

    @property
    def db(self) -> Database:
        return self.context.db

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.client.request(method, path, json=body)

    async def create(self, name: str = "example-app") -> Any:
        answer = await self.send("POST", "/apps", {"name": name})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def deploy(
        self, name: str = "example-app", process_types: dict[str, str] | None = None
    ) -> tuple[Slug, Release]:
        """A slug and its release, as the compiler makes them."""
        async with self.db.write() as tx:
            app = await apps.find(tx, name)
            assert app is not None
            slug = Slug(
                id=str(uuid.uuid4()),
                app_id=app.id,
                checksum=f"SHA256:{'ab' * 32}",
                size=1234,
                stack=app.build_stack,
                commit="1a2b3c4d5e6f",
                commit_description="Say hello",
                buildpack_description="Python",
                process_types=TYPES if process_types is None else process_types,
                created_at=NOW,
            )
            await ledger.insert_slug(tx, slug)
            release = await releases.deploy(
                tx, app, slug, description="Deploy 1a2b3c4d", user=EMAIL, now=NOW
            )
        return slug, release

    async def wish_build(self, name: str = "example-app") -> Build:
        async with self.db.write() as tx:
            app = await apps.find(tx, name)
            assert app is not None
            return await wishes.create(
                tx,
                app,
                build_id=wishes.new_id(),
                commit="1a2b3c4d5e6f",
                commit_description="Say hello",
                user=EMAIL,
                now=self.moment[0],
            )

    async def start(self, app_id: str, number: int, **changes: Any) -> Dyno:
        """A dyno as the manifold has it in the store once it is up."""
        async with self.db.write() as tx:
            release = await ledger.current(tx, app_id)
            assert release is not None
            about: dict[str, Any] = {
                "id": str(uuid.uuid4()),
                "app_id": AppId(app_id),
                "type": "web",
                "number": number,
                "kind": Kind.FORMATION,
                "size": "Basic",
                "command": TYPES["web"],
                "release_id": release.id,
                "release_version": release.version,
                "slug_id": release.slug_id,
                "state": State.UP,
                "state_since": NOW,
                "created_at": NOW,
            }
            dyno = Dyno(**(about | changes))
            await dynos.insert_dyno(tx, dyno)
        return dyno

    async def dynos(self, app_id: str) -> list[Dyno]:
        async with self.db.read() as tx:
            return await dynos.of_app(tx, app_id)

    async def log(self, app_id: str) -> list[str]:
        lines, _ = await self.context.logs.last(app_id, 100)
        return [f"{line.source}[{line.dyno}]: {line.text}" for line in lines]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    bell, rung = Bell(), list[str]()
    bell.listen(rung.append)
    db = open_sqlite(tmp_path / "deodar.db", key=Fernet.generate_key(), bell=bell)
    (tmp_path / "logs").mkdir()
    logs = Logs(tmp_path / "logs")
    moment = [NOW]
    context = Context(
        db=db,
        logs=logs,
        clock=lambda: moment[0],
        settings=settings.read({"DEODAR_DATA": str(tmp_path)}),
        signers=Signers.of(b"a key of the tests"),
        dice=random.Random(7),
    )
    async with db.write() as tx:
        await accounts.ensure_owner(tx, email=EMAIL, token=TOKEN, now=NOW)
    transport = httpx.ASGITransport(create_app(context))
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://localhost:5080",
        headers={
            "Authorization": f"Bearer {TOKEN}",
            "Accept": "application/vnd.heroku+json; version=3",
        },
    ) as client:
        yield World(context=context, client=client, rung=rung, moment=moment)
    logs.close()
    await db.close()


Conforms = Callable[[str, Any], None]


@pytest.fixture
def conforms() -> Conforms:
    """Checks a value against Heroku's own schema of a noun, with every field there that it names."""

    def check(noun: str, value: Any) -> None:
        _validator(noun).validate(value)

    return check


@cache
def _validator(noun: str) -> Any:
    root = json.loads((Path(__file__).parent / "schema/platform-api-schema.json").read_text())
    for name in ("git_url", "web_url"):
        # Their patterns name Heroku's own hosts.
        root["definitions"]["app"]["definitions"][name].pop("pattern")
    formats = jsonschema.FormatChecker(formats=("uuid",))

    @formats.checks("date-time", raises=ValueError)
    def is_moment(value: object) -> bool:
        return not isinstance(value, str) or bool(datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ"))

    extend: Any = jsonschema.validators.extend  # untyped
    strict = extend(jsonschema.Draft4Validator, {"strictProperties": _all_are_there})
    schema = {"$ref": f"#/definitions/{noun}", "definitions": root["definitions"]}
    return strict(schema, format_checker=formats)


def _all_are_there(_validator: Any, strict: bool, instance: Any, schema: Any) -> Any:
    """interagent's hyper-schema: with `strictProperties` all properties are required. More of them
    are forbidden as well; ours are tolerated."""
    if strict and isinstance(instance, dict):
        for name in schema.get("properties", {}).keys() - instance.keys():
            yield jsonschema.ValidationError(f"{name!r} is missing")

"""The git door, met by the real git client over real TLS, with the real hook on the other side."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from cryptography.fernet import Fernet
from starlette.applications import Starlette

from deodar.adapters.ca import Authority
from deodar.adapters.git import Repositories
from deodar.api import git
from deodar.api.outputs import Outputs
from deodar.api.pushes import Pushes
from deodar.kit import clock, subprocess
from deodar.kit.loop import Bell
from deodar.model.app import Account, App, AppId
from deodar.model.build import Build, BuildStatus
from deodar.store import accounts, apps, builds
from deodar.store.db import Database, open_sqlite

TOKEN = "ac0ffee0-0000-4000-8000-000000000000"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = Account(id="owner", email="ada@example.com", created_at=NOW)


@dataclass
class Finished:
    status: int
    said: str  #: stdout and stderr, without git's progress


@dataclass
class Platform:
    """The git door alone: no compiler stands behind it unless a test plays one."""

    db: Database
    repositories: Repositories
    data: Path
    work: Path  #: the pusher's working tree
    url: str
    certificate: Path

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSL_CAINFO": str(self.certificate),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.com",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.com",
        }

    async def git(self, *arguments: str) -> Finished:
        finished = await subprocess.run_unchecked(
            "git", *arguments, cwd=self.work, env=self.environment()
        )
        return Finished(finished.status, (finished.stdout + finished.stderr).decode())

    async def commit(self, name: str = "Procfile", text: str = "web: ./serve\n") -> str:
        (self.work / name).write_text(text)
        await self.git("add", "--all")
        await self.git("commit", "--quiet", "-m", f"Add {name}\n\nAt length.")
        return (await self.git("rev-parse", "HEAD")).said.strip()

    async def build(self) -> Build:
        """The next build that is wished."""
        async with asyncio.timeout(10):
            while True:
                async with self.db.read() as tx:
                    pending = await builds.pending(tx)
                if pending:
                    return pending[0]
                await asyncio.sleep(0.01)

    def write(self, build: Build, text: str) -> None:
        with (self.data / "builds" / f"{build.id}.log").open("a") as file:
            file.write(text)

    async def end(self, build: Build, status: BuildStatus) -> None:
        async with self.db.write() as tx:
            await builds.update_build(tx, replace(build, status=status))

    async def compile(self, text: str, status: BuildStatus = BuildStatus.SUCCEEDED) -> Build:
        """Plays the compiler for one build."""
        build = await self.build()
        self.write(build, text)
        await self.end(build, status)
        return build


class Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@asynccontextmanager
async def serving(door: git.Door, authority: Authority) -> AsyncIterator[int]:
    certificate, key = authority.server_certificate(("localhost",))
    config = uvicorn.Config(
        Starlette(routes=git.routes(door)),
        port=0,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await server.listens.wait()
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    data = tmp_path / "data"
    (data / "run").mkdir(parents=True)
    (data / "builds").mkdir()
    db = open_sqlite(data / "deodar.db", key=Fernet.generate_key(), bell=Bell())
    async with db.write() as tx:
        await accounts.create(tx, OWNER, token=TOKEN)
        await apps.insert_app(
            tx,
            App(
                id=AppId("app-1"),
                name="quiet-meadow",
                owner=OWNER,
                slot=0,
                uid=20_000,
                created_at=NOW,
                updated_at=NOW,
            ),
        )
    repositories = Repositories(data / "repos", hooks=data / "run" / "hooks")
    repositories.prepare()
    outputs = Outputs(db, data / "builds")
    pushes = Pushes(
        db,
        clock.wall,
        repositories,
        outputs,
        builds=data / "builds",
        socket=data / "run" / "hook.sock",
    )
    work = tmp_path / "work"
    work.mkdir()
    authority = Authority(tmp_path / "ca")
    authority.ensure()
    async with asyncio.TaskGroup() as group:
        hooks = group.create_task(pushes.serve())
        async with serving(git.Door(db, repositories, pushes), authority) as port:
            url = f"https://heroku:{TOKEN}@localhost:{port}/quiet-meadow.git"
            made = Platform(db, repositories, data, work, url, authority.certificate)
            await made.git("init", "--quiet", "--initial-branch=main")
            await made.git("remote", "add", "heroku", url)
            yield made
        hooks.cancel()
    await db.close()


async def test_a_push_to_main_becomes_a_build_and_shows_its_output(platform: Platform) -> None:
    commit = await platform.commit()

    push, build = await asyncio.gather(
        platform.git("push", "heroku", "main"),
        platform.compile("-----> Cedar app detected\nVerifying deploy... done.\n"),
    )

    assert (push.status, remote(push.said)) == (
        0,
        [
            "Compressing source files... done.",
            "Building source:",
            "",
            "-----> Cedar app detected",
            "Verifying deploy... done.",
        ],
    )
    assert (build.commit, build.commit_description, build.user) == (
        commit,
        "Add Procfile",
        "ada@example.com",
    )
    assert await platform.repositories.head("app-1") == commit


def remote(said: str) -> list[str]:
    """What the platform said through git."""
    return [
        line.removeprefix("remote: ").rstrip()
        for line in said.splitlines()
        if line.startswith("remote: ")
    ]

"""The git door, met by the real git client over real TLS, with the real hook on the other side."""

import asyncio
import gzip
import os
import resource
import socket
import ssl
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography.fernet import Fernet
from starlette.applications import Starlette

from deodar.actions import releases
from deodar.adapters.ca import Authority
from deodar.adapters.disk import Disk
from deodar.adapters.git import Repositories
from deodar.api import git
from deodar.api.outputs import Outputs
from deodar.api.pushes import Pushes
from deodar.kit import clock, subprocess
from deodar.kit.loop import Bell
from deodar.model.app import Account, App, AppId
from deodar.model.build import Build, BuildStatus
from deodar.store import accounts, apps, builds
from deodar.store import releases as ledger
from deodar.store.db import Database, open_sqlite

TOKEN = "ac0ffee0-0000-4000-8000-000000000000"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = Account(id="owner", email="ada@example.com", created_at=NOW)
ANOTHER = Account(id="another", email="grace@example.com", created_at=NOW)


def an_app(number: int, name: str, owner: Account) -> App:
    return App(
        id=AppId(f"app-{number}"),
        name=name,
        owner=owner,
        slot=number,
        uid=20_000 + number,
        created_at=NOW,
        updated_at=NOW,
    )


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
    hooks: asyncio.Task[None]  #: serves them

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

    def client(self) -> httpx.AsyncClient:
        """Speaks plain HTTP with the repository."""
        return httpx.AsyncClient(
            base_url=self.url.replace(f"heroku:{TOKEN}@", ""),
            verify=ssl.create_default_context(cafile=self.certificate),
            auth=("", TOKEN),
        )

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
        await accounts.create(tx, ANOTHER, token="another")
        await apps.insert_app(tx, an_app(1, "quiet-meadow", OWNER))
        await apps.insert_app(tx, an_app(2, "anothers-app", ANOTHER))
    repositories = Repositories(data / "repos", hooks=data / "run" / "hooks")
    repositories.prepare()
    outputs = Outputs(db, data / "builds")
    pushes = Pushes(
        db,
        clock.wall,
        repositories,
        outputs,
        disk=Disk([data], floor=0),
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
            made = Platform(db, repositories, data, work, url, authority.certificate, hooks)
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


async def test_a_build_that_fails_refuses_the_push(platform: Platform) -> None:
    await platform.commit()

    push, _ = await asyncio.gather(
        platform.git("push", "heroku", "main"),
        platform.compile(" !     No app detected\n", BuildStatus.FAILED),
    )

    assert push.status == 1
    assert remote(push.said)[-1] == " !     No app detected"
    assert " ! [remote rejected] main -> main (pre-receive hook declined)" in push.said
    assert await platform.repositories.head("app-1") is None


async def test_output_is_seen_line_by_line_while_the_build_goes_on(platform: Platform) -> None:
    await platform.commit()
    seen: asyncio.Queue[str] = asyncio.Queue()
    pushing = asyncio.create_task(
        subprocess.run_telling(
            *("git", "-C", str(platform.work), "push", "heroku", "main"),
            on_line=seen.put_nowait,
            env=platform.environment(),
        )
    )
    build = await platform.build()

    platform.write(build, "-----> Installing\n")
    async with asyncio.timeout(10):
        while "Installing" not in await seen.get():
            pass
    assert not pushing.done()

    await platform.end(build, BuildStatus.SUCCEEDED)
    await pushing


async def test_the_source_is_what_was_committed_and_nothing_else(platform: Platform) -> None:
    await platform.commit("app.py", "print()\n")
    (platform.work / "untracked").write_text("not pushed")

    _, build = await asyncio.gather(
        platform.git("push", "heroku", "main"), platform.compile("done\n")
    )

    with tarfile.open(platform.data / "builds" / build.id / "source.tar") as archive:
        assert archive.getnames() == ["app.py"]


async def test_what_was_pushed_can_be_cloned(platform: Platform) -> None:
    commit = await platform.commit()
    await asyncio.gather(platform.git("push", "heroku", "main:master"), platform.compile("done\n"))

    for version in ("0", "2"):
        target = platform.work.parent / f"clone-{version}"
        clone = await platform.git(
            "-c", f"protocol.version={version}", "clone", platform.url, str(target)
        )

        assert clone.status == 0, clone.said
        head = await platform.git("-C", str(target), "rev-parse", "HEAD", "master")
        assert head.said.split() == [commit, commit]


async def test_a_request_may_come_compressed(platform: Platform) -> None:
    commit = await platform.commit()
    await platform.git("push", "heroku", "main:feature")
    asks = b"0014command=ls-refs\n00010000"

    async with platform.client() as client:
        answers = [
            await client.post(
                "/git-upload-pack",
                content=content,
                headers={"Git-Protocol": "version=2", **headers},
            )
            for content, headers in (
                (asks, {}),
                (gzip.compress(asks), {"Content-Encoding": "gzip"}),
            )
        ]

    listed = f"0040{commit} refs/heads/feature\n0000"
    assert [answer.text for answer in answers] == [listed] * 2


async def test_a_request_that_is_not_what_it_says_does_no_harm(platform: Platform) -> None:
    async with platform.client() as client:
        answer = await client.post(
            "/git-upload-pack", content=b"no gzip", headers={"Content-Encoding": "gzip"}
        )

    assert (answer.status_code, answer.content) == (200, b"")


async def test_another_branch_is_kept_but_not_built(platform: Platform) -> None:
    await platform.commit()

    push = await platform.git("push", "heroku", "main:feature", "main:refs/tags/v1")

    assert push.status == 0
    assert remote(push.said) == [
        " !     Pushed to non-main branch, skipping build.",
        " !     To deploy, push to main: git push heroku <branch>:main",
    ]
    listed = await platform.git("ls-remote", "heroku")
    assert [ref.split()[1] for ref in listed.said.splitlines()] == [
        "refs/heads/feature",
        "refs/tags/v1",
    ]


async def test_the_branch_that_is_deployed_cannot_be_deleted(platform: Platform) -> None:
    await platform.commit()
    await asyncio.gather(platform.git("push", "heroku", "main"), platform.compile("done\n"))

    push = await platform.git("push", "heroku", ":main")

    assert push.status == 1
    assert remote(push.said) == [
        " !     The branch main is what is deployed: it cannot be deleted."
    ]


async def test_history_may_be_rewritten_by_force(platform: Platform) -> None:
    await platform.commit()
    await asyncio.gather(platform.git("push", "heroku", "main"), platform.compile("done\n"))
    await platform.git("commit", "--quiet", "--amend", "-m", "Better")

    plain = await platform.git("push", "heroku", "main")
    forced, build = await asyncio.gather(
        platform.git("push", "--force", "heroku", "main"), platform.compile("done\n")
    )

    assert (plain.status, forced.status, build.commit_description) == (1, 0, "Better")


async def test_a_commit_without_files_is_not_built(platform: Platform) -> None:
    await platform.git("commit", "--quiet", "--allow-empty", "-m", "Nothing")

    push = await platform.git("push", "heroku", "main")

    assert push.status == 1
    assert remote(push.said) == [" !     This commit has no files: there is nothing to build."]


async def test_a_commit_with_submodules_is_not_built(platform: Platform) -> None:
    commit = await platform.commit()
    await platform.git("update-index", "--add", "--cacheinfo", f"160000,{commit},vendor/thing")
    await platform.git("commit", "--quiet", "-m", "A module")

    push = await platform.git("push", "heroku", "main")

    assert push.status == 1
    assert remote(push.said)[0] == " !     Submodules are not fetched: vendor/thing."
    assert list((platform.data / "builds").iterdir()) == []


async def test_a_second_push_is_refused_while_the_first_is_built(platform: Platform) -> None:
    await platform.commit()
    first = asyncio.create_task(platform.git("push", "heroku", "main"))
    build = await platform.build()

    second = await platform.git("push", "heroku", "main")
    await platform.end(build, BuildStatus.SUCCEEDED)

    assert (second.status, (await first).status) == (1, 0)
    assert remote(second.said)[0] == (
        " !     Another push to this app is being built. Push again when it has ended."
    )
    assert [folder.name for folder in (platform.data / "builds").iterdir()] == [build.id]


async def newest_only(platform: Platform) -> None:
    """The app wants its newest build alone."""
    async with platform.db.write() as tx:
        app = await apps.find(tx, "app-1")
        assert app is not None
        await releases.first(tx, app, user=OWNER.email, now=NOW)
        await releases.set_config(tx, app, {"DEODAR_NEWEST_BUILD": "on"}, user=OWNER.email, now=NOW)


async def test_a_newer_push_supersedes_one_that_waits_where_the_app_says_so(
    platform: Platform,
) -> None:
    await newest_only(platform)
    await platform.commit()
    first = asyncio.create_task(platform.git("push", "heroku", "main"))
    await platform.build()
    commit = await platform.commit("work.py", "")
    second = asyncio.create_task(platform.git("push", "heroku", "main"))

    older = await first
    await platform.compile("done\n")

    assert (older.status, remote(older.said)[-1], (await second).status) == (
        1,
        " !     Build canceled: a newer one was pushed",
        0,
    )
    assert await platform.repositories.head("app-1") == commit


async def test_a_push_whose_build_was_released_is_not_superseded(platform: Platform) -> None:
    await newest_only(platform)
    await platform.commit()
    first = asyncio.create_task(platform.git("push", "heroku", "main"))
    build = await platform.build()
    async with platform.db.write() as tx:
        current = await ledger.current(tx, "app-1")
        assert current is not None
        released = replace(build, started_at=NOW, release_id=current.id)
        await builds.update_build(tx, released)

    second = await platform.git("push", "heroku", "main")
    await platform.end(released, BuildStatus.SUCCEEDED)

    assert (second.status, (await first).status) == (1, 0)
    assert remote(second.said)[-1] == (
        " !     Another push to this app is being built. Push again when it has ended."
    )
    assert [folder.name for folder in (platform.data / "builds").iterdir()] == [build.id]


async def test_a_pusher_who_leaves_does_not_end_the_build(platform: Platform) -> None:
    commit = await platform.commit()
    async with subprocess.talking(
        *("git", "-C", str(platform.work), "push", "heroku", "main"), env=platform.environment()
    ):
        build = await platform.build()
    # killed by now
    platform.write(build, "-----> On and on\n" * 10_000)
    await platform.end(build, BuildStatus.SUCCEEDED)

    async with asyncio.timeout(10):
        while await platform.repositories.head("app-1") != commit:
            await asyncio.to_thread(lambda: None)


async def test_a_platform_that_stops_in_the_midst_says_so(platform: Platform) -> None:
    await platform.commit()
    pushing = asyncio.create_task(platform.git("push", "heroku", "main"))
    await platform.build()

    platform.hooks.cancel()
    push = await pushing

    assert push.status == 1
    assert remote(push.said)[-1] == (" !     The platform restarted during the build. Push again.")


async def test_a_hook_that_finds_nobody_says_so(platform: Platform) -> None:
    await platform.commit()
    platform.hooks.cancel()
    await asyncio.gather(platform.hooks, return_exceptions=True)

    push = await platform.git("push", "heroku", "main")

    assert push.status == 1
    assert remote(push.said) == [" !     The platform does not answer. Push again in a moment."]


async def test_a_large_push_does_not_sit_in_memory(platform: Platform) -> None:
    with (platform.work / "blob").open("wb") as blob:
        for _ in range(32):
            blob.write(os.urandom(1024 * 1024))
    await platform.commit()
    before = peak()

    push, _ = await asyncio.gather(
        platform.git("-c", "core.compression=0", "push", "heroku", "main"),
        platform.compile("done\n"),
    )

    assert push.status == 0
    assert peak() - before < 16 * 1024 * 1024


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_the_repositorys_size_is_known_after_a_push(platform: Platform) -> None:
    await platform.commit()
    await asyncio.gather(platform.git("push", "heroku", "main"), platform.compile("done\n"))

    async with asyncio.timeout(10):
        while True:
            async with platform.db.read() as tx:
                app = await apps.find(tx, "app-1")
            assert app is not None
            if app.repo_size is not None:
                break

    assert app.repo_size == await platform.repositories.size("app-1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({TOKEN: "wrong"}, "Authentication failed"),
        ({f"heroku:{TOKEN}@": ""}, "could not read Username"),
        ({"quiet-meadow": "nobodys-app"}, "not found"),
        ({"quiet-meadow": "anothers-app"}, "403"),
    ],
)
async def test_who_may_not_push_is_told_so(
    platform: Platform, change: dict[str, str], said: str
) -> None:
    await platform.commit()
    url = platform.url
    for old, new in change.items():
        url = url.replace(old, new)

    push = await platform.git("push", url, "main")

    assert (push.status, said in push.said) == (128, True), push.said


async def test_the_files_of_a_repository_are_not_served(platform: Platform) -> None:
    async with platform.client() as client:
        dumb = await client.get("/info/refs")
        file = await client.get("/config")
        odd = await client.post("/git-upload-archive")

    assert (dumb.status_code, file.status_code, odd.status_code) == (403, 405, 403)


def remote(said: str) -> list[str]:
    """What the platform said through git."""
    return [
        line.removeprefix("remote: ").rstrip()
        for line in said.splitlines()
        if line.startswith("remote: ")
    ]

"""Bare repositories, by the real git."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from deodar.adapters import git
from deodar.adapters.git import Repositories
from deodar.kit import subprocess
from deodar.model import errors

APP = "app-1"


@pytest.fixture
async def repositories(tmp_path: Path) -> Repositories:
    made = Repositories(tmp_path / "repos", hooks=tmp_path / "hooks")
    made.prepare()
    await made.ensure(APP)
    return made


async def plumb(repositories: Repositories, *arguments: str, stdin: bytes = b"") -> str:
    """A git command of the test's own on the repository."""
    who = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com"}
    who |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in who.items()}
    finished = await subprocess.run(
        *("git", f"--git-dir={repositories.path(APP)}", *arguments),
        stdin=stdin,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **who},
    )
    return finished.text.strip()


async def commit(repositories: Repositories) -> str:
    """One file, one commit on main."""
    blob = await plumb(repositories, "hash-object", "-w", "--stdin", stdin=b"web: ./serve\n")
    tree = await plumb(repositories, "mktree", stdin=f"100644 blob {blob}\tProcfile\n".encode())
    made = await plumb(repositories, "commit-tree", tree, "-m", "Say hello\n\nAt length.")
    await plumb(repositories, "update-ref", "refs/heads/main", made)
    return made


async def test_a_new_repository_has_no_head(repositories: Repositories) -> None:
    assert await repositories.head(APP) is None
    assert await repositories.head("unknown") is None


async def test_a_repository_is_made_once(repositories: Repositories) -> None:
    made = await commit(repositories)

    await asyncio.gather(repositories.ensure(APP), repositories.ensure(APP))

    assert await repositories.head(APP) == made


async def test_head_is_the_branch_it_is_pointed_at(repositories: Repositories) -> None:
    made = await commit(repositories)
    await repositories.point_head(APP, "refs/heads/master")
    before = await repositories.head(APP)
    await plumb(repositories, "update-ref", "refs/heads/master", made)

    assert (before, await repositories.head(APP)) == (None, made)


async def test_the_size_is_that_of_all_files(repositories: Repositories) -> None:
    before = await repositories.size(APP)
    (repositories.path(APP) / "objects" / "more").write_bytes(b"x" * 1000)

    assert await repositories.size(APP) == before + 1000


async def test_tidying_loses_nothing(repositories: Repositories) -> None:
    made = await commit(repositories)

    await repositories.tidy(APP)

    assert await repositories.head(APP) == made


async def test_what_git_says_is_kept_in_the_error(repositories: Repositories) -> None:
    with pytest.raises(errors.Unavailable, match="Refusing to point HEAD outside of refs/"):
        await repositories.point_head(APP, "main")


def test_a_push_is_served_with_nothing_of_the_machine_but_its_path() -> None:
    repositories = Repositories(Path("/data/repos"), hooks=Path("/data/hooks"))

    command = repositories.serve(
        APP,
        "git-receive-pack",
        advertise=False,
        version="version=2",
        variables={"DEODAR_APP_ID": APP},
    )

    assert command.env == {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "DEODAR_APP_ID": APP,
    }
    assert command.argv[:3] == ("git", "-c", "core.hooksPath=/data/hooks")
    assert command.argv[-3:] == ("receive-pack", "--stateless-rpc", "/data/repos/app-1.git")


@pytest.mark.parametrize(
    ("version", "told"),
    [("version=2", "version=2"), ("version=1", "version=1"), ("x=$(id)", None), (None, None)],
)
def test_a_fetch_speaks_the_version_that_the_client_asks_for(
    version: str | None, told: str | None
) -> None:
    repositories = Repositories(Path("/data/repos"), hooks=Path("/data/hooks"))

    command = repositories.serve(APP, "git-upload-pack", advertise=True, version=version)

    assert command.env.get("GIT_PROTOCOL") == told
    assert command.argv[-4:] == (
        "upload-pack",
        "--stateless-rpc",
        "--http-backend-info-refs",
        "/data/repos/app-1.git",
    )


async def test_the_hook_is_run_by_this_python_without_the_users_packages(
    repositories: Repositories, tmp_path: Path
) -> None:
    hook = tmp_path / "hooks" / "pre-receive"
    script = Path(git.__file__).parent.parent / "hooks" / "pre_receive.py"

    assert hook.read_text() == f"#!/bin/sh\nexec {sys.executable} -IS {script}\n"
    assert hook.stat().st_mode & 0o777 == 0o700


async def test_a_tree_that_leaves_its_folder_is_refused(repositories: Repositories) -> None:
    """fsck stands at the door: what is archived later has only names that stay inside."""
    blob = await plumb(repositories, "hash-object", "-w", "--stdin", stdin=b"evil")
    entry = b"100644 ..\0" + bytes.fromhex(blob)
    tree = await plumb(
        repositories, "hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=entry
    )
    made = await plumb(repositories, "commit-tree", tree, "-m", "Evil")
    await plumb(repositories, "update-ref", "refs/heads/main", made)
    await repositories.ensure("victim")
    command = repositories.serve("victim", "git-receive-pack", advertise=False)
    settings = command.argv[1 : command.argv.index("receive-pack")]

    with pytest.raises(subprocess.CommandFailed) as refused:
        await plumb(
            repositories,
            "push",
            f"--receive-pack=git {' '.join(settings)} receive-pack",
            str(repositories.path("victim")),
            "main",
        )

    assert "hasDotdot" in refused.value.stderr

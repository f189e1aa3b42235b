"""Bare git repositories, one per app, and the git commands on them; what a push means is others'.

Nothing of a pushed repository is ever executed: no config of the machine or of a user is read, hooks
come from a folder of ours, and objects are only archived, never checked out.
"""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deodar.kit import subprocess
from deodar.model import errors

INPUT_LIMIT = 1024**3  #: bytes of one push's pack

#: Faults of old commits that harm nobody; everything else that fsck knows, such as paths which
#: would leave the tree, is refused at the door.
HARMLESS = (
    "badTimezone",
    "missingSpaceBeforeDate",
    "zeroPaddedFilemode",
    "zeroPaddedDate",
    "multipleAuthors",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeEmail",
    "gitmodulesUrl",
    "gitmodulesParse",
)
SERVICES = ("git-receive-pack", "git-upload-pack")
VERSION = re.compile(r"version=[012]")


@dataclass(frozen=True, slots=True)
class Command:
    """A git command, ready to be run: its argv and its whole environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


class Repositories:
    """The repositories below `directory`, each `<app id>.git`, made at first use."""

    def __init__(self, directory: Path, *, hooks: Path) -> None:
        self._directory = directory
        self._hooks = hooks  #: a folder of ours: it is made here, and may be lost at any time

    def prepare(self) -> None:
        """Once before use: puts the hook where git looks for it."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hooks.mkdir(mode=0o700, parents=True, exist_ok=True)
        script = Path(__file__).parent.parent / "hooks" / "pre_receive.py"
        hook = self._hooks / "pre-receive"
        # -I -S: no user's PYTHON* variables and no site-packages; it starts in half the time
        hook.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-IS', str(script)])}\n")
        hook.chmod(0o700)

    def path(self, app_id: str) -> Path:
        return self._directory / f"{app_id}.git"

    async def ensure(self, app_id: str) -> None:
        """The app's repository is there. May be repeated, and by several at once."""
        path = self.path(app_id)
        if not (path / "HEAD").exists():
            await self._run("init", "--quiet", "--bare", "--initial-branch=main", str(path))

    async def head(self, app_id: str) -> str | None:
        """The commit that was deployed last by push; None before the first."""
        if not self.path(app_id).exists():
            return None
        command = self._on(app_id, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        try:
            finished = await subprocess.run_unchecked(*command.argv, env=command.env)
        except subprocess.CommandFailed as error:
            raise _unavailable(error) from error
        return finished.text.strip() or None

    async def point_head(self, app_id: str, ref: str) -> None:
        """`ref` is the branch that a clone gets."""
        await self._finish(self._on(app_id, "symbolic-ref", "HEAD", ref))

    async def tidy(self, app_id: str) -> None:
        """Packs what many pushes left behind, when there is enough of it."""
        await self._finish(self._on(app_id, "gc", "--auto", "--quiet"), timeout=15 * 60)

    async def size(self, app_id: str) -> int:
        """Bytes that the repository takes on disk."""
        return await asyncio.to_thread(_size, self.path(app_id))

    def serve(
        self,
        app_id: str,
        service: str,
        *,
        advertise: bool,
        version: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Command:
        """The git side of one smart HTTP request; its hooks see `variables`.

        `version` is the client's Git-Protocol header. Pushing has no version 2.
        """
        env = {**_environment(), **(variables or {})}
        if service == "git-upload-pack" and version and VERSION.fullmatch(version):
            env["GIT_PROTOCOL"] = version
        return Command(
            (
                *_git(self._hooks),
                service.removeprefix("git-"),
                "--stateless-rpc",
                *(["--http-backend-info-refs"] if advertise else []),
                str(self.path(app_id)),
            ),
            env,
        )

    def _on(self, app_id: str, *arguments: str) -> Command:
        path = str(self.path(app_id))
        return Command((*_git(self._hooks), f"--git-dir={path}", *arguments), _environment())

    async def _run(self, *arguments: str) -> None:
        await self._finish(Command((*_git(self._hooks), *arguments), _environment()))

    async def _finish(self, command: Command, *, timeout: float = 60) -> str:
        try:
            finished = await subprocess.run(*command.argv, env=command.env, timeout=timeout)
        except subprocess.CommandFailed as error:
            raise _unavailable(error) from error
        return finished.text


def _git(hooks: Path) -> tuple[str, ...]:
    settings = {
        "core.hooksPath": str(hooks),
        "safe.directory": "*",
        "receive.maxInputSize": str(INPUT_LIMIT),
        "receive.fsckObjects": "true",
        **{f"receive.fsck.{name}": "ignore" for name in HARMLESS},
        # a push does not wait for it; `tidy` does it afterwards
        "receive.autogc": "false",
        "gc.autoDetach": "false",
        "gc.pruneExpire": "1.day.ago",
    }
    return ("git", *(part for pair in settings.items() for part in ("-c", "=".join(pair))))


def _environment() -> dict[str, str]:
    """All that git and the hook may know of where they run."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue  # git renames and deletes files of its own while we look
    return total


def _unavailable(error: subprocess.CommandFailed) -> errors.Unavailable:
    return errors.Unavailable(f"The git repository cannot be used: {error}")

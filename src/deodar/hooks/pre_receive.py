"""What a push meets before git takes it: says which commit is built, and shows the build to the pusher.

git starts this with the pushed objects in quarantine; when it ends with 1, nothing of the push stays.
Standalone and of few imports, since every push waits for its start (11 ms, 25 with `subprocess`).
The build itself, and everything that is known of it, is the control plane's, at the other end of a
unix socket. The talk is in lines, fields between tabs:

    hook      push <app id> <user>
    platform  build <build id>              or   refuse <words>
    hook      source <ref> <commit> <commit's first line>
    platform  output <n>, then n bytes      as often as there is output;   or   refuse <words>
    platform  end <exit status>
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple, Protocol

DEPLOYED = ("refs/heads/main", "refs/heads/master")  #: the first one pushed is built
ABSENT = "0" * 40
SUBMODULE = b"160000 "

SKIPPED = (
    " !     Pushed to non-main branch, skipping build.",
    " !     To deploy, push to main: git push heroku <branch>:main",
)
RESTARTED = " !     The platform restarted during the build. Push again."
AWAY = " !     The platform does not answer. Push again in a moment."


class Update(NamedTuple):
    """One line that git tells the hook: a ref's value before and after."""

    old: str
    new: str
    ref: str


class Build(NamedTuple):
    """Build what `update` points at."""

    update: Update


class Store(NamedTuple):
    """Take the refs, build nothing."""

    words: tuple[str, ...]


class Refuse(NamedTuple):
    """Take nothing."""

    words: tuple[str, ...]


class Refused(Exception):
    """The platform does not take this push; the words say why."""


class Say(Protocol):
    def __call__(self, data: bytes, /) -> object: ...


def decide(updates: Sequence[Update]) -> Build | Store | Refuse:
    """What a push of these refs asks for."""
    for update in updates:
        if update.ref in DEPLOYED and is_deletion(update):
            branch = update.ref.removeprefix("refs/heads/")
            return Refuse(
                (f" !     The branch {branch} is what is deployed: it cannot be deleted.",)
            )
    for ref in DEPLOYED:
        for update in updates:
            if update.ref == ref:
                return Build(update)
    return Store(() if all(map(is_deletion, updates)) else SKIPPED)


def is_deletion(update: Update) -> bool:
    return update.new.strip("0") == ""


def parse(lines: Iterable[str]) -> list[Update]:
    return [Update(*line.split()) for line in lines]


def objection(tree: bytes) -> str | None:
    """Why a commit cannot be built, from `git ls-tree -r` of it; None if it can."""
    entries = tree.splitlines()
    if not entries:
        return " !     This commit has no files: there is nothing to build."
    modules = [entry.split(b"\t", 1)[1] for entry in entries if entry.startswith(SUBMODULE)]
    if modules:
        names = b", ".join(modules).decode(errors="replace")
        return (
            f" !     Submodules are not fetched: {names}.\n"
            " !     Add their files to this repository instead, for example with git subtree."
        )
    return None


def build(update: Update, *, app_id: str, user: str, builds: str, address: str, say: Say) -> int:
    """Hands the commit to the platform and says what the build says. Answers the exit status."""
    why = objection(git("ls-tree", "-r", "--full-tree", update.new))
    if why is not None:
        say(why.encode() + b"\n")
        return 1
    subject = git("show", "-s", "--format=%s", update.new).decode(errors="replace").strip()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as platform:
            platform.connect(address)
            with platform.makefile("rb") as incoming:
                send(platform, "push", app_id, user)
                build_id = receive(incoming, "build")
                say(b"Compressing source files... ")
                pack(update.new, os.path.join(builds, build_id))
                say(b"done.\nBuilding source:\n\n")
                send(platform, "source", update.ref, update.new, subject)
                return relay(incoming, say)
    except Refused as refusal:
        say(f" !     {refusal}\n".encode())
    except (FileNotFoundError, ConnectionRefusedError):
        say(AWAY.encode() + b"\n")
    except (ConnectionError, EOFError):
        say(b"\n" + RESTARTED.encode() + b"\n")
    return 1


def pack(commit: str, folder: str) -> None:
    """Writes the commit's files as `source.tar`, complete or not under that name at all."""
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, "source.tar")
    git("archive", "--format=tar", f"--output={target}.part", commit)
    os.rename(f"{target}.part", target)


def relay(incoming: BinaryIO, say: Say) -> int:
    while True:
        word, _, rest = read_line(incoming).partition("\t")
        match word:
            case "output":
                size = int(rest)
                data = incoming.read(size)
                say(data)
                if len(data) < size:
                    raise EOFError
            case "end":
                return int(rest)
            case _:
                raise Refused(rest)


def send(platform: socket.socket, *fields: str) -> None:
    line = "\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields)
    platform.sendall(line.encode() + b"\n")


def receive(incoming: BinaryIO, expected: str) -> str:
    word, _, rest = read_line(incoming).partition("\t")
    if word != expected:
        raise Refused(rest)
    return rest


def read_line(incoming: BinaryIO) -> str:
    line = incoming.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return line[:-1].decode()


def git(*arguments: str) -> bytes:
    return subprocess.run(("git", *arguments), stdout=subprocess.PIPE, check=True).stdout


def say_to_pusher(data: bytes) -> None:
    """To git's side-band at once: no buffer, so that each line is seen when it is made."""
    while data:
        data = data[os.write(1, data) :]


def main() -> int:
    decision = decide(parse(sys.stdin))
    match decision:
        case Build(update):
            return build(
                update,
                app_id=os.environ["DEODAR_APP_ID"],
                user=os.environ["DEODAR_USER"],
                builds=os.environ["DEODAR_BUILDS"],
                address=os.environ["DEODAR_HOOK_SOCKET"],
                say=say_to_pusher,
            )
        case Store(words) | Refuse(words):
            for word in words:
                say_to_pusher(word.encode() + b"\n")
            return int(isinstance(decision, Refuse))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        sys.exit(1)  # receive-pack is gone; nobody is left to tell

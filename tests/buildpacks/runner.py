"""Runs buildpacks as a build does: in a real stack, in namespaces of its own, as a user that is not
root; with the driver, volumes and environment of `loops/compiler/buildpack.py`, and no engine."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deodar.loops.compiler import buildpack

UID = 31_234

#: root of the stack, command, then source, target and rights of each volume
CONTAIN = """
root=$1; shift
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
[ "$ALONE" = no ] || ip link set lo up
unset ALONE
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi
  mount --bind "$1" "$root$2"
  mount -o "remount,bind,$3" "$root$2"
  shift 3
done
shift
exec chroot "$root" setpriv --reuid UID --regid UID --clear-groups --no-new-privs \
  sh -c 'cd /app && exec "$@"' sh "$@"
""".replace("UID", str(UID))


@dataclass(frozen=True)
class Built:
    status: int
    output: str
    app: Path
    result: Path

    @property
    def outcome(self) -> buildpack.Outcome:
        return buildpack.outcome(self.result, self.app, status=self.status)


@dataclass(frozen=True)
class Visit:
    answers: str
    log: str  #: what the web process wrote
    status: int  #: how it ended after SIGTERM


class Workshop:
    """One app's builds: its cache stays from one to the next."""

    def __init__(self, stack: Path, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.cache = folder / "cache"
        self.builds = 0

    def build(
        self,
        source: Path,
        *,
        asked: Sequence[str] = (),
        others: Mapping[str, Path] | None = None,
        config: Mapping[str, str] | None = None,
        offline: bool = False,
    ) -> Built:
        """Builds a copy of `source` with the buildpacks asked for; none means detect. Offline it has
        a network of its own with nothing in it."""
        command = buildpack.command(asked)
        return self._drive(source, command, asked, others, config, offline=offline)

    def test(
        self,
        source: Path,
        *,
        asked: Sequence[str],
        others: Mapping[str, Path],
        config: Mapping[str, str] | None = None,
    ) -> Built:
        """Makes a test run of a copy of `source`."""
        command = buildpack.test_command(asked)
        return self._drive(source, command, asked, others, config, offline=True)

    def _drive(
        self,
        source: Path,
        command: Sequence[str],
        asked: Sequence[str],
        others: Mapping[str, Path] | None,
        config: Mapping[str, str] | None,
        *,
        offline: bool,
    ) -> Built:
        self.builds += 1
        here = self.folder / str(self.builds)
        app, env, result = here / "app", here / "env", here / "result"
        shutil.copytree(source, app, symlinks=True)
        for folder in (self.cache, env, result):
            folder.mkdir(parents=True, exist_ok=True)
        for key, value in (config or {}).items():
            (env / key).write_text(value)
        for folder in (app, self.cache, result):
            subprocess.run(["chown", "-R", f"{UID}:{UID}", folder], check=True)
        folders = [
            (identifier, (others or {}).get(identifier) or buildpack.builtin(identifier))
            for identifier in asked
        ] or buildpack.candidates()
        volumes = buildpack.volumes(folders, app=app, cache=self.cache, env=env, result=result)
        environment = buildpack.environment("deodar-12", request_id="test", source_version="abc")
        finished = contain(
            self.stack / "build",
            [(str(v.source), v.target, "rw" if v.writable else "ro") for v in volumes],
            environment,
            command,
            alone=offline,
        )
        return Built(finished.returncode, finished.stdout, app, result)

    def run(self, built: Built, script: str) -> str:
        """What a dyno of the slug prints: the run image, /app read-only, .profile.d sourced."""
        finished = contain(
            self.stack / "run",
            [(str(built.app), "/app", "ro")],
            {"PATH": buildpack.PATH, "HOME": "/app"},
            ("bash", "-c", f"for f in .profile.d/*.sh; do [ -f $f ] && . $f; done; {script}"),
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    def serve(self, built: Built, path: str, *, headers: bool = False) -> str:
        """What the web process answers, in a network of its own."""
        web = built.outcome.process_types["web"]
        curl = "curl --silent --path-as-is" + (" --include" if headers else "")
        url = f"http://127.0.0.1:5000{path}"
        script = (
            "export PORT=5000 GREETING=Ahoy; "
            "for file in .profile.d/*.sh; do [ -f $file ] && . $file; done; "
            f"({web}) > /tmp/log 2>&1 & "
            "for n in $(seq 200); do curl -so /dev/null http://127.0.0.1:5000/ && break; sleep 0.05; done; "
            f"{curl} '{url}' || cat /tmp/log"
        )
        finished = contain(
            self.stack / "run",
            [(str(built.app), "/app", "ro")],
            {"PATH": buildpack.PATH, "HOME": "/app"},
            ("bash", "-c", script),
            alone=True,
        )
        return finished.stdout

    def visit(self, built: Built, script: str) -> Visit:
        """Runs the web process, then `script` with its `$url` and pid `$web`, then ends it."""
        web = built.outcome.process_types["web"]
        finished = contain(
            self.stack / "run",
            [(str(built.app), "/app", "ro")],
            {"PATH": buildpack.PATH, "HOME": "/app", "PORT": "5000", "MEMORY_AVAILABLE": "512"},
            (
                "bash",
                "-c",
                "for file in .profile.d/*.sh; do [ -f $file ] && . $file; done; "
                f"(exec {web}) > /tmp/log 2>&1 & web=$!; url=http://127.0.0.1:5000; "
                "for n in $(seq 500); do curl -so /dev/null $url/ && break; sleep 0.05; done; "
                f"({script}) 2>&1; kill -TERM $web 2> /dev/null; wait $web; "
                'printf "\\0%s\\0" $?; cat /tmp/log',
            ),
            alone=True,
        )
        answers, status, log = finished.stdout.split("\0", 2)
        return Visit(answers, log, int(status))

    def inside(self, source: Path, script: str) -> None:
        """Runs a script in the build image on a source, as a developer does before the push."""
        subprocess.run(["chown", "-R", f"{UID}:{UID}", source], check=True)
        environment = buildpack.environment("deodar-12", request_id="test", source_version=None)
        finished = contain(
            self.stack / "build",
            [(str(source), "/app", "rw")],
            environment | {"HOME": "/tmp"},
            ("bash", "-c", script),
        )
        assert finished.returncode == 0, finished.stdout


def lay(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder of these files; scripts are executable."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if content.startswith("#!") else 0o644)
    return folder


def contain(
    root: Path,
    volumes: Sequence[tuple[str, str, str]],
    environment: Mapping[str, str],
    argv: Sequence[str],
    *,
    alone: bool = False,
) -> subprocess.CompletedProcess[str]:
    flat = [word for volume in volumes for word in volume]
    return subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"),
            *(("--net",) if alone else ()),
            *(
                "env",
                "-i",
                f"ALONE={'yes' if alone else 'no'}",
                *(f"{key}={value}" for key, value in environment.items()),
            ),
            *("sh", "-euc", CONTAIN, "sh", str(root), *flat, "--", *argv),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )


def find_stack() -> Path | None:
    stacks = os.environ.get("DEODAR_TEST_STACKS") or "/var/lib/deodar/stacks"
    stack = Path(stacks) / "deodar-12"
    return stack if (stack / "stack.json").exists() else None

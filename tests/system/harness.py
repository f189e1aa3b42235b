"""A real platform for tests: started by `deodar up`, driven by the official CLI, git and plain requests.

Knows how to ask and what came back; what should come back is each test's.
"""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
APPS = Path(__file__).parent / "apps"

T = TypeVar("T")

#: second bytes of the networks that tests use, from a place of this process's own
_SECONDS = itertools.islice(itertools.cycle(range(64, 244)), os.getpid() % 180, None)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def all(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str


def eventually(check: Callable[[], T], *, within: float = 30) -> T:
    """What `check` answers as soon as it is true; its last failure, or answer, when time is up."""
    end = time.monotonic() + within
    while True:
        try:
            value = check()
            problem: Exception | None = None
        except (AssertionError, OSError, http.client.HTTPException) as error:
            problem = error
        else:
            if value:
                return value
        if time.monotonic() > end:
            if problem is not None:
                raise problem
            raise AssertionError(f"still {value!r} after {within:g} s")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        bound = [
            sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in bound]


def free_subnet() -> str:
    """A network that no device of this machine has, another one at every call."""
    routes = [line.split()[1] for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    # A route's network is hexadecimal, the last byte first.
    taken = {int(route[4:6], 16) for route in routes if route.endswith("0A")}
    second = next(number for number in _SECONDS if number not in taken)
    return f"10.{second}.0.0/16"


@dataclass
class Platform:
    """One platform in a data directory of its own, with ports and addresses of its own."""

    data: Path
    home: Path
    heroku_binary: Path
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path, *, stacks: Path, heroku: Path) -> "Platform":
        """Lays out the folder; stacks are borrowed, since building one takes minutes."""
        data, home = folder / "data", folder / "home"
        data.mkdir(mode=0o711)
        home.mkdir()
        (data / "stacks").mkdir()
        for stack in stacks.glob("[!.]*/stack.json"):
            (data / "stacks" / stack.parent.name).symlink_to(stack.parent.absolute())
        names = ("API", "API_TLS", "RENDEZVOUS", "HTTP", "HTTPS")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        return cls(
            data=data,
            home=home,
            heroku_binary=heroku,
            settings={
                "DEODAR_DATA": str(data),
                # Several test runs, and a user's platform, may share the machine.
                "DEODAR_SUBNET": free_subnet(),
                "DEODAR_EXEC_LISTEN": f"127.1.{os.getpid() % 250}.80",
                "DEODAR_BOOT_TIMEOUT": "10",
                "DEODAR_STOP_TIMEOUT": "10",
                "DEODAR_VITALS_EVERY": "2",
                **{f"DEODAR_{name}_PORT": str(port) for name, port in ports.items()},
            },
        )

    # ---- life ----

    def deodar(self, *arguments: str) -> Result:
        return _run(
            (str(Path(sys.executable).with_name("deodar")), *arguments),
            env=_bare_environment() | self.settings,
            timeout=120,
        )

    def up(self) -> None:
        result = self.deodar("up", "--detach")
        assert result.status == 0, result.stderr

    def down(self) -> None:
        result = self.deodar("down", "--purge")
        assert result.status == 0, result.stderr

    @property
    def pid(self) -> int:
        return int((self.data / "daemon.pid").read_text())

    def kill(self) -> None:
        """kill -9 of the control plane, and nothing else."""
        handle = os.pidfd_open(self.pid)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], 10)
        os.close(handle)

    # ---- asking ----

    @property
    def client(self) -> dict[str, str]:
        values: dict[str, str] = json.loads((self.data / "client.json").read_text())
        return values

    @property
    def environment(self) -> dict[str, str]:
        """A client's environment: what `deodar env` says, and the official CLI on its PATH."""
        bare = _bare_environment()
        return (
            bare
            | self.client
            | {
                "HOME": str(self.home),
                "PATH": f"{self.heroku_binary.parent}:{bare['PATH']}",
                "HEROKU_LOGS_COLOR": "0",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_CONFIG_NOSYSTEM": "1",
            }
        )

    def heroku(
        self, *arguments: str, cwd: Path | None = None, stdin: str = "", timeout: float = 90
    ) -> Result:
        """The official CLI, as installed from npm."""
        return _run(
            (str(self.heroku_binary), *arguments),
            env=self.environment,
            cwd=cwd or self.home,
            stdin=stdin,
            timeout=timeout,
        )

    def heroku_in_terminal(
        self, *arguments: str, typed: str, cwd: Path, timeout: float = 60
    ) -> str:
        """The official CLI in a real terminal, where somebody types as soon as it prompts."""
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            (str(self.heroku_binary), *arguments),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=cwd,
            env=self.environment | {"TERM": "xterm", "PS1": "$ "},
            start_new_session=True,
        )
        os.close(terminal)
        seen, end, pending = b"", time.monotonic() + timeout, typed.encode()
        try:
            while time.monotonic() < end:
                readable, _, _ = select.select([controller], [], [], 0.2)
                if readable:
                    try:
                        data = os.read(controller, 65536)
                    except OSError:  # EIO: the other side has closed
                        break
                    if not data:
                        break
                    seen += data
                if pending and b"$ " in seen:
                    os.write(controller, pending)
                    pending = b""
            process.wait(timeout=10)
        finally:
            process.kill()
            process.wait()
            os.close(controller)
        return seen.decode(errors="replace")

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the Platform API; the decoded answer. Cheaper than the CLI by two seconds."""
        tls = ssl.create_default_context(cafile=self.client["NODE_EXTRA_CA_CERTS"])
        with httpx.Client(verify=tls, trust_env=False, timeout=60) as client:
            answer = client.request(
                method,
                self.client["HEROKU_HOST"] + path,
                json=body,
                headers={
                    "Accept": "application/vnd.heroku+json; version=3",
                    "Authorization": f"Bearer {self.client['HEROKU_API_KEY']}",
                },
            )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def get(self, host: str, path: str = "/", *, timeout: float = 40) -> Answer:
        """A request through the router, as a browser would name the host."""
        port = int(self.settings["DEODAR_HTTP_PORT"])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read().decode())
        finally:
            connection.close()

    def logs(self, app: str, *, lines: int = 500, dyno: str | None = None) -> str:
        session = self.api("POST", f"/apps/{app}/log-sessions", {"lines": lines, "dyno": dyno})
        tls = ssl.create_default_context(cafile=self.client["NODE_EXTRA_CA_CERTS"])
        answer = httpx.get(session["logplex_url"], verify=tls, trust_env=False, timeout=30)
        return answer.text

    def dynos(self, app: str) -> dict[str, str]:
        return {dyno["name"]: dyno["state"] for dyno in self.api("GET", f"/apps/{app}/dynos")}

    def dyno_ids(self, app: str) -> dict[str, str]:
        return {dyno["name"]: dyno["id"] for dyno in self.api("GET", f"/apps/{app}/dynos")}

    def settle(self, app: str, *names: str, within: float = 40) -> None:
        """Waits until exactly these dynos run."""
        wish = dict.fromkeys(names, "up")
        eventually(lambda: _equal(self.dynos(app), wish), within=within)

    def run(self, app: str, command: str, *, timeout: float = 60) -> str:
        """A one-off's output, by the rendezvous protocol, as `heroku run --no-tty` would get it."""
        body = {"command": command, "attach": True, "force_no_tty": True}
        dyno = self.api("POST", f"/apps/{app}/dynos", body)
        url = urlsplit(dyno["attach_url"])
        assert url.hostname is not None
        tls = ssl.create_default_context(cafile=self.client["NODE_EXTRA_CA_CERTS"])
        with (
            socket.create_connection((url.hostname, url.port or 0), timeout=timeout) as plain,
            tls.wrap_socket(plain, server_hostname=url.hostname) as connection,
        ):
            connection.sendall(f"{url.path.lstrip('/')}\r\n".encode())
            received = b""
            while data := connection.recv(65536):
                received += data
        greeting, _, output = received.partition(b"rendezvous\r\n")
        assert greeting == b"", received
        return output.decode(errors="replace")

    # ---- deploying ----

    def create(self, name: str) -> None:
        self.api("POST", "/apps", {"name": name})

    def deploy(self, name: str, source: Path, folder: Path, **formation: int) -> "Repo":
        """A new app with this source, running; one call for tests whose matter comes later."""
        self.create(name)
        repo = Repo.of(source, folder, self, app=name)
        pushed = repo.push()
        assert pushed.status == 0, pushed.all
        if formation:
            updates = [{"type": type, "quantity": quantity} for type, quantity in formation.items()]
            self.api("PATCH", f"/apps/{name}/formation", {"updates": updates})
        return repo


@dataclass(frozen=True)
class Repo:
    """Somebody's working copy, with a remote named heroku."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def of(
        cls, source: Path, folder: Path, platform: Platform, *, app: str | None = None
    ) -> "Repo":
        """A copy of `source` with one commit. Without `app`, the CLI is to add the remote."""
        shutil.copytree(source, folder, dirs_exist_ok=True)
        repo = cls(folder, platform.environment | _IDENTITY)
        repo.git("init", "--initial-branch", "main")
        repo.commit("First commit")
        if app is not None:
            token, host = platform.client["HEROKU_API_KEY"], platform.client["HEROKU_GIT_HOST"]
            repo.git("remote", "add", "heroku", f"https://heroku:{token}@{host}/{app}.git")
        return repo

    def git(self, *arguments: str, timeout: float = 240) -> Result:
        return _run(("git", *arguments), env=self.environment, cwd=self.folder, timeout=timeout)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        result = self.git("commit", "--quiet", "--allow-empty", "--message", message)
        assert result.status == 0, result.all

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def push(self, *refs: str) -> Result:
        return self.git("push", "heroku", *(refs or ("main",)))

    def start_push(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ("git", "push", "heroku", "main"),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


class Load:
    """A steady stream of requests, each on a connection of its own; remembers how each one ended."""

    def __init__(self, port: int, host: str, *, rate: float) -> None:
        self._port, self._host, self._pause = port, host, 1 / rate
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.outcomes: Counter[str] = Counter()

    async def run(self) -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                group.create_task(self._ask())
                due += self._pause
                await asyncio.sleep(max(0, due - time.monotonic()))

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(60):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                request = f"GET / HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError) as error:
            self.outcomes[repr(error)] += 1
            return
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].decode()
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        whole = length is None or len(body) == int(length[1])
        self.outcomes[status if whole else f"{status}, cut off"] += 1

    def stop(self) -> None:
        self._stop.set()

    @property
    def lost(self) -> dict[str, int]:
        return {end: count for end, count in self.outcomes.items() if end != "HTTP/1.1 200 OK"}

    @property
    def total(self) -> int:
        return sum(self.outcomes.values())


@contextmanager
def load(platform: Platform, host: str, *, rate: float = 100) -> Iterator[Load]:
    """Requests for `host` go on while the block runs; all have ended after it."""
    stream = Load(int(platform.settings["DEODAR_HTTP_PORT"]), host, rate=rate)
    loops: list[asyncio.AbstractEventLoop] = []
    started = threading.Event()

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        started.set()
        await stream.run()

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    started.wait()
    try:
        yield stream
    finally:
        loops[0].call_soon_threadsafe(stream.stop)
        thread.join()


_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.test",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.test",
}


def _bare_environment() -> dict[str, str]:
    """Nothing of the caller's but where commands are."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/root")}


def _run(
    argv: tuple[str, ...],
    *,
    env: dict[str, str],
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float,
) -> Result:
    done = subprocess.run(
        argv, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=timeout
    )
    return Result(done.returncode, done.stdout, done.stderr)


def _equal(actual: object, wish: object) -> bool:
    assert actual == wish
    return True

"""The control plane as a process: whether it runs, how to start and end it; what it does is its own."""

import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deodar.cli import output

MODULE = "deodar.daemon"
STACKS_MODULE = "deodar.stacks"
RUN = (sys.executable, "-m", MODULE, "run")
#: a line of how far the work on a stack is
STEP = re.compile(r" *(\d+)% .+")
TERM_SECONDS = 20  #: how long it may take to let go of what it does
LOG_LIMIT = 10_000_000  #: bytes of log that the next start still adds to


@dataclass(frozen=True, slots=True)
class Files:
    """What the daemon leaves in its data directory for others to find."""

    data: Path

    @property
    def pid(self) -> Path:
        return self.data / "daemon.pid"

    @property
    def lock(self) -> Path:
        return self.data / "daemon.lock"

    @property
    def log(self) -> Path:
        return self.data / "daemon.log"


@dataclass(frozen=True, slots=True)
class Child:
    """A control plane that was started just now."""

    process: subprocess.Popen[bytes]
    started_at: int  #: nanoseconds since the epoch
    log_start: int  #: the byte of the log where its words begin


def running(files: Files) -> int | None:
    """The control plane's process id, or None. Its lock says whether it runs: a pid alone may be stale."""
    if not _locked(files.lock) or not files.pid.exists():
        return None
    pid = int(files.pid.read_text())
    return pid if _is_daemon(pid) else None


def _locked(file: Path) -> bool:
    if not file.exists():
        return False
    with file.open("rb") as lock:
        try:
            # Shared, so that two askers do not take each other for the daemon.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_daemon(pid: int) -> bool:
    file = Path("/proc") / str(pid) / "cmdline"
    if not file.exists():
        return False
    arguments = file.read_bytes().split(b"\0")
    return MODULE.encode() in arguments and b"run" in arguments


def run_here() -> None:
    """Becomes the control plane; does not return."""
    os.execv(sys.executable, RUN)


def start(files: Files) -> Child:
    """Starts the control plane, away from this terminal; what it says goes into its log."""
    # Passed through by anyone, since clients read the CA below; what is secret there guards itself.
    files.data.mkdir(mode=0o711, parents=True, exist_ok=True)
    if log_size(files) > LOG_LIMIT:
        files.log.replace(files.log.with_suffix(".log.1"))
    log_start, started_at = log_size(files), time.time_ns()
    with open(files.log, "ab", opener=_private) as log:
        process = subprocess.Popen(
            RUN,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    return Child(process, started_at, log_start)


def _private(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def stop(files: Files, *, patience: float = TERM_SECONDS) -> bool:
    """Ends the control plane, gently first, by force after `patience`. False if none runs."""
    pid = running(files)
    if pid is None:
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The handle stays with one process: asked again, the pid cannot have passed to another since.
        if not _is_daemon(pid):
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not _ended(handle, patience):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not _ended(handle, TERM_SECONDS):
                raise output.Failed(
                    f"The control plane (pid {pid}) does not end, not even by SIGKILL.",
                    "Its disk may hang: see dmesg.",
                )
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)
    return True


def _ended(handle: int, seconds: float) -> bool:
    """Whether the process ends in that time: its handle becomes readable then."""
    readable, _, _ = select.select([handle], [], [], seconds)
    return bool(readable)


def take_down(*, purge: bool) -> int:
    """Ends what outlives the control plane: dynos, router, mounts, network. Answers its exit status."""
    return subprocess.run(
        (sys.executable, "-m", MODULE, "down", *(("--purge",) if purge else ()))
    ).returncode


def log_size(files: Files) -> int:
    return files.log.stat().st_size if files.log.exists() else 0


def last_words(files: Files, *, since: int, lines: int = 15) -> list[str]:
    """The end of what the log has from byte `since` on."""
    if not files.log.exists():
        return []
    with files.log.open("rb") as log:
        log.seek(since)
        return log.read().decode(errors="replace").splitlines()[-lines:]


@dataclass(frozen=True, slots=True)
class Step:
    text: str
    fraction: float


class StackWork:
    """The process that works on stacks, while it runs and after."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", STACKS_MODULE, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.words = ""  #: what it said beside its steps
        self.answer = ""
        self.status: int | None = None

    def steps(self) -> Iterator[Step]:
        """As they come, until it ends. Its answer is a line at its end: it waits for no reader."""
        assert self._process.stderr is not None
        assert self._process.stdout is not None
        said = []
        for line in self._process.stderr:
            if match := STEP.fullmatch(line.rstrip()):
                yield Step(match[0].strip(), int(match[1]) / 100)
            else:
                said.append(line)
        self.answer = self._process.stdout.read()
        self.words = "".join(said).strip()
        self.status = self._process.wait()

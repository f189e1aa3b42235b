"""The environment ends here: what is settable, read once, frozen. Each room is handed its own part."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from deodar.model import errors, tuning
from deodar.model.idling import Bed, Defaults, rule_of

GB = 1000**3
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
UNITS = {"": 1, "KB": 1000, "MB": 1000**2, "GB": GB, "TB": 1000 * GB}
WORD = re.compile(r"[\w.~/-]+", re.ASCII)
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]B|)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """TCP ports on this machine."""

    api: int = 5080  #: plain HTTP
    api_tls: int = 5443  #: API and git over TLS
    rendezvous: int = 5444
    http: int = 8080  #: router
    https: int = 8443


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where state lies: everything is below one data directory."""

    data: Path

    @property
    def database(self) -> Path:
        return self.data / "deodar.db"

    @property
    def key(self) -> Path:
        return self.data / "config.key"  #: encrypts config vars; never in the database

    @property
    def token(self) -> Path:
        return self.data / "client.token"  #: the owner's API token, mode 0600

    @property
    def exec_key(self) -> Path:
        return self.data / "exec.key"  #: the SSH server's own key

    @property
    def ca(self) -> Path:
        return self.data / "ca"

    @property
    def repos(self) -> Path:
        return self.data / "repos"  #: bare git repositories, `<app id>.git`

    @property
    def slugs(self) -> Path:
        return self.data / "slugs"  #: archives and images by checksum

    @property
    def builds(self) -> Path:
        return self.data / "builds"  #: `<build id>/` while it is built, `<build id>.log` after

    @property
    def releases(self) -> Path:
        return self.data / "releases"  #: outputs of release phases, `<app id>/<release id>.log`

    @property
    def sources(self) -> Path:
        return self.data / "sources"  #: uploads that no build has asked for yet

    @property
    def setups(self) -> Path:
        return self.data / "setups"  #: sources of apps that are being set up, `<set-up id>/`

    @property
    def caches(self) -> Path:
        return self.data / "caches"  #: buildpack caches, `<app id>/`

    @property
    def log(self) -> Path:
        return self.data / "daemon.log"  #: ours, where we were started in the background

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def stacks(self) -> Path:
        return self.data / "stacks"

    @property
    def run(self) -> Path:
        return self.data / "run"  #: containers, sockets, pid files: worthless after a reboot


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    paths: Paths
    ports: Ports
    domain: str = "localhost"  #: apps are at `<name>.<domain>`
    host: str = "localhost"  #: how clients name this machine
    listen: str = "127.0.0.1"  #: the address that API, git, rendezvous and router listen on
    haproxy: str | None = None  #: path of the binary; None takes the wheel's
    exec_host: str = "127.0.0.80"  #: address of the SSH server that leads into dynos
    exec_port: int = 80  #: clients go to this one and no other
    subnet: str = "172.30.0.0/16"  #: dynos' addresses, a /30 each
    build_timeout: float = 15 * 60  #: seconds (devcenter: slug-compiler)
    boot_timeout: float = 60
    stop_timeout: float = 30
    release_timeout: int = (
        60 * 60
    )  #: seconds that a release phase may take (devcenter: release-phase)
    sweep: float = 60  #: seconds between looks at every app, for what nobody announced
    first_rest: float = 10 * 60  #: of a dyno that crashed twice; doubled by each further crash
    last_rest: float = 24 * 60 * 60  #: the longest
    cycle: float = 24 * 60 * 60  #: how long a dyno runs before it is restarted for its own good
    cycle_spread: float = 216 * 60  #: and as much more at random
    connections: int | None = (
        None  #: that the router holds at once; None: what our file limit allows
    )
    drain_timeout: float = 30  #: how long a web dyno's running requests may take before SIGTERM
    vitals_every: float = 20  #: seconds from one look at dynos' memory to the next
    slugs_kept: int = 20  #: releases of an app whose slugs are kept whatever their age
    slug_days: float = 30  #: and those that are younger
    cache_limit: int = 2 * GB  #: bytes that buildpacks may keep for one app
    caches_limit: int = 20 * GB  #: and for all of them
    build_disk: int = 10 * GB  #: bytes that a build may write, its app's cache included
    dyno_disk: int = 4 * GB  #: bytes that a dyno may write to its own disk
    zram: int | None = None  #: bytes of swap in RAM where the machine has none; None: none is made
    disk_floor: int | None = None  #: free bytes below which builds pause; None: 1 GB or 2 %
    acme_directory: str = LETS_ENCRYPT  #: who is asked for certificates where an app has ACM on
    acme_email: str | None = None  #: whom the authority may write to
    acme_ca: Path | None = None  #: authorities to trust when asking it; None: this machine's
    #: when apps sleep that say nothing themselves
    idling: Defaults = field(default_factory=Defaults)
    idle_paths: tuple[str, ...] = ()  #: asking for these neither wakes an app nor keeps it awake
    idle_agents: tuple[str, ...] = ()  #: words in the User-Agent of others who do neither
    idle_answer: int = 200  #: what those are answered while an app sleeps
    idle_look: float = 60  #: seconds from one look at who is not asked for to the next

    @property
    def tunnel_host(self) -> str:
        """Where clients find the SSH server."""
        return self.host if self.exec_host in ("0.0.0.0", "::") else self.exec_host


def read(environ: Mapping[str, str]) -> Settings:
    """Settings from `DEODAR_*` variables. Raises InvalidParams naming the variable that is wrong."""
    default = "/var/lib/deodar" if os.geteuid() == 0 else str(Path.home() / ".local/share/deodar")
    data = Path(environ.get("DEODAR_DATA") or default)
    if not data.is_absolute():
        raise errors.InvalidParams(f"DEODAR_DATA must be an absolute path, not {str(data)!r}.")

    def number(name: str, fallback: float) -> float:
        text = environ.get(name, "")
        try:
            return float(text) if text else fallback
        except ValueError:
            raise errors.InvalidParams(f"{name} must be a number, not {text!r}.") from None

    def port(name: str, fallback: int) -> int:
        value = number(name, fallback)
        if not (1 <= value <= 65535 and value == int(value)):
            raise errors.InvalidParams(f"{name} must be a port from 1 to 65535, not {value:g}.")
        return int(value)

    def size(name: str) -> int | None:
        text = environ.get(name, "")
        match = SIZE.fullmatch(text)
        if text and match is None:
            raise errors.InvalidParams(
                f"{name} must be a size such as 500 MB or 2 GB, not {text!r}."
            )
        return int(float(match[1]) * UNITS[match[2].upper()]) if match else None

    def zram(name: str) -> int | None:
        match environ.get(name, "").lower():
            case "" | "off":
                return None
            case "half":
                return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
            case text:
                if SIZE.fullmatch(text) and (count := size(name)):
                    return count
                raise errors.InvalidParams(
                    f"{name} must be off, half or a size such as 4 GB, not {text!r}."
                )

    def url(name: str, fallback: str) -> str:
        text = environ.get(name) or fallback
        if not text.startswith(("https://", "http://")) or len(text) > 255:
            raise errors.InvalidParams(f"{name} must be a URL, not {text!r}.")
        return text

    def file(name: str) -> Path | None:
        path = Path(environ[name]) if environ.get(name) else None
        if path is not None and not (path.is_absolute() and path.is_file()):
            raise errors.InvalidParams(f"{name} must be the absolute path of a file: {path}.")
        return path

    def words(name: str) -> tuple[str, ...]:
        found = environ.get(name, "").split()
        for word in found:
            if not WORD.fullmatch(word):
                raise errors.InvalidParams(
                    f"{name} must be words of letters, digits and -._~/, with spaces between, "
                    f"not {word!r}."
                )
        return tuple(found)

    def place(name: str, fallback: str) -> tuple[str, int]:
        text = environ.get(name) or fallback
        try:
            parts = urlsplit(f"//{text}")
            if parts.netloc == text and parts.hostname is not None:
                return parts.hostname, 80 if parts.port is None else parts.port
        except ValueError:  # a port that is none, brackets that do not match
            pass
        raise errors.InvalidParams(f"{name} must be ADDRESS or ADDRESS:PORT, not {text!r}.")

    vitals_every = number("DEODAR_VITALS_EVERY", 20)
    if vitals_every < 1:
        raise errors.InvalidParams(
            f"DEODAR_VITALS_EVERY must be 1 second or more, not {vitals_every:g}."
        )
    exec_host, exec_port = place("DEODAR_EXEC_LISTEN", "127.0.0.80")
    return Settings(
        paths=Paths(data=data),
        ports=Ports(
            api=port("DEODAR_API_PORT", 5080),
            api_tls=port("DEODAR_API_TLS_PORT", 5443),
            rendezvous=port("DEODAR_RENDEZVOUS_PORT", 5444),
            http=port("DEODAR_HTTP_PORT", 8080),
            https=port("DEODAR_HTTPS_PORT", 8443),
        ),
        domain=environ.get("DEODAR_DOMAIN") or "localhost",
        host=environ.get("DEODAR_HOST") or "localhost",
        listen=environ.get("DEODAR_LISTEN") or "127.0.0.1",
        exec_host=exec_host,
        exec_port=exec_port,
        haproxy=environ.get("DEODAR_HAPROXY") or None,
        subnet=environ.get("DEODAR_SUBNET") or "172.30.0.0/16",
        build_timeout=number("DEODAR_BUILD_TIMEOUT", 15 * 60),
        boot_timeout=number("DEODAR_BOOT_TIMEOUT", 60),
        stop_timeout=number("DEODAR_STOP_TIMEOUT", 30),
        release_timeout=int(number("DEODAR_RELEASE_TIMEOUT", 60 * 60)),
        sweep=number("DEODAR_SWEEP", 60),
        first_rest=number("DEODAR_CRASH_FIRST_REST", 10 * 60),
        last_rest=number("DEODAR_CRASH_LAST_REST", 24 * 60 * 60),
        cycle=number("DEODAR_CYCLE", 24 * 60 * 60),
        cycle_spread=number("DEODAR_CYCLE_SPREAD", 216 * 60),
        connections=int(number("DEODAR_CONNECTIONS", 0)) or None,
        drain_timeout=number("DEODAR_DRAIN_TIMEOUT", 30),
        vitals_every=vitals_every,
        slugs_kept=int(number("DEODAR_SLUGS_KEPT", 20)),
        slug_days=number("DEODAR_SLUG_DAYS", 30),
        cache_limit=size("DEODAR_CACHE_LIMIT") or 2 * GB,
        caches_limit=size("DEODAR_CACHES_LIMIT") or 20 * GB,
        build_disk=size("DEODAR_BUILD_DISK") or 10 * GB,
        dyno_disk=size("DEODAR_DYNO_DISK") or 4 * GB,
        disk_floor=size("DEODAR_DISK_FLOOR"),
        acme_directory=url("DEODAR_ACME_DIRECTORY", LETS_ENCRYPT),
        acme_email=environ.get("DEODAR_ACME_EMAIL") or None,
        acme_ca=file("DEODAR_ACME_CA"),
        idling=_idling(environ, number),
        idle_paths=words("DEODAR_IDLE_QUIET_PATHS"),
        idle_agents=words("DEODAR_IDLE_QUIET_AGENTS"),
        idle_answer=int(number("DEODAR_IDLE_QUIET_ANSWER", 200)),
        idle_look=max(number("DEODAR_IDLE_LOOK", 60), 0.1),
        zram=zram("DEODAR_ZRAM"),
    )


def _idling(environ: Mapping[str, str], number: Callable[[str, float], float]) -> Defaults:
    """Raises InvalidParams."""
    workers = environ.get("DEODAR_IDLE_WORKERS") or "on"
    tuning.IDLE_WORKERS.check(workers)
    depth = environ.get("DEODAR_IDLE_DEPTH") or Bed.SINK.value
    tuning.IDLE_DEPTH.check(depth)
    rule = environ.get("DEODAR_IDLE_AFTER") or "eco"
    return Defaults(
        rule=rule_of("DEODAR_IDLE_AFTER", rule),
        workers=workers == "on",
        bed=Bed(depth),
        reclaim_after=timedelta(minutes=number("DEODAR_IDLE_RECLAIM_AFTER", 10)),
        stop_after=timedelta(minutes=number("DEODAR_IDLE_STOP_AFTER", 24 * 60)),
    )

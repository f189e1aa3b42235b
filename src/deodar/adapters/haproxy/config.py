"""What HAProxy reads when it starts: the configuration, maps and lists, rendered from values.

Runs nothing. The shape: every app owns one slot, a backend made ahead of time, so that a new app, a
new dyno or a new certificate is a change at run time and never a reload. `hosts.map` leads from a
host to a slot, `state.map` from a slot to the H code that answers instead of a dyno.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from deodar.adapters.haproxy.table import Server, Table, slot_name
from deodar.model import errors

SLOTS = 1000  #: backends made ahead at once; an idle one costs 8 KB and no CPU
MAXCONN_LIMIT = 20_000  #: two buffers of 16 KB each at worst
SOCKET_PATH_LIMIT = 90  #: bytes; Linux takes 107 and HAProxy appends `.<pid>.tmp` while it binds
REQUESTS_FD = 9  #: the open file that HAProxy is started with, to write its request log to

NOBODY = 65534  #: the user that HAProxy's workers run as; has no files of its own

#: the columns of the request log, tab-separated, in this order. What a client may choose freely
#: comes last, so that a tab in a header cannot move another column and a cut line loses only that.
LOG_COLUMNS = (
    "%Ts.%ms",  # accepted at
    "%Tt",  # all of it, ms
    "%TR",  # receiving the request
    "%Tw",  # in the queue, or held for a wake
    "%Tc",  # connecting
    "%Tr",  # until the dyno's first byte
    "%Ta",  # active: from the request's first byte to the end
    "%ST",  # status; 504 and 502 where the client was shown 503
    "%B",  # bytes to the client
    "%tsc",  # how it ended
    "%s",  # server, `<NOSRV>` without
    "%[var(txn.slot)]",
    "%[var(txn.code)]",  # H code, `-` when a dyno answered
    "%ft",  # the frontend; ends with `~` if the client spoke TLS
    "%[var(txn.id)]",
    "%HM",
    "%ci",  # the client's address
    "%[var(txn.host)]",
    "%HU",  # as it came: HTTP/2 has scheme and host before the path
    "%[var(txn.fwd)]",  # X-Forwarded-For as the dyno was given it, `-` if it is the client's address
)

#: our pages by what they say; `error` answers for every other H code
PAGES = {"H80": "maintenance.html", "H81": "blank.html"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where HAProxy's files lie: all in one directory that is worthless after a reboot."""

    run: Path

    @property
    def config(self) -> Path:
        return self.run / "haproxy.cfg"

    @property
    def slots(self) -> Path:
        return self.run / "slots.cfg"

    @property
    def hosts(self) -> Path:
        return self.run / "hosts.map"

    @property
    def states(self) -> Path:
        return self.run / "state.map"

    @property
    def certificates(self) -> Path:
        return self.run / "certificates.list"

    @property
    def pages(self) -> Path:
        return self.run / "pages"

    @property
    def lua(self) -> Path:
        return self.run / "wake.lua"

    @property
    def pid(self) -> Path:
        return self.run / "haproxy.pid"

    @property
    def admin(self) -> Path:
        return self.run / "admin.sock"

    @property
    def master(self) -> Path:
        return self.run / "master.sock"

    @property
    def wake(self) -> Path:
        """Where HAProxy asks for a sleeping app's dyno; ours to listen on."""
        return self.run / "wake.sock"

    @property
    def requests(self) -> Path:
        """Where HAProxy writes its request log; ours to read, and to give back what is read."""
        return self.run / "requests.log"

    def check(self) -> None:
        """Raises RouterFailed when a socket's path is longer than the kernel takes."""
        longest = self.master
        if len(bytes(longest)) > SOCKET_PATH_LIMIT:
            raise errors.RouterFailed(
                f"The path {longest} is too long for a socket: it may have {SOCKET_PATH_LIMIT} "
                "bytes. Choose a shorter data directory with DEODAR_DATA."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the router listens, and how many connections it may hold."""

    addresses: tuple[str, ...] = ("127.0.0.1",)
    http: int = 8080
    https: int = 8443
    maxconn: int = 9000
    user: int | None = None  #: uid and gid of the workers; None stays who we are


def maxconn(file_limit: int) -> int:
    """How many connections fit: each takes two files, and HAProxy refuses to start beyond that."""
    reserve = max(200, file_limit // 10)  # listeners, sockets of ours, health, idle pools
    return min((file_limit - reserve) // 2, MAXCONN_LIMIT)


def slots_needed(highest: int) -> int:
    """How many slots to make so that `highest` is among them, in whole thousands."""
    return (highest // SLOTS + 1) * SLOTS


def render_config(layout: Layout, listen: Listen) -> str:
    """The part of the configuration that does not change while the router runs."""
    columns = r"\t".join(LOG_COLUMNS)
    http = ",".join(f"{bracketed(address)}:{listen.http}" for address in listen.addresses)
    https = ",".join(f"{bracketed(address)}:{listen.https}" for address in listen.addresses)
    pages = "\n".join(
        f'  http-request return status 503 content-type "text/html; charset=utf-8" '
        f'lf-file {layout.pages / page} hdr Cache-Control "no-cache, no-store" '
        f"if {{ var(txn.code) -m str {code} }}"
        for code, page in PAGES.items()
    )
    error = (
        f'  http-request return status 503 content-type "text/html; charset=utf-8" '
        f'lf-file {layout.pages / "error.html"} hdr Cache-Control "no-cache, no-store"'
    )
    user = "" if listen.user is None else f"\n  uid {listen.user}\n  gid {listen.user}"
    return f"""\
# Written by Deodar; changes are lost.
global
  maxconn {listen.maxconn}{user}
  stats socket {layout.admin} mode 600 level admin expose-fd listeners
  stats timeout 1h
  # What a thread keeps for itself: 200 busy connections turn over more than the default 512 KB, and
  # fetching it back from the shared pool was 4 % of each request.
  tune.memory.hot-size 4194304
  hard-stop-after 90s
  lua-load-per-thread {layout.lua} unix@{layout.wake}
  # A request may be held for 75 s in Lua, whose own clock must not end it.
  tune.lua.session-timeout 0
  tune.lua.service-timeout 0
  tune.http.maxhdr 1000
  tune.http.logurilen 8500
  ssl-default-bind-options ssl-min-ver TLSv1.2

defaults base
  mode http
  option dontlognull
  timeout connect 5s
  timeout client 55s
  timeout http-request 30s
  timeout server 30s
  timeout http-keep-alive 90s
  timeout tunnel 55s
  timeout queue 30s
  retries 3
  option redispatch 1
  retry-on conn-failure
  http-reuse safe
  # Without it, a reload closes kept-alive connections while a request is on its way.
  option idle-close-on-response
  errorfile 502 {layout.pages / "failed.http"}
  errorfile 503 {layout.pages / "failed.http"}
  errorfile 504 {layout.pages / "failed.http"}

frontend router from base
  bind {http}
  bind {https} ssl crt-list {layout.certificates} alpn h2,http/1.1
  # Into a file: a ring over a socket lost lines while the control plane was away.
  log fd@{REQUESTS_FD} len 10000 format raw local0
  log-format "{columns}"
  http-request set-var(txn.host) req.hdr(host),host_only,lower
  http-request set-var(txn.slot) var(txn.host),map({layout.hosts})
  http-request set-var(txn.slot) var(txn.host),regsub(^[^.]+,*),map({layout.hosts}) if !{{ var(txn.slot) -m found }}
  http-request return status 414 content-type "text/plain" string "URI too long: the limit is 8192 bytes.\\n" if {{ url_len gt 8192 }}
  http-request set-var(txn.id) req.hdr(x-request-id) if {{ req.hdr(x-request-id) -m reg ^[A-Za-z0-9+/=-]{{20,200}}$ }}
  http-request set-var(txn.id) uuid() if !{{ var(txn.id) -m found }}
  http-request set-header X-Request-ID %[var(txn.id)]
  http-request set-var-fmt(txn.fwd) "%[req.fhdr(x-forwarded-for)], %[src]" if {{ req.hdr(x-forwarded-for) -m found }}
  http-request set-header X-Forwarded-For %[var(txn.fwd)] if {{ var(txn.fwd) -m found }}
  http-request add-header X-Forwarded-For %[src] if !{{ var(txn.fwd) -m found }}
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Port %[ssl_fc,iif({listen.https},{listen.http})]
  http-request set-header X-Request-Start %[date(0,ms)]
  http-request add-header Via "1.1 heroku-router"
  # Our own pages carry them too: a visitor's report can be found in the log.
  http-after-response add-header Via "1.1 heroku-router"
  http-after-response set-header X-Request-ID %[var(txn.id)] if {{ var(txn.id) -m found }}
  http-request set-var(txn.code) var(txn.slot),map({layout.states})
  http-request lua.wake if !{{ var(txn.code) -m found }} {{ var(txn.slot),nbsrv eq 0 }}
  # Every request pays for every rule here, so the rare answers have rules of their own.
  use_backend pages if {{ var(txn.code) -m found }}
  use_backend %[var(txn.slot)]
  default_backend nobody

backend pages from base
{pages}
{error}

backend nobody from base
  http-request return status 400 content-type "text/plain" string "Bad request: no host.\\n" if !{{ req.hdr(host) -m found }}
  http-request return status 404 content-type "text/html; charset=utf-8" file {layout.pages / "nothing.html"}

defaults slots from base
  balance random
  # HAProxy has one limit for the first byte and for the rest between two; an event stream needs the
  # longer of Heroku's two, everything else must begin within 30 s.
  http-request set-timeout server 55s if {{ req.hdr(accept) -m beg text/event-stream }}
"""


def render_slots(table: Table, *, slots: int) -> str:
    """The backends, with the dynos that serve now, so that a restart routes at once."""
    lines = ["# Written by Deodar; changes are lost."]
    for slot in range(slots):
        lines.append(f"backend {slot_name(slot)} from slots")
        lines += [
            f"  server {server.name} {server_address(server)}"
            for server in table.servers.get(slot, ())
        ]
    return "\n".join(lines) + "\n"


def render_hosts(table: Table) -> str:
    return "".join(f"{host} {slot_name(slot)}\n" for host, slot in sorted(table.hosts.items()))


def render_states(table: Table) -> str:
    return "".join(f"{slot_name(slot)} {code}\n" for slot, code in sorted(table.states.items()))


def render_certificates(table: Table) -> str:
    return "".join(f"{path}\n" for path in table.certificates)


def server_address(server: Server) -> str:
    return f"{bracketed(server.address)}:{server.port}"


def bracketed(address: str) -> str:
    """An IPv6 address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def page(name: str) -> bytes:
    """One of the files that come with this room: a page, or the Lua that holds requests."""
    return (resources.files(__package__) / name).read_bytes()


def static_files() -> dict[str, bytes]:
    """Every file HAProxy needs beside its configuration, by its path below the run directory."""
    # HAProxy's own error files are sent as they stand: the line that names code and request goes.
    error = page("pages/error.html").splitlines(keepends=True)
    failed = b"".join(line for line in error if b"%[" not in line)
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "Content-Type: text/html; charset=utf-8\r\n"
        "Cache-Control: no-cache, no-store\r\n"
        f"Content-Length: {len(failed)}\r\n\r\n"
    )
    names = ("error.html", "maintenance.html", "blank.html", "nothing.html")
    return {
        "wake.lua": page("wake.lua"),
        "pages/failed.http": head.encode() + failed,
        **{f"pages/{name}": page(f"pages/{name}") for name in names},
    }

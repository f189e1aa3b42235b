"""What HAProxy reads when it starts: the configuration, maps and lists, rendered from values.

Runs nothing. The shape: every app owns one slot, a backend made ahead of time, so that a new app, a
new dyno or a new certificate is a change at run time and never a reload. `hosts.map` leads from a
host to its app's backend, or to the H code that answers instead of a dyno. An app that wishes what
others do not has other backends, whose rules read its wishes from `tuning.map`: nobody else pays.
"""

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from deodar.adapters.haproxy.table import (
    Family,
    Server,
    Table,
    Tuning,
    backend_name,
    lead_name,
    seat,
)
from deodar.model import errors

SLOTS = 1000  #: backends made ahead at once; an idle one costs 8 KB and no CPU
TUNABLE = 100  #: of these, made ahead with all that an app may wish for: 34 KB more each
MAXCONN_LIMIT = 20_000  #: two buffers of 16 KB each at worst
SOCKET_PATH_LIMIT = 90  #: bytes; Linux takes 107 and HAProxy appends `.<pid>.tmp` while it binds
REQUESTS_LIMIT = 64 * 1024 * 1024  #: bytes of request log that nobody has read: some 200,000 lines
REQUESTS_FD = 9  #: the open file that HAProxy is started with, to write its request log to

AFFINITY = "heroku-session-affinity"  #: the cookie

NOBODY = 65534  #: the user that HAProxy's workers run as; has no files of its own

#: the first word of a line of the request log: another one whenever the columns become others, since the
#: file may hold lines of the version before
LOG_FORMAT = "3"

#: the columns that follow, in this order, spaces between them: HAProxy has a short way
#: for these, while a tab is text to be copied.
LOG_COLUMNS = (
    "%Ts%ms",  # accepted at, ms
    "%Tt",  # all of it, ms
    "%TR",  # receiving the request
    "%Tw",  # in the queue, or held for a wake
    "%Tc",  # connecting
    "%Tr",  # until the dyno's first byte
    "%Ta",  # active: from the request's first byte to the end
    "%ST",  # status; 504 and 502 where the client was shown 503
    "%B",  # bytes to the client
    "%tsc",  # how it ended
    "%rc",  # tries that failed to connect, with a + if another dyno was tried
    "%s",  # server, `<NOSRV>` without
    "%[var(txn.slot)]",
    "%[var(txn.code)]",  # H code, `-` when a dyno answered
    "%f",  # the frontend: http or https
    "%HV",
    "%bq",  # how many waited before it for any dyno of the app
    "%sq",  # and for its own
    "%[var(txn.note)]",  # `frozen:12` or `cold:350` if it woke its app: held so many ms; `quiet`; `-`
    "%[var(txn.id)]",
    "%HM",
    "%[var(sess.ip)]",  # the client's address
)

#: and those that a client may choose freely, tabs before them. They come last, so that a tab in a
#: header cannot move another column and a cut line loses only that.
LOG_FREE_COLUMNS = (
    "%[var(txn.host)]",
    "%HU",  # as it came: HTTP/2 has scheme and host before the path
    "%[var(txn.fwd)]",  # X-Forwarded-For as the dyno was given it, `-` if it is the client's address
)


#: what ACME asks for: host, without a port, and path
ASKED = "base,lower,regsub(:[0-9]+/,/)"


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
    def tunings(self) -> Path:
        return self.run / "tuning.map"

    @property
    def seats(self) -> Path:
        """Which server a client's cookie means; only those that take requests."""
        return self.run / "seats.map"

    @property
    def challenges(self) -> Path:
        return self.run / "challenges.map"

    @property
    def certificates(self) -> Path:
        return self.run / "certificates.list"

    def certificate(self, host: str) -> Path:
        """Key and chain that are served for this host: what HAProxy calls the certificate, and where
        it finds it when it starts. A host name has no underscore of its own."""
        return self.run / "certificates" / f"{host.replace('*', '_')}.pem"

    def certified(self, path: Path) -> str | None:
        """The host of that certificate; None for a path that is none of ours."""
        if path.parent != self.run / "certificates":
            return None
        return path.name.removesuffix(".pem").replace("_", "*")

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
        """Where HAProxy writes its request log; ours to read, and to give back what is read. Leads
        into `memory` where there is such."""
        return self.run / "requests.log"

    @property
    def memory(self) -> Path:
        """A file system in memory, of bounded size."""
        return self.run / "memory"

    def check(self) -> None:
        """Raises RouterFailed when a socket's path is longer than the kernel takes."""
        longest = self.master
        if len(bytes(longest)) > SOCKET_PATH_LIMIT:
            raise errors.RouterFailed(
                f"The path {longest} is too long for a socket: it may have {SOCKET_PATH_LIMIT} "
                "bytes. Choose a shorter data directory with DEODAR_DATA."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """Requests that wake no app and keep none awake: health checks, crawlers."""

    paths: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()  #: words of their User-Agent, in any case
    answer: int = 200  #: the status that they see while no dyno is up


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the router listens, and how many connections it may hold."""

    addresses: tuple[str, ...] = ("127.0.0.1",)
    http: int = 8080
    https: int = 8443
    maxconn: int = 9000
    user: int | None = None  #: uid and gid of the workers; None stays who we are
    quiet: Quiet = field(default_factory=Quiet)


def maxconn(file_limit: int) -> int:
    """How many connections fit: each takes two files, and HAProxy refuses to start beyond that."""
    reserve = file_limit // 4  # a probe of each dyno, listeners, sockets of ours, idle pools
    return min((file_limit - reserve) // 2, MAXCONN_LIMIT)


def spare(maxconn: int) -> int:
    """How many of the connections are kept for saying that there are no more."""
    return max(maxconn // 50, 5)


def slots_needed(highest: int) -> int:
    """How many slots to make so that `highest` is among them, in whole thousands."""
    return (highest // SLOTS + 1) * SLOTS


def tunable_needed(highest: int) -> int:
    """How many of them to make tunable so that `highest` is one, in whole hundreds."""
    return (highest // TUNABLE + 1) * TUNABLE


#: what asks and what is told of it in X-Forwarded-Proto
PROTOCOLS = ("http", "https")

#: the first byte of an answer: HAProxy has one limit for it and for silence afterwards, so that the
#: shorter one is a rule, which is asked again after 30 s if there is no status by then. Before that it
#: is asked when the dyno has closed, or what it said is no HTTP, which is not its matter. It takes
#: effect only where it stands in the backend itself. A request with a body has a limit of its own,
#: from the moment that the body is sent.
FIRST_BYTE = """\
  tcp-response inspect-delay 30s
  tcp-response content accept if {{ status gt 0 }}
  tcp-response content accept if {{ date(0,ms),sub(txn.begun) lt 29000 }}
  tcp-response content set-var(txn.code) str(H12) if {{ capture.req.method {bodiless} }}{unless}
  tcp-response content close if {{ capture.req.method {bodiless} }}{unless}
"""
BODILESS = "GET HEAD DELETE OPTIONS"


def render_config(layout: Layout, listen: Listen) -> str:
    """The part of the configuration that does not change while the router runs."""
    user = "" if listen.user is None else f"\n  uid {listen.user}\n  gid {listen.user}"
    frontends = "\n".join(_frontend(protocol, layout, listen) for protocol in PROTOCOLS)
    wish = f"var(txn.slot),field(2,_),map({layout.tunings})"
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
  lua-load-per-thread {layout.lua} unix@{layout.wake} {layout.hosts}
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
  timeout server 55s
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

{frontends}
# Hosts that lead to a code and not to a backend, and those that lead nowhere.
backend pages from base
  http-request set-var(txn.code) var(txn.slot),field(1,_) if {{ var(txn.slot) -m beg H }}
  # A connection that was made for one of our hosts, over which another is asked for that is none.
  http-request set-var(txn.slot) ssl_fc_sni,lower,map({layout.hosts}) if !{{ var(txn.slot) -m found }}
  http-request set-var(txn.code) str(H31) if {{ var(txn.slot) -m found }} !{{ var(txn.code) -m found }}
  http-request {_word(421, "Misdirected request.")} if {{ var(txn.code) -m str H31 }}
  http-request set-var(txn.wish) {wish} if {{ var(txn.code) -m found }}
  http-request set-var(txn.page) var(txn.wish),field(7,|) if {{ var(txn.code) -m str H80 }}
  http-request set-var(txn.page) var(txn.wish),field(6,|) if !{{ var(txn.code) -m str H80 H81 }}
  http-request return {_page(layout, "maintenance.html")} if {{ var(txn.code) -m str H80 }}
  http-request return {_page(layout, "blank.html")} if {{ var(txn.code) -m str H81 }}
  http-request return {_page(layout, "error.html")} if {{ var(txn.code) -m found }}
  http-request {_word(400, "Bad request: no host.")} if !{{ req.hdr(host) -m len gt 0 }}
  http-request return status 404 content-type "text/html; charset=utf-8" file {layout.pages / "nothing.html"}

# So many connections that no more can be taken: the last ones are told so.
backend full from base
  http-request set-var(txn.code) str(H22)
  http-request return {_page(layout, "error.html")}

defaults slots from base
  balance random
  http-request set-var(txn.begun) date(0,ms)
  http-request return {_page(layout, "busy.html")} if {{ queue gt {Tuning().queue} }}
{_bodies(unless="")}

defaults own from base
  balance random
{_wishes(layout, listen)}
defaults least from base
  balance leastconn
{_wishes(layout, listen)}"""


def _frontend(protocol: str, layout: Layout, listen: Listen) -> str:
    columns = r"\t".join((" ".join((LOG_FORMAT, *LOG_COLUMNS)), *LOG_FREE_COLUMNS))
    port = {"http": listen.http, "https": listen.https}[protocol]
    bind = ",".join(f"{bracketed(address)}:{port}" for address in listen.addresses)
    tls = f" ssl crt-list {layout.certificates} alpn h2,http/1.1" if protocol == "https" else ""
    return f"""\
frontend {protocol} from base
  bind {bind}{tls}
  # An address as text is one of the dearest values to make: once a connection, not each request.
  tcp-request session set-var-fmt(sess.ip) "%[src]"
  # Into a file: a ring over a socket lost lines while the control plane was away.
  log fd@{REQUESTS_FD} len 10000 format raw local0
  log-format "{columns}"
  # Shaped as UUIDs are, which are made of five printed numbers: 32 random bits and the microsecond.
  http-request set-var-fmt(txn.id) "%[rand,hex,bytes(8,8),lower]-0000-4000-8000-%[date(0,us),hex,bytes(4,12),lower]"
  http-request set-var(txn.id) req.hdr(x-request-id) if {{ req.hdr(x-request-id) -m reg ^[A-Za-z0-9+/=-]{{20,200}}$ }}
  # Before redirects, maintenance and sleep: who certifies a name asks here, and will not ask twice.
  http-request return status 200 content-type "text/plain" lf-string "%[{ASKED},map({layout.challenges})]" if {{ path_beg /.well-known/acme-challenge/ }} {{ {ASKED},map({layout.challenges}) -m found }}
  http-request set-var(txn.slot) req.hdr(host),host_only,lower,set-var(txn.host),map({layout.hosts})
  http-request set-var(txn.slot) var(txn.host),regsub(^[^.]+,*),map({layout.hosts}) if !{{ var(txn.slot) -m found }}
  http-request {_word(414, "URI too long: the limit is 8192 bytes.")} if {{ url_len gt 8192 }}
  # Of the hop before us. A Connection that names other headers would have a dyno drop these.
  http-request del-header Connection
  http-request del-header Keep-Alive
  http-request del-header Proxy- -m beg
  http-request set-header X-Forwarded-Proto {protocol}
  http-request set-header X-Forwarded-Port {port}
  http-request set-header X-Request-Start %[date(0,ms)]
  http-request set-header X-Request-ID %[var(txn.id)]
  http-request set-var-fmt(txn.fwd) "%[req.fhdr(x-forwarded-for)], %[var(sess.ip)]" if {{ req.hdr(x-forwarded-for) -m found }}
  http-request set-header X-Forwarded-For %[var(txn.fwd)] if {{ var(txn.fwd) -m found }}
  http-request add-header X-Forwarded-For %[var(sess.ip)] if !{{ var(txn.fwd) -m found }}
  http-request add-header Via "1.1 heroku-router"
  http-after-response add-header Via "1.1 heroku-router"
  # Our own pages carry them too: a visitor's report can be found in the log.
  http-after-response set-header X-Request-ID %[var(txn.id)]
  http-after-response set-header Deodar-Wake %[var(txn.woke)] if {{ var(txn.woke) -m found }}
{_quiet(listen.quiet)}  http-request lua.wake if {{ var(txn.slot),nbsrv eq 0 }}
  # Every request pays for every rule here, so that what is rare has rules of its own behind them.
  use_backend full if {{ fe_conn gt {listen.maxconn - spare(listen.maxconn)} }}
  use_backend %[var(txn.slot)]
  default_backend pages
"""


def _quiet(quiet: Quiet) -> str:
    """Nothing where there is no such wish."""
    rules = [
        f"set-var(txn.note) str(quiet) if {{ {test} {' '.join(words)} }}"
        for test, words in (
            ("path", quiet.paths),
            ("req.hdr(user-agent) -m sub -i", quiet.agents),
        )
        if words
    ]
    if rules:
        rules.append(
            f'return status {quiet.answer} content-type "text/plain" string "Asleep.\\n" '
            "if { var(txn.note) -m found } { var(txn.slot),nbsrv eq 0 }"
        )
    return "".join(f"  http-request {rule}\n" for rule in rules)


def _wishes(layout: Layout, listen: Listen) -> str:
    """The rules by which an app has what it wishes (`Tuning.encode` has the fields' order)."""
    https = "" if listen.https == 443 else f":{listen.https}"
    pages = "\n".join(
        f"  http-error status {status} {_page(layout, 'error.html', status=None)} hdr X-Router-Error 1"
        for status in (502, 503, 504)
    )
    return rf"""  http-request set-var(txn.begun) date(0,ms)
  http-request set-var(txn.wish) var(txn.slot),field(2,_),map({layout.tunings})
  http-request redirect location https://%[var(txn.host)]{https}%[pathq] code 301 if !{{ ssl_fc }} {{ var(txn.wish),field(4,|) -m str 1 }}
  http-request set-var(txn.page) var(txn.wish),field(6,|)
  http-request set-var(txn.depth) var(txn.wish),field(3,|)
  http-request set-var(txn.code) str(H11) if {{ queue,sub(txn.depth) gt 0 }}
  http-request return {_page(layout, "error.html")} if {{ var(txn.code) -m found }}
  http-request set-var(txn.first) var(txn.wish),field(1,|) if !{{ var(txn.wish) -m beg 0| }} !{{ req.hdr(accept) -m beg text/event-stream }}
  http-request set-var(txn.idle) var(txn.wish),field(2,|) if !{{ var(txn.wish),field(2,|) -m str 0 }}
  http-request set-timeout server var(txn.idle) if {{ var(txn.idle) -m found }}
  http-request set-timeout tunnel var(txn.idle) if {{ var(txn.idle) -m found }}
  http-request set-timeout server var(txn.first) if {{ var(txn.first) -m found }}
  http-request set-var(txn.sticky) bool(1) if {{ var(txn.wish),field(5,|) -m str 1 }}
  http-request set-var(txn.cookie) req.cook({AFFINITY}) if {{ var(txn.sticky) -m found }}
  # Here and not where it is used: there each backend's own lookup made the start four times as long.
  http-request set-var(txn.seated) var(txn.cookie),map({layout.seats}) if {{ var(txn.cookie) -m found }}
{_bodies(unless=" if !{ var(txn.first) -m found }")}
  http-response set-var(txn.seat) srv_name,field(-1,-) if {{ var(txn.sticky) -m found }}
  http-response add-header Set-Cookie "{AFFINITY}=%[var(txn.seat)]; path=/; HttpOnly" if {{ var(txn.sticky) -m found }} !{{ var(txn.seat),strcmp(txn.cookie) eq 0 }}
{pages}
  http-after-response set-status 503 if {{ res.hdr(x-router-error) -m found }}
  http-after-response del-header X-Router-Error
"""


def _bodies(*, unless: str) -> str:
    """What only a request that may have a body needs to be asked: most requests have none, and end
    here. So no rule may follow.

    CONNECT would make a tunnel of it. In HTTP/1.0 there are no chunks, so that a dyno might read them
    as requests.
    """
    return "\n".join(
        f"  http-request {rule}"
        for rule in (
            f"allow if {{ method {BODILESS} }}",
            f"set-timeout server 30s{unless}",
            f"{_word(405, 'Method not allowed.')} if {{ method CONNECT }}",
            f"{_word(417, 'Expectation failed.')} if {{ req.hdr(expect) -m found }} "
            "!{ req.hdr(expect) -m str -i 100-continue }",
            f"{_word(400, 'Bad request: no chunks in HTTP/1.0.')} if {{ req.ver 1.0 }} "
            "{ req.hdr(transfer-encoding) -m found }",
        )
    )


def _word(status: int, text: str) -> str:
    return f'return status {status} content-type "text/plain" string "{text}\\n"'


def _page(layout: Layout, name: str, *, status: int | None = 503) -> str:
    begins = "" if status is None else f"status {status} "
    return (
        f'{begins}content-type "text/html; charset=utf-8" lf-file {layout.pages / name} '
        'hdr Cache-Control "no-cache, no-store"'
    )


DEFAULTS = {Family.PLAIN: "slots", Family.OWN: "own", Family.LEAST: "least"}


def _rules(family: Family) -> str:
    """What takes effect, or is allowed, only in the backend itself."""
    if family is Family.PLAIN:
        return FIRST_BYTE.format(bodiless=BODILESS, unless="")
    return FIRST_BYTE.format(bodiless=BODILESS, unless=" !{ var(txn.first) -m found }") + (
        "  use-server %[var(txn.seated)] if { var(txn.seated) -m found }\n"
    )


def render_slots(table: Table, *, slots: int, tunable: int) -> str:
    """The backends, with the dynos that serve now, so that a restart routes at once. The first
    `tunable` slots have those, too, that an app may wish for."""
    rules = {family: _rules(family) for family in Family}
    lines = ["# Written by Deodar; changes are lost.\n"]
    for slot in range(slots):
        tuning = table.tunings.get(slot, Tuning())
        for family in Family if slot < tunable else (Family.PLAIN,):
            lines.append(f"backend {backend_name(slot, family)} from {DEFAULTS[family]}\n")
            lines.append(rules[family])
            if family is tuning.family:
                lines += [
                    f"  server {server_line(server, tuning)}\n"
                    for server in table.servers.get(slot, ())
                ]
    return "".join(lines)


def render_hosts(table: Table) -> str:
    return "".join(
        f"{host} {lead_name(slot, family=family_of(table, slot), code=table.states.get(slot))}\n"
        for host, slot in sorted(table.hosts.items())
    )


def render_tunings(table: Table) -> str:
    return "".join(
        f"{slot:04d} {tuning.encode()}\n" for slot, tuning in sorted(table.tunings.items())
    )


def render_seats(table: Table) -> str:
    return "".join(
        f"{seat(server.name)} {server.name}\n"
        for slot, servers in sorted(table.servers.items())
        if family_of(table, slot) is not Family.PLAIN
        for server in servers
    )


def family_of(table: Table, slot: int) -> Family:
    return table.tunings.get(slot, Tuning()).family


def render_challenges(table: Table) -> str:
    return "".join(f"{place} {answer}\n" for place, answer in sorted(table.challenges.items()))


def render_certificates(layout: Layout, table: Table) -> str:
    """Each for its host and no other: one may name hosts of another app, too."""
    return "".join(certificate_line(layout, host) + "\n" for host in table.certificates)


def certificate_line(layout: Layout, host: str) -> str:
    return f"{layout.certificate(host)} {host}"


def server_line(server: Server, tuning: Tuning) -> str:
    """How HAProxy is told of a dyno. A dyno that takes no connection is tried again after a while,
    by HAProxy's check; one that serves is never checked, which the interval of a day means."""
    pause = f"{tuning.quarantine}s"
    return (
        f"{server.name} {server_address(server)} maxconn {tuning.concurrency} "
        f"check inter 1d fastinter {pause} downinter {pause} rise 1 fall 1 "
        "observe layer4 error-limit 1 on-error mark-down"
    )


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
    # HAProxy's own error files are sent as they stand: the lines that name code, request and the
    # app's own page go.
    error = page("pages/error.html")
    failed = b"".join(line for line in error.splitlines(keepends=True) if b"%[" not in line)
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
        # The one page whose code needs no variable: it is the common path's only one.
        "pages/busy.html": error.replace(b"%[var(txn.code)]", b"H11"),
        **{f"pages/{name}": page(f"pages/{name}") for name in names},
    }

"""What HAProxy is given to read and told at run time, compared whole."""

from dataclasses import replace
from pathlib import Path

import pytest

from deodar.adapters.haproxy import config, runtime
from deodar.adapters.haproxy.config import Layout, Listen, Quiet
from deodar.adapters.haproxy.table import Mode, Server, Table, Tuning
from deodar.model import errors

LAYOUT = Layout(run=Path("/var/lib/deodar/run/haproxy"))
DYNO = Server(name="web.1-11111111", address="172.30.0.2", port=8000)
TUNED = Tuning(
    first=10,
    idle=120,
    concurrency=20,
    queue=5,
    quarantine=2,
    affinity=True,
    https_only=True,
    error_page="https://example.com/error",
    maintenance_page="https://example.com/later",
)
OPTIONS = (
    "maxconn 1000 check inter 1d fastinter 5s downinter 5s rise 1 fall 1 "
    "observe layer4 error-limit 1 on-error mark-down"
)
FIRST_BYTE = (
    "  tcp-response inspect-delay 30s\n"
    "  tcp-response content accept if { status gt 0 }\n"
    "  tcp-response content accept if { date(0,ms),sub(txn.begun) lt 29000 }\n"
    "  tcp-response content set-var(txn.code) str(H12) if "
    "{ capture.req.method GET HEAD DELETE OPTIONS }\n"
    "  tcp-response content close if { capture.req.method GET HEAD DELETE OPTIONS }\n"
)
OWN = FIRST_BYTE.replace("OPTIONS }", "OPTIONS } !{ var(txn.first) -m found }") + (
    "  use-server %[var(txn.seated)] if { var(txn.seated) -m found }\n"
)
TABLE = Table(
    hosts={"two.localhost": 2, "one.localhost": 1, "*.example.com": 1},
    states={2: "H14", 0: "H81"},
    servers={1: (DYNO, Server(name="web.2-22222222", address="fd00::2", port=8000))},
    tunings={2: TUNED},
    certificates={"localhost": "KEY\nCERT\n", "*.example.com": "KEY\nCERT\n"},
    challenges={"www.example.com/.well-known/acme-challenge/abc": "Abc.Def"},
)


def test_the_configuration_is_the_one_that_was_measured() -> None:
    listen = Listen(addresses=("127.0.0.1", "::1"), http=80, https=443, maxconn=9000, user=65534)

    expected = (Path(__file__).parent / "haproxy.cfg").read_text()
    assert config.render_config(LAYOUT, listen) == expected


def test_who_is_to_wake_nobody_is_answered_before_he_is_held() -> None:
    quiet = Quiet(paths=("/health", "/ping"), agents=("bot", "crawler"), answer=204)
    lines = config.render_config(LAYOUT, Listen(quiet=quiet)).splitlines()
    held = next(number for number, line in enumerate(lines) if "lua.wake" in line)

    assert lines[held - 3 : held] == [
        "  http-request set-var(txn.note) str(quiet) if { path /health /ping }",
        "  http-request set-var(txn.note) str(quiet) if { req.hdr(user-agent) -m sub -i bot crawler }",
        '  http-request return status 204 content-type "text/plain" string "Asleep.\\n" '
        "if { var(txn.note) -m found } { var(txn.slot),nbsrv eq 0 }",
    ]


def test_the_slots_hold_the_dynos_that_serve() -> None:
    assert config.render_slots(replace(TABLE, tunings={}), slots=3, tunable=2) == (
        "# Written by Deodar; changes are lost.\n"
        f"backend app_0000 from slots\n{FIRST_BYTE}"
        f"backend own_0000 from own\n{OWN}"
        f"backend least_0000 from least\n{OWN}"
        f"backend app_0001 from slots\n{FIRST_BYTE}"
        f"  server web.1-11111111 172.30.0.2:8000 {OPTIONS}\n"
        f"  server web.2-22222222 [fd00::2]:8000 {OPTIONS}\n"
        f"backend own_0001 from own\n{OWN}"
        f"backend least_0001 from least\n{OWN}"
        f"backend app_0002 from slots\n{FIRST_BYTE}"
    )


@pytest.mark.parametrize(
    ("tuning", "backend", "options"),
    [
        (Tuning(maintenance_page="https://example.com"), "own_0000 from own", OPTIONS),
        (Tuning(least=True), "least_0000 from least", OPTIONS),
        (
            TUNED,
            "own_0000 from own",
            OPTIONS.replace("maxconn 1000", "maxconn 20").replace("inter 5s", "inter 2s"),
        ),
    ],
    ids=["a page", "least connections", "all"],
)
def test_the_dynos_of_an_app_that_wishes_something_stand_where_its_wishes_are_known(
    tuning: Tuning, backend: str, options: str
) -> None:
    table = Table(servers={0: (DYNO,)}, tunings={0: tuning})

    backends = config.render_slots(table, slots=1, tunable=1).split("backend ")[1:]

    assert [each for each in backends if "  server " in each] == [
        f"{backend}\n{OWN}  server web.1-11111111 172.30.0.2:8000 {options}\n"
    ]


def test_the_maps_and_the_list_of_certificates() -> None:
    assert config.render_hosts(TABLE) == (
        "*.example.com app_0001\none.localhost app_0001\ntwo.localhost H14_0002\n"
    )
    awake = replace(TABLE, states={}, servers={2: (DYNO,)})
    assert config.render_hosts(awake).endswith("two.localhost own_0002\n")
    assert config.render_tunings(TABLE) == (
        "0002 10000|120000|5|1|1|https://example.com/error|https://example.com/later|20|2|0\n"
    )
    assert config.render_seats(TABLE) == ""
    assert config.render_seats(awake) == "11111111 web.1-11111111\n"
    assert config.render_challenges(TABLE) == (
        "www.example.com/.well-known/acme-challenge/abc Abc.Def\n"
    )
    assert config.render_certificates(LAYOUT, TABLE) == (
        "/var/lib/deodar/run/haproxy/certificates/localhost.pem localhost\n"
        "/var/lib/deodar/run/haproxy/certificates/_.example.com.pem *.example.com\n"
    )


def test_commands_are_what_haproxy_understands() -> None:
    assert [
        runtime.add_server("app_0001", DYNO, Tuning()),
        runtime.enable_check("app_0001", DYNO.name),
        runtime.set_mode("app_0001", DYNO.name, Mode.DRAIN),
        runtime.shutdown_sessions("app_0001", DYNO.name),
        runtime.del_server("app_0001", DYNO.name),
        runtime.new_certificate(Path("/ca/a.pem")),
        runtime.set_certificate(Path("/ca/a.pem"), "KEY\n\nCERT\n"),
        runtime.commit_certificate(Path("/ca/a.pem")),
        runtime.abort_certificate(Path("/ca/a.pem")),
        runtime.list_certificate(LAYOUT, "*.a.com"),
        runtime.unlist_certificate(LAYOUT, "*.a.com"),
        runtime.del_certificate(Path("/ca/a.pem")),
    ] == [
        f"add server app_0001/web.1-11111111 172.30.0.2:8000 {OPTIONS}",
        "enable health app_0001/web.1-11111111",
        "set server app_0001/web.1-11111111 state drain",
        "shutdown sessions server app_0001/web.1-11111111",
        "del server app_0001/web.1-11111111",
        "new ssl cert /ca/a.pem",
        "set ssl cert /ca/a.pem <<\nKEY\nCERT\n",
        "commit ssl cert /ca/a.pem",
        "abort ssl cert /ca/a.pem",
        "add ssl crt-list /var/lib/deodar/run/haproxy/certificates.list <<\n"
        "/var/lib/deodar/run/haproxy/certificates/_.a.com.pem *.a.com\n",
        "del ssl crt-list /var/lib/deodar/run/haproxy/certificates.list "
        "/var/lib/deodar/run/haproxy/certificates/_.a.com.pem",
        "del ssl cert /ca/a.pem",
    ]


@pytest.mark.parametrize(
    ("admin", "mode"), [(0, Mode.READY), (1, Mode.MAINT), (8, Mode.DRAIN), (9, Mode.MAINT)]
)
def test_servers_are_read_from_what_haproxy_prints(admin: int, mode: Mode) -> None:
    text = (
        "1\n"
        "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_fqdn srv_port\n"
        f"3 app_0001 1 web.1-11111111 172.30.0.2 2 {admin} - 8000\n"
    )

    assert runtime.parse_servers(text) == {DYNO.name: (DYNO, mode)}


@pytest.mark.parametrize("tuning", [Tuning(), TUNED, Tuning(least=True)])
def test_what_an_app_wishes_can_be_read_back(tuning: Tuning) -> None:
    assert Tuning.decode(tuning.encode()) == tuning


@pytest.mark.parametrize(
    ("files", "connections"), [(1024, 384), (20_000, 7500), (65_536, 20_000), (1_048_576, 20_000)]
)
def test_connections_fit_the_limit_of_files(files: int, connections: int) -> None:
    assert config.maxconn(files) == connections


@pytest.mark.parametrize(("highest", "slots"), [(0, 1000), (999, 1000), (1000, 2000)])
def test_slots_come_in_thousands(highest: int, slots: int) -> None:
    assert config.slots_needed(highest) == slots


@pytest.mark.parametrize(("highest", "slots"), [(0, 100), (99, 100), (100, 200)])
def test_slots_that_can_be_tuned_come_in_hundreds(highest: int, slots: int) -> None:
    assert config.tunable_needed(highest) == slots


def test_a_data_directory_that_is_too_deep_for_sockets_is_said() -> None:
    with pytest.raises(errors.RouterFailed, match="Choose a shorter data directory"):
        Layout(run=Path("/" + "x" * 90)).check()

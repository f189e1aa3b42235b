"""What HAProxy is given to read and told at run time, compared whole."""

from pathlib import Path

import pytest

from deodar.adapters.haproxy import config, runtime
from deodar.adapters.haproxy.config import Layout, Listen
from deodar.adapters.haproxy.table import Mode, Server, Table
from deodar.model import errors

LAYOUT = Layout(run=Path("/var/lib/deodar/run/haproxy"))
DYNO = Server(name="web.1-11111111", address="172.30.0.2", port=8000)
TABLE = Table(
    hosts={"two.localhost": 2, "one.localhost": 1, "*.example.com": 1},
    states={2: "H14", 0: "H81"},
    servers={1: (DYNO, Server(name="web.2-22222222", address="fd00::2", port=8000))},
    certificates=("/ca/localhost.pem", "/ca/one.localhost.pem"),
)


def test_the_configuration_is_the_one_that_was_measured() -> None:
    listen = Listen(addresses=("127.0.0.1", "::1"), http=80, https=443, maxconn=9000, user=65534)

    expected = (Path(__file__).parent / "haproxy.cfg").read_text()
    assert config.render_config(LAYOUT, listen) == expected


def test_the_slots_hold_the_dynos_that_serve() -> None:
    assert config.render_slots(TABLE, slots=3) == (
        "# Written by Deodar; changes are lost.\n"
        "backend app_0000 from slots\n"
        "backend app_0001 from slots\n"
        "  server web.1-11111111 172.30.0.2:8000\n"
        "  server web.2-22222222 [fd00::2]:8000\n"
        "backend app_0002 from slots\n"
    )


def test_the_maps_and_the_list_of_certificates() -> None:
    assert config.render_hosts(TABLE) == (
        "*.example.com app_0001\none.localhost app_0001\ntwo.localhost app_0002\n"
    )
    assert config.render_states(TABLE) == "app_0000 H81\napp_0002 H14\n"
    assert config.render_certificates(TABLE) == "/ca/localhost.pem\n/ca/one.localhost.pem\n"


def test_commands_are_what_haproxy_understands() -> None:
    assert [
        runtime.add_server(1, DYNO),
        runtime.set_mode(1, DYNO.name, Mode.DRAIN),
        runtime.shutdown_sessions(1, DYNO.name),
        runtime.del_server(1, DYNO.name),
        runtime.new_certificate(Path("/ca/a.pem")),
        runtime.set_certificate(Path("/ca/a.pem"), "KEY\n\nCERT\n"),
        runtime.commit_certificate(Path("/ca/a.pem")),
        runtime.list_certificate(LAYOUT, Path("/ca/a.pem")),
    ] == [
        "add server app_0001/web.1-11111111 172.30.0.2:8000",
        "set server app_0001/web.1-11111111 state drain",
        "shutdown sessions server app_0001/web.1-11111111",
        "del server app_0001/web.1-11111111",
        "new ssl cert /ca/a.pem",
        "set ssl cert /ca/a.pem <<\nKEY\nCERT\n",
        "commit ssl cert /ca/a.pem",
        "add ssl crt-list /var/lib/deodar/run/haproxy/certificates.list /ca/a.pem",
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


@pytest.mark.parametrize(
    ("files", "connections"), [(1024, 412), (20_000, 9000), (65_536, 20_000), (1_048_576, 20_000)]
)
def test_connections_fit_the_limit_of_files(files: int, connections: int) -> None:
    assert config.maxconn(files) == connections


@pytest.mark.parametrize(("highest", "slots"), [(0, 1000), (999, 1000), (1000, 2000)])
def test_slots_come_in_thousands(highest: int, slots: int) -> None:
    assert config.slots_needed(highest) == slots


def test_a_data_directory_that_is_too_deep_for_sockets_is_said() -> None:
    with pytest.raises(errors.RouterFailed, match="Choose a shorter data directory"):
        Layout(run=Path("/" + "x" * 90)).check()

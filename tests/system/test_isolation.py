"""What the code of an app can reach: its own files, and nobody else's anything."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.system.harness import APPS, Platform

CONNECT = (
    "python3 -c 'import socket,sys; "
    's=socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2); print("connected")\' '
)


@pytest.fixture(scope="module")
def guest(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    platform.deploy("guest", APPS / "hello", tmp_path_factory.mktemp("guest"), web=1)
    platform.settle("guest", "web.1")
    return "guest"


@pytest.fixture(scope="module")
def neighbour(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    platform.deploy("neighbour", APPS / "hello", tmp_path_factory.mktemp("neighbour"), web=1)
    platform.settle("neighbour", "web.1")
    return "neighbour"


def test_a_dyno_is_nobody_in_particular(platform: Platform, guest: str) -> None:
    output = platform.run(guest, "id -u; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")

    uid, *facts = output.split("\n")
    assert int(uid) > 1000
    assert [fact.split() for fact in facts if fact] == [
        ["CapInh:", "0000000000000000"],
        ["CapPrm:", "0000000000000000"],
        ["CapEff:", "0000000000000000"],
        ["CapBnd:", "0000000000000000"],
        ["CapAmb:", "0000000000000000"],
        ["NoNewPrivs:", "1"],
        ["Seccomp:", "2"],
    ]


def test_two_apps_are_two_users(platform: Platform, guest: str, neighbour: str) -> None:
    assert platform.run(guest, "id -u") != platform.run(neighbour, "id -u")


def test_a_dyno_does_not_see_the_hosts_files(platform: Platform, guest: str) -> None:
    output = platform.run(guest, f"ls {platform.data} /var/lib/deodar 2>&1; ls /home /root 2>&1")

    assert "config.key" not in output
    assert output.count("No such file or directory") == 2


def test_a_dyno_sees_no_process_but_its_own(platform: Platform, guest: str) -> None:
    output = platform.run(guest, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    assert "cat" in output
    for foreign in ("server.py", "conmon", "deodar.daemon", "haproxy"):
        assert foreign not in output


def test_a_dyno_cannot_write_but_to_its_own_places(platform: Platform, guest: str) -> None:
    output = platform.run(
        guest,
        "for place in /app /tmp /usr /etc /; do touch $place/x 2>/dev/null && echo $place; done",
    )

    assert output.split() == ["/app", "/tmp"]


def test_what_a_dyno_writes_is_gone_with_it(platform: Platform, guest: str) -> None:
    platform.run(guest, "echo mine > /app/note")

    assert "No such file" in platform.run(guest, "cat /app/note 2>&1")


def test_a_dyno_cannot_reach_another_apps_dyno(
    platform: Platform, guest: str, neighbour: str
) -> None:
    address, port = address_of(platform, neighbour)

    assert platform.get("neighbour.localhost").status == 200
    assert "connected" not in platform.run(guest, CONNECT + f"{address} {port} 2>&1")


def test_a_dyno_cannot_reach_the_control_plane(platform: Platform, guest: str) -> None:
    ports = [platform.settings[f"DEODAR_{name}_PORT"] for name in ("API", "API_TLS", "RENDEZVOUS")]
    routes = platform.run(guest, "cat /proc/net/route")

    for address in {"127.0.0.1", *gateways(routes), *host_addresses()}:
        for port in ports:
            output = platform.run(guest, CONNECT + f"{address} {port} 2>&1")
            assert "connected" not in output, (address, port)


def test_a_dyno_cannot_reach_a_service_of_the_host(platform: Platform, guest: str) -> None:
    with listening_everywhere() as port:
        for address in host_addresses():
            output = platform.run(guest, CONNECT + f"{address} {port} 2>&1")
            assert "connected" not in output, address


def test_a_dyno_has_its_config_and_nothing_of_the_platforms(platform: Platform, guest: str) -> None:
    platform.api("PATCH", f"/apps/{guest}/config-vars", {"MINE": "yes"})

    names = {line.partition("=")[0] for line in platform.run(guest, "env").splitlines()}

    assert {"MINE", "HOME", "PATH", "DYNO"} <= names
    assert not {name for name in names if name.startswith("DEODAR") or "API_KEY" in name}


def address_of(platform: Platform, app: str) -> tuple[str, int]:
    """Where the router reaches the app's web dyno, as the dyno itself sees it."""
    address, port = platform.get(f"{app}.localhost", "/where").body.split()
    return address, int(port)


def gateways(routes: str) -> set[str]:
    """The next hops of a /proc/net/route table."""
    words = [line.split()[2] for line in routes.splitlines()[1:] if line.split()]
    found = {socket.inet_ntoa(bytes.fromhex(word)[::-1]) for word in words}
    return found - {"0.0.0.0"}


def host_addresses() -> set[str]:
    """This machine's own, as other machines reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: asks the kernel which address it would use
        return {probe.getsockname()[0]}


@contextmanager
def listening_everywhere() -> Iterator[int]:
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]

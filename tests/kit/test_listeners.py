"""Who listens on a port, seen with real sockets of our own."""

import os
import socket

from deodar.kit import listeners


def test_a_listening_socket_is_traced_to_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        found = listeners.holders(frozenset({port}))

    assert (found[port].pid, list(found)) == (os.getpid(), [port])
    assert "pytest" in found[port].command


def test_a_port_that_was_let_go_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert listeners.holders(frozenset({port})) == {}


def test_a_connection_from_a_port_does_not_hold_it() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        port = client.getsockname()[1]

        assert listeners.holders(frozenset({port})) == {}


def test_a_process_is_named_as_a_person_would_look_for_it() -> None:
    assert str(listeners.Holder(412, "nginx", "nginx: master process")) == "nginx (pid 412)"
    assert str(listeners.Holder(None)) == "another process"

"""Whether the router may have its ports, and if not, a message that says who has them and what to do."""

import errno
import socket

from deodar.kit import listeners
from deodar.model import errors


def check_free(address: str, port: int) -> None:
    """Raises RouterFailed naming the port, who holds it, and what to do, unless it can be bound.

    HAProxy itself would not notice: it binds with SO_REUSEPORT and would share the port.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise errors.RouterFailed(_explain(address, port, error)) from error


def _explain(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = listeners.holders(frozenset({port})).get(port, "another process")
        return (
            f"The router cannot listen on port {port}: {holder} does already. Stop it, or choose "
            "other ports with DEODAR_HTTP_PORT and DEODAR_HTTPS_PORT."
        )
    if error.errno == errno.EACCES:
        return (
            f"The router may not listen on port {port}: ports below 1024 need root. Choose others "
            "with DEODAR_HTTP_PORT and DEODAR_HTTPS_PORT."
        )
    return f"The router cannot listen on {address}, port {port}: {error.strerror}."

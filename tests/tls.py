"""A TLS client for tests: which certificate a server shows for a name."""

import asyncio
import socket
import ssl

from cryptography import x509


async def shown(port: int, host: str) -> x509.Certificate:
    """The certificate that the server shows to whoever asks for this host, trusted or not."""
    return await asyncio.to_thread(look, port, host)


def look(port: int, host: str) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)

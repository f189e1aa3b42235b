"""Sockets on which HAProxy speaks to us; what is said there is for those who listen."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from deodar.adapters.haproxy import config
from deodar.model import errors

BACKLOG = 4096  #: a thousand requests may wake an app at once


async def listen(socket: Path, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """A server that only HAProxy, and root, can connect to. Raises RouterFailed if it cannot be."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_unix_server(protocol, str(socket), backlog=BACKLOG)
        socket.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(socket, config.NOBODY, config.NOBODY)
    except OSError as error:
        raise errors.RouterFailed(f"Cannot listen on {socket}: {error}") from error
    return server

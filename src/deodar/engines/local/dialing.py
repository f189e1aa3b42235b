"""Connects to a host and port from inside a network namespace; whose namespace it is, the engine knows.

A socket stays for life in the namespace in which it was made, so only its making happens there: in a
thread that enters the namespace and then ends.
"""

import asyncio
import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor

TIMEOUT = 10.0  #: seconds for one connection
_NEW_NET = 0x40000000


async def connect(netns: int, host: str, port: int) -> socket.socket:
    """The first address of `host` that answers. OSError passes through, that of the last one.

    The name is looked up by the machine, which tells its dynos the same names.
    """
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        made = await _make(netns, family)
        try:
            async with asyncio.timeout(TIMEOUT):
                await loop.sock_connect(made, address)
        except OSError as error:
            made.close()
            failure = error
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise failure


async def _make(netns: int, family: int) -> socket.socket:
    # A pool of one for one socket: no other work may ever be done by a thread in that namespace.
    with ThreadPoolExecutor(1, "deodar-dial") as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, _inside, netns, family)


def _inside(netns: int, family: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(netns, _NEW_NET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    return made

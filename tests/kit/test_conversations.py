"""Connections are served each by itself, and none outlives the server."""

import asyncio

from structlog.testing import capture_logs

from deodar.kit.conversations import Conversations


async def test_one_that_fails_is_logged_and_the_others_go_on() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        if name == "bad":
            writer.close()
            raise ValueError(name)
        writer.write(name.upper().encode())
        writer.close()

    with capture_logs() as logs:
        async with Conversations("echo", serve) as conversations:
            server = await asyncio.start_server(conversations.begin, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                answers = [await ask(port, name) for name in (b"bad\n", b"good\n")]

    assert answers == [b"", b"GOOD"]
    assert [(each["event"], each["server"]) for each in logs] == [
        ("Cannot serve a connection", "echo")
    ]


async def test_all_are_ended_with_the_server() -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            begun.set()
            await reader.read()
        finally:
            writer.close()
            ended.set()

    async with Conversations("silent", serve) as conversations:
        server = await asyncio.start_server(conversations.begin, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await begun.wait()

    assert ended.is_set()
    writer.close()


async def ask(port: int, said: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    answer = await reader.read()
    writer.close()
    return answer

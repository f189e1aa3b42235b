"""HAProxy's runtime socket: its commands as values, its answers checked to the letter.

Knows what HAProxy holds, not what it should hold. One command to a connection, so that every answer
has one question; one at a time, so that the mirror of the maps is what the maps are.
"""

import asyncio
import csv
from pathlib import Path

from deodar.adapters.haproxy.config import Layout, server_address
from deodar.adapters.haproxy.table import (
    SLOT_PREFIX,
    Mode,
    Seen,
    Server,
    Slot,
    slot_name,
    slot_number,
)
from deodar.model import errors

TIMEOUT = 10.0  #: seconds; a busy HAProxy answers in milliseconds

#: bits of `srv_admin_state` in `show servers state`
MAINT = 0x01 | 0x02 | 0x04 | 0x20
DRAIN = 0x08 | 0x10


# ----- commands -----------------------------------------------------------------------------------


def add_server(slot: int, server: Server) -> str:
    return f"add server {slot_name(slot)}/{server.name} {server_address(server)}"


def set_mode(slot: int, name: str, mode: Mode) -> str:
    return f"set server {slot_name(slot)}/{name} state {mode}"


def del_server(slot: int, name: str) -> str:
    return f"del server {slot_name(slot)}/{name}"


def shutdown_sessions(slot: int, name: str) -> str:
    return f"shutdown sessions server {slot_name(slot)}/{name}"


def new_certificate(path: Path) -> str:
    return f"new ssl cert {path}"


def set_certificate(path: Path, pem: str) -> str:
    """The PEM follows the command and ends with an empty line, so it may contain none."""
    lines = "\n".join(line for line in pem.splitlines() if line)
    return f"set ssl cert {path} <<\n{lines}\n"


def commit_certificate(path: Path) -> str:
    return f"commit ssl cert {path}"


def list_certificate(layout: Layout, path: Path) -> str:
    return f"add ssl crt-list {layout.certificates} {path}"


# ----- answers ------------------------------------------------------------------------------------


def parse_map(text: str) -> dict[str, str]:
    """`show map`: an address, a key and a value a line."""
    entries = (line.split(" ", 2) for line in text.splitlines() if line)
    return {key: value for _, key, value in entries}


def parse_servers(text: str) -> dict[str, tuple[Server, Mode]]:
    """`show servers state`: a version, a comment that names the columns, then a server a line."""
    lines = text.splitlines()
    columns = lines[1].removeprefix("# ").split(" ")
    servers = {}
    for line in lines[2:]:
        if not line:
            continue
        row = dict(zip(columns, line.split(" "), strict=False))
        admin = int(row["srv_admin_state"])
        mode = Mode.MAINT if admin & MAINT else Mode.DRAIN if admin & DRAIN else Mode.READY
        server = Server(name=row["srv_name"], address=row["srv_addr"], port=int(row["srv_port"]))
        servers[server.name] = server, mode
    return servers


def parse_sessions(text: str) -> dict[str, int]:
    """`show stat`: CSV; sessions that run now, by server."""
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {row["svname"]: int(row["scur"]) for row in rows}


def parse_busy(text: str) -> set[int]:
    """`show stat` of backends: the slots of those in which requests or tunnels run now."""
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    busy = (row["pxname"] for row in rows if int(row["scur"]))
    return {slot_number(name) for name in busy if name.startswith(SLOT_PREFIX)}


def parse_info(text: str) -> dict[str, str]:
    pairs = (line.partition(": ") for line in text.splitlines() if line)
    return {key: value for key, _, value in pairs}


# ----- the socket ---------------------------------------------------------------------------------


async def ask(socket: Path, command: str) -> str:
    """What HAProxy answers, without the empty line it ends with. Raises RouterFailed if it cannot."""
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(command.encode() + b"\n")
                await writer.drain()
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        word = command.split("\n", 1)[0]
        raise errors.RouterFailed(f"HAProxy did not answer {word!r}: {error!r}") from error
    return answer.decode(errors="replace").strip("\n")


class Runtime:
    """The changes that a running HAProxy takes. All may be repeated; all raise RouterFailed.

    The maps are mirrored here, since HAProxy can only print them whole. The mirror is forgotten
    whenever an answer is not the one expected, and read anew by the next question.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._one_at_a_time = asyncio.Lock()
        self._hosts: dict[str, int] | None = None
        self._states: dict[int, str] | None = None
        self._certificates: set[Path] | None = None

    async def pid(self) -> int:
        """The worker that answers now."""
        return int(parse_info(await self._ask("show info"))["Pid"])

    def forget(self) -> None:
        """HAProxy was started anew: what it holds is read again."""
        self._hosts = self._states = self._certificates = None

    async def used_slots(self) -> set[int]:
        """Every slot that a host leads to."""
        async with self._one_at_a_time:
            return set((await self._maps())[0].values())

    async def slot(self, slot: int) -> Slot:
        """What HAProxy holds for one app. Raises RouterFailed when there is no such slot."""
        async with self._one_at_a_time:
            hosts, states = await self._maps()
            servers = await self._servers(slot)
            # Idle most of the time: only a server on its way out is asked for its sessions.
            leaving = any(mode is not Mode.READY for _, mode in servers.values())
            sessions = await self._sessions(slot) if leaving else {}
        return Slot(
            hosts=frozenset(host for host, owner in hosts.items() if owner == slot),
            code=states.get(slot),
            servers={
                name: Seen(server=server, mode=mode, sessions=sessions.get(name, 0))
                for name, (server, mode) in servers.items()
            },
        )

    async def busy_slots(self) -> set[int]:
        """Every slot in which a request or a tunnel runs now. Costs some milliseconds a thousand."""
        return parse_busy(await self._ask("show stat -1 2 -1"))

    async def set_host(self, host: str, slot: int) -> None:
        async with self._one_at_a_time:
            hosts, _ = await self._maps()
            verb = "set" if host in hosts else "add"
            await self._silent(f"{verb} map {self._layout.hosts} {host} {slot_name(slot)}")
            hosts[host] = slot

    async def remove_host(self, host: str, slot: int) -> None:
        """Forgets the host, unless it leads to another app by now."""
        async with self._one_at_a_time:
            hosts, _ = await self._maps()
            if hosts.get(host) == slot:
                await self._silent(f"del map {self._layout.hosts} {host}")
                del hosts[host]

    async def set_code(self, slot: int, code: str | None) -> None:
        """Lets an H code answer for the app instead of its dynos; None lets these answer."""
        async with self._one_at_a_time:
            _, states = await self._maps()
            name = slot_name(slot)
            if code is not None:
                verb = "set" if slot in states else "add"
                await self._silent(f"{verb} map {self._layout.states} {name} {code}")
                states[slot] = code
            elif slot in states:
                await self._silent(f"del map {self._layout.states} {name}")
                del states[slot]

    async def add(self, slot: int, server: Server) -> None:
        """Sends requests to this server from now on."""
        async with self._one_at_a_time:
            if server.name not in await self._servers(slot):
                await self._expect(add_server(slot, server), "New server registered.")
            await self._silent(set_mode(slot, server.name, Mode.READY))

    async def drain(self, slot: int, name: str) -> None:
        async with self._one_at_a_time:
            await self._silent(set_mode(slot, name, Mode.DRAIN), "No such server.")

    async def cut(self, slot: int, name: str) -> None:
        """Ends what still runs on this server."""
        async with self._one_at_a_time:
            await self._silent(shutdown_sessions(slot, name), "No such server.")

    async def remove(self, slot: int, name: str) -> bool:
        """Gives this server nothing more and forgets it; False when HAProxy cannot forget it yet."""
        async with self._one_at_a_time:
            await self._silent(set_mode(slot, name, Mode.MAINT), "No such server.")
            answer = await self._ask(del_server(slot, name))
        # Not "deleted" alone: "Only servers in maintenance mode can be deleted."
        if answer in ("Server deleted.", "No such server."):
            return True
        if "still has connections attached" in answer:
            return False
        raise errors.RouterFailed(f"HAProxy cannot delete {slot_name(slot)}/{name}: {answer}")

    async def set_certificate(self, path: Path, pem: str) -> None:
        """Answers TLS with this certificate for the names in it; a renewed one replaces the old."""
        async with self._one_at_a_time:
            known = await self._known_certificates()
            if path not in known:
                await self._begins(new_certificate(path), "New empty certificate store")
            await self._begins(set_certificate(path, pem), "Transaction created", "Transaction up")
            await self._ends(commit_certificate(path), "Success!")
            if path not in known:
                await self._ends(list_certificate(self._layout, path), "Success!")
            known.add(path)

    # ----- below: called with the lock held -------------------------------------------------------

    async def _maps(self) -> tuple[dict[str, int], dict[int, str]]:
        if self._hosts is None or self._states is None:
            hosts = parse_map(await self._ask(f"show map {self._layout.hosts}"))
            states = parse_map(await self._ask(f"show map {self._layout.states}"))
            self._hosts = {host: slot_number(name) for host, name in hosts.items()}
            self._states = {slot_number(name): code for name, code in states.items()}
        return self._hosts, self._states

    async def _known_certificates(self) -> set[Path]:
        if self._certificates is None:
            text = await self._ask(f"show ssl crt-list {self._layout.certificates}")
            lines = (line for line in text.splitlines() if line and not line.startswith("#"))
            self._certificates = {Path(line.split(" ")[0]) for line in lines}
        return self._certificates

    async def _servers(self, slot: int) -> dict[str, tuple[Server, Mode]]:
        text = await self._ask(f"show servers state {slot_name(slot)}")
        if not text.startswith("1\n"):
            raise errors.RouterFailed(f"HAProxy has no slot {slot_name(slot)}: {text}")
        return parse_servers(text)

    async def _sessions(self, slot: int) -> dict[str, int]:
        return parse_sessions(await self._ask(f"show stat {slot_name(slot)} 4 -1"))

    async def _ask(self, command: str) -> str:
        try:
            return await ask(self._layout.admin, command)
        except errors.RouterFailed:
            self.forget()
            raise

    async def _silent(self, command: str, *also: str) -> None:
        """Most commands that succeed say nothing."""
        await self._expect(command, "", *also)

    async def _expect(self, command: str, *answers: str) -> None:
        answer = await self._ask(command)
        if answer not in answers:
            self._refused(command, answer)

    async def _begins(self, command: str, *starts: str) -> None:
        answer = await self._ask(command)
        if not answer.startswith(starts):
            self._refused(command, answer)

    async def _ends(self, command: str, end: str) -> None:
        answer = await self._ask(command)
        if not answer.endswith(end):
            self._refused(command, answer)

    def _refused(self, command: str, answer: str) -> None:
        # The mirror and HAProxy disagree, or a command is not for this version.
        self.forget()
        raise errors.RouterFailed(f"HAProxy refused {command.split(chr(10), 1)[0]!r}: {answer}")

"""HAProxy's runtime socket: its commands as values, its answers checked to the letter.

Knows what HAProxy holds, not what it should hold. One command to a connection, so that every answer
has one question; one at a time, so that the mirror of the maps is what the maps are.
"""

import asyncio
import csv
import re
from collections.abc import Iterator
from pathlib import Path

from deodar.adapters.haproxy.config import Layout, certificate_line, server_line
from deodar.adapters.haproxy.table import (
    MIXED,
    Family,
    Mode,
    Seen,
    Server,
    Slot,
    Tuning,
    backend_name,
    code_of,
    lead_end,
    lead_name,
    seat,
    slot_number,
)
from deodar.model import errors

TIMEOUT = 10.0  #: seconds; a busy HAProxy answers in milliseconds

#: bits of `srv_admin_state` in `show servers state`
MAINT = 0x01 | 0x02 | 0x04 | 0x20
DRAIN = 0x08 | 0x10


# ----- commands -----------------------------------------------------------------------------------


def add_server(backend: str, server: Server, tuning: Tuning) -> str:
    return f"add server {backend}/{server_line(server, tuning)}"


def enable_check(backend: str, name: str) -> str:
    return f"enable health {backend}/{name}"


def set_mode(backend: str, name: str, mode: Mode) -> str:
    return f"set server {backend}/{name} state {mode}"


def del_server(backend: str, name: str) -> str:
    return f"del server {backend}/{name}"


def shutdown_sessions(backend: str, name: str) -> str:
    return f"shutdown sessions server {backend}/{name}"


def new_certificate(path: Path) -> str:
    return f"new ssl cert {path}"


def set_certificate(path: Path, pem: str) -> str:
    """The PEM follows the command and ends with an empty line, so it may contain none."""
    lines = "\n".join(line for line in pem.splitlines() if line)
    return f"set ssl cert {path} <<\n{lines}\n"


def commit_certificate(path: Path) -> str:
    return f"commit ssl cert {path}"


def abort_certificate(path: Path) -> str:
    return f"abort ssl cert {path}"


def list_certificate(layout: Layout, host: str) -> str:
    """Names a host after a certificate, which takes the form with lines of its own."""
    return f"add ssl crt-list {layout.certificates} <<\n{certificate_line(layout, host)}\n"


def unlist_certificate(layout: Layout, host: str) -> str:
    return f"del ssl crt-list {layout.certificates} {layout.certificate(host)}"


def del_certificate(path: Path) -> str:
    return f"del ssl cert {path}"


# ----- answers ------------------------------------------------------------------------------------


def parse_map(text: str) -> dict[str, str]:
    """`show map`: an address, a key and a value a line."""
    entries = (line.split(" ", 2) for line in text.splitlines() if line)
    return {key: value for _, key, value in entries}


def parse_servers(text: str) -> dict[str, tuple[Server, Mode]]:
    """`show servers state` of one backend, by server."""
    return {server.name: (server, mode) for _, server, mode in parse_state(text)}


def parse_state(text: str) -> Iterator[tuple[str, Server, Mode]]:
    """`show servers state`: a version, a comment that names the columns, then a server a line. Each with
    its backend."""
    lines = text.splitlines()
    columns = lines[1].removeprefix("# ").split(" ")
    for line in lines[2:]:
        if not line:
            continue
        row = dict(zip(columns, line.split(" "), strict=False))
        admin = int(row["srv_admin_state"])
        mode = Mode.MAINT if admin & MAINT else Mode.DRAIN if admin & DRAIN else Mode.READY
        yield (
            row["be_name"],
            Server(name=row["srv_name"], address=row["srv_addr"], port=int(row["srv_port"])),
            mode,
        )


def parse_sessions(text: str) -> dict[str, int]:
    """`show stat`: CSV; sessions that run now, by server."""
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {row["svname"]: int(row["scur"]) for row in rows}


def parse_certificates(text: str) -> set[Path]:
    """`show ssl crt-list` and `show ssl cert`: a path a line, maybe with what it is for. A star is
    before one that somebody has begun to change."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {Path(line.split(" ")[0].removeprefix("*")) for line in lines}


def parse_transaction(text: str) -> Path | None:
    """The certificate that somebody has begun to change, when HAProxy refuses for that reason."""
    match = re.search(r"The ongoing transaction is about '([^']+)'", text)
    return None if match is None else Path(match[1])


def parse_busy(text: str) -> set[int]:
    """`show stat` of backends: the slots of those in which requests or tunnels run now."""
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    busy = (row["pxname"] for row in rows if int(row["scur"]))
    return {slot_number(name) for name in busy if name.partition("_")[0] in set(Family)}


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

    An app whose wishes change may move to another backend of its slot. Its servers are added there
    before its hosts lead there; the old ones take nothing new and go when their dynos go.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._one_at_a_time = asyncio.Lock()
        self._hosts: dict[str, str] | None = None  #: host → where it leads
        self._codes: dict[int, str] = {}
        self._tunings: dict[int, Tuning] = {}  #: of each app that ever had a wish
        self._seats: set[str] = set()
        self._certified: set[str] | None = None
        self._challenges: dict[str, str] | None = None

    async def pid(self) -> int:
        """The worker that answers now."""
        return int(parse_info(await self._ask("show info"))["Pid"])

    def forget(self) -> None:
        """HAProxy was started anew: what it holds is read again."""
        self._hosts = self._certified = self._challenges = None

    async def used_slots(self) -> set[int]:
        """Every slot that a host leads to."""
        async with self._one_at_a_time:
            return {slot_number(lead) for lead in (await self._maps()).values()}

    async def slot(self, slot: int) -> Slot:
        """What HAProxy holds for one app. Raises RouterFailed when there is no such slot."""
        async with self._one_at_a_time:
            hosts = await self._maps()
            # Told by its end, and not parsed: this is asked for every app, of the hosts of all of them.
            end = lead_end(slot)
            leads = {host: lead for host, lead in hosts.items() if lead.endswith(end)}
            uniform = all(lead == self._lead(slot) for lead in leads.values())
            return Slot(
                hosts=frozenset(leads),
                code=self._codes.get(slot) if uniform else MIXED,
                tuning=self._tunings.get(slot, Tuning()),
                servers=await self._seen(slot),
            )

    async def slots(self) -> dict[int, Slot]:
        """What it holds for every app, in one question; but not how many sessions each server has."""
        async with self._one_at_a_time:
            leads: dict[int, dict[str, str]] = {}
            for host, lead in (await self._maps()).items():
                leads.setdefault(slot_number(lead), {})[host] = lead
            servers: dict[int, dict[str, Seen]] = {}
            for backend, server, mode in parse_state(await self._ask("show servers state")):
                slot = slot_number(backend)
                used = backend == self._backend(slot)
                if used or server.name not in servers.get(slot, {}):
                    servers.setdefault(slot, {})[server.name] = Seen(
                        server=server, mode=mode if used else Mode.DRAIN, sessions=0
                    )
            return {
                slot: Slot(
                    hosts=frozenset(leads.get(slot, ())),
                    code=self._codes.get(slot)
                    if all(lead == self._lead(slot) for lead in leads.get(slot, {}).values())
                    else MIXED,
                    tuning=self._tunings.get(slot, Tuning()),
                    servers=servers.get(slot, {}),
                )
                for slot in leads.keys() | servers.keys()
            }

    async def busy_slots(self) -> set[int]:
        """Every slot in which a request or a tunnel runs now. Costs some milliseconds a thousand."""
        return parse_busy(await self._ask("show stat -1 2 -1"))

    async def set_host(self, host: str, slot: int) -> None:
        async with self._one_at_a_time:
            hosts = await self._maps()
            await self._put(self._layout.hosts, hosts, host, self._lead(slot))

    async def remove_host(self, host: str, slot: int) -> None:
        """Forgets the host, unless it leads to another app by now."""
        async with self._one_at_a_time:
            hosts = await self._maps()
            if host in hosts and slot_number(hosts[host]) == slot:
                await self._silent(f"del map {self._layout.hosts} {host}")
                del hosts[host]

    async def set_code(self, slot: int, code: str | None) -> None:
        """Lets an H code answer for the app instead of its dynos; None lets these answer."""
        async with self._one_at_a_time:
            await self._maps()
            if code is None:
                self._codes.pop(slot, None)
            else:
                self._codes[slot] = code
            await self._point(slot)

    async def tune(self, slot: int, tuning: Tuning) -> None:
        """Lets the app have what it wishes of the router."""
        async with self._one_at_a_time:
            await self._maps()
            before = self._backend(slot)
            texts = {f"{slot:04d}": each.encode() for slot, each in self._tunings.items()}
            await self._put(self._layout.tunings, texts, f"{slot:04d}", tuning.encode())
            self._tunings[slot] = tuning
            if self._backend(slot) == before:
                return
            moving = [
                server
                for server, mode in (await self._servers(before)).values()
                if mode is Mode.READY
            ]
            for server in moving:
                await self._add(slot, server)
            await self._point(slot)
            for server in moving:
                await self._silent(set_mode(before, server.name, Mode.DRAIN))

    async def add(self, slot: int, server: Server) -> None:
        """Sends requests to this server from now on."""
        async with self._one_at_a_time:
            await self._maps()
            await self._add(slot, server)

    async def drain(self, slot: int, name: str) -> None:
        async with self._one_at_a_time:
            await self._unseat(name)
            for backend in await self._backends(slot):
                await self._silent(set_mode(backend, name, Mode.DRAIN), "No such server.")

    async def cut(self, slot: int, name: str) -> None:
        """Ends what still runs on this server."""
        async with self._one_at_a_time:
            for backend in await self._backends(slot):
                await self._silent(shutdown_sessions(backend, name), "No such server.")

    async def remove(self, slot: int, name: str) -> bool:
        """Gives this server nothing more and forgets it; False when HAProxy cannot forget it yet."""
        async with self._one_at_a_time:
            await self._unseat(name)
            return all([await self._delete(each, name) for each in await self._backends(slot)])

    async def owner(self, host: str) -> int | None:
        """The slot that the host leads to."""
        async with self._one_at_a_time:
            lead = (await self._maps()).get(host)
        return None if lead is None else slot_number(lead)

    async def certified(self) -> set[str]:
        """The hosts that have a certificate, or the beginnings of one that were left behind."""
        async with self._one_at_a_time:
            listed = await self._listed()
            stored = parse_certificates(await self._ask("show ssl cert"))
        return listed | {host for path in stored if (host := self._layout.certified(path))}

    async def set_certificate(self, host: str, pem: str) -> None:
        """Serves the host with this key and chain; what it was served with before goes in one step."""
        path = self._layout.certificate(host)
        async with self._one_at_a_time:
            listed = await self._listed()
            if host not in listed:
                known = f"Certificate '{path}' already exists!"
                await self._begins(new_certificate(path), "New empty certificate store", known)
            await self._begin(path, pem)
            await self._ends(commit_certificate(path), "Success!")
            if host not in listed:
                await self._ends(list_certificate(self._layout, host), "Success!")
            listed.add(host)

    async def remove_certificate(self, host: str) -> None:
        """Serves the host with none of its own any more, and forgets the key."""
        path = self._layout.certificate(host)
        async with self._one_at_a_time:
            listed = await self._listed()
            if host in listed:
                await self._ends(unlist_certificate(self._layout, host), "!")
                listed.discard(host)
            answer = await self._ask(del_certificate(path))
            if "ongoing transaction" in answer:  # its author was killed
                await self._ends(abort_certificate(path), "!")
                answer = await self._ask(del_certificate(path))
            if "deleted!" not in answer and "doesn't exist" not in answer:
                self._refused(del_certificate(path), answer)

    async def challenges(self) -> dict[str, str]:
        """What ACME may ask for, and is answered."""
        async with self._one_at_a_time:
            return dict(await self._asked())

    async def set_challenge(self, place: str, answer: str) -> None:
        async with self._one_at_a_time:
            asked = await self._asked()
            verb = "set" if place in asked else "add"
            await self._silent(f"{verb} map {self._layout.challenges} {place} {answer}")
            asked[place] = answer

    async def remove_challenge(self, place: str) -> None:
        async with self._one_at_a_time:
            asked = await self._asked()
            if place in asked:
                await self._silent(f"del map {self._layout.challenges} {place}")
                del asked[place]

    # ----- below: called with the lock held -------------------------------------------------------

    async def _maps(self) -> dict[str, str]:
        """Where each host leads; what else is mirrored is read with it."""
        if self._hosts is None:
            hosts = parse_map(await self._ask(f"show map {self._layout.hosts}"))
            tunings = parse_map(await self._ask(f"show map {self._layout.tunings}"))
            seats = parse_map(await self._ask(f"show map {self._layout.seats}"))
            self._tunings = {int(slot): Tuning.decode(text) for slot, text in tunings.items()}
            self._codes = {
                slot_number(lead): code
                for lead in hosts.values()
                if (code := code_of(lead)) is not None
            }
            self._seats = set(seats)
            self._hosts = hosts
        return self._hosts

    def _lead(self, slot: int) -> str:
        tuning = self._tunings.get(slot, Tuning())
        return lead_name(slot, family=tuning.family, code=self._codes.get(slot))

    def _backend(self, slot: int) -> str:
        """Where the app's requests go when they go to a dyno."""
        return backend_name(slot, self._tunings.get(slot, Tuning()).family)

    async def _backends(self, slot: int) -> list[str]:
        """All that may have servers of the app, the one in use first."""
        await self._maps()
        used = self._backend(slot)
        if slot not in self._tunings:
            return [used]
        names = [backend_name(slot, family) for family in Family]
        return [used, *(name for name in names if name != used)]

    async def _point(self, slot: int) -> None:
        """Every host of the app leads where it should by now."""
        hosts, lead = await self._maps(), self._lead(slot)
        for host in [host for host, old in hosts.items() if slot_number(old) == slot]:
            if hosts[host] != lead:
                await self._put(self._layout.hosts, hosts, host, lead)

    async def _put(self, file: Path, mirror: dict[str, str], key: str, value: str) -> None:
        verb = "set" if key in mirror else "add"
        await self._silent(f"{verb} map {file} {key} {value}")
        mirror[key] = value

    async def _add(self, slot: int, server: Server) -> None:
        used, *others = await self._backends(slot)
        if server.name not in await self._servers(used):
            tuning = self._tunings.get(slot, Tuning())
            await self._expect(add_server(used, server, tuning), "New server registered.")
            await self._silent(enable_check(used, server.name))
        await self._silent(set_mode(used, server.name, Mode.READY))
        if not others:
            return
        if seat(server.name) not in self._seats:
            await self._silent(f"add map {self._layout.seats} {seat(server.name)} {server.name}")
            self._seats.add(seat(server.name))

    async def _unseat(self, name: str) -> None:
        await self._maps()
        if seat(name) in self._seats:
            await self._silent(f"del map {self._layout.seats} {seat(name)}")
            self._seats.discard(seat(name))

    async def _delete(self, backend: str, name: str) -> bool:
        await self._silent(set_mode(backend, name, Mode.MAINT), "No such server.")
        answer = await self._ask(del_server(backend, name))
        # Not "deleted" alone: "Only servers in maintenance mode can be deleted."
        if answer in ("Server deleted.", "No such server."):
            return True
        if "still has connections attached" in answer:
            return False
        raise errors.RouterFailed(f"HAProxy cannot delete {backend}/{name}: {answer}")

    async def _seen(self, slot: int) -> dict[str, Seen]:
        """The app's servers in all its backends. One that only an old backend has is on its way
        out there, and to be added where the requests go."""
        seen: dict[str, Seen] = {}
        used, *others = await self._backends(slot)
        for backend in (used, *others):
            servers = await self._servers(backend)
            # Idle most of the time: only a server on its way out is asked for its sessions.
            leaving = any(mode is not Mode.READY for _, mode in servers.values())
            sessions = await self._sessions(backend) if leaving else {}
            for name, (server, mode) in servers.items():
                before = seen.get(name)
                seen[name] = Seen(
                    server=server if before is None else before.server,
                    mode=(mode if backend == used else Mode.DRAIN)
                    if before is None
                    else before.mode,
                    sessions=sessions.get(name, 0) + (before.sessions if before else 0),
                )
        return seen

    async def _listed(self) -> set[str]:
        if self._certified is None:
            text = await self._ask(f"show ssl crt-list {self._layout.certificates}")
            paths = parse_certificates(text)
            self._certified = {host for path in paths if (host := self._layout.certified(path))}
        return self._certified

    async def _asked(self) -> dict[str, str]:
        if self._challenges is None:
            self._challenges = parse_map(await self._ask(f"show map {self._layout.challenges}"))
        return self._challenges

    async def _begin(self, path: Path, pem: str) -> None:
        """HAProxy takes changes of one certificate at a time, and waits for ever for one to end."""
        answer = await self._ask(set_certificate(path, pem))
        stale = parse_transaction(answer)
        if stale is not None:  # its author was killed
            await self._ends(abort_certificate(stale), "!")
            answer = await self._ask(set_certificate(path, pem))
        if not answer.startswith(("Transaction created", "Transaction up")):
            self._refused(set_certificate(path, pem), answer)

    async def _servers(self, backend: str) -> dict[str, tuple[Server, Mode]]:
        text = await self._ask(f"show servers state {backend}")
        if not text.startswith("1\n"):
            raise errors.RouterFailed(f"HAProxy has no slot {backend}: {text}")
        return parse_servers(text)

    async def _sessions(self, backend: str) -> dict[str, int]:
        return parse_sessions(await self._ask(f"show stat {backend} 4 -1"))

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

"""The dynos' network on this machine: numbered slots, some made ahead; which container has which is the engine's.

A slot is a network namespace with a veth pair of its own, routed, not bridged: no dyno shares a wire
with another, and the firewall sees every packet. Slots are made ahead, since making one takes longer
than all else that a start needs. A slot is used once: what the last dyno left in it goes with it.
"""

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import msgspec
import structlog

from deodar.engines.local import commands, mounts
from deodar.kit import subprocess
from deodar.model import errors

log = structlog.get_logger("deodar")

AHEAD = 8  #: slots kept ready
PAUSE = 0.2  #: seconds before more are made: the dyno that took the last one wants the processor
LAST = 99_999  #: the highest number that a device's name of 15 characters has room for


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place for one container on the network."""

    number: int
    link: commands.Link
    netns: Path

    @property
    def address(self) -> str:
        return str(self.link.theirs)


def link(prefix: str, subnet: IPv4Network, number: int) -> commands.Link:
    """The slot's /30: network, our end, their end, broadcast."""
    first = subnet.network_address + 4 * number
    return commands.Link(device=f"{prefix}{number}", ours=first + 1, theirs=first + 2)


def capacity(subnet: IPv4Network) -> int:
    return min(subnet.num_addresses // 4, LAST + 1)


def next_number(taken: Collection[int], *, after: int, count: int) -> int | None:
    """The first free number after `after`, going round: so that an address rests before it is another
    dyno's, and a router that is late does not send it the last one's requests. None if all are taken."""
    for step in range(1, count + 1):
        number = (after + step) % count
        if number not in taken:
            return number
    return None


class Network:
    """Slots of one platform. CommandFailed and OSError pass through, except from the background."""

    def __init__(
        self, *, name: str, subnet: str, folder: Path, namespace: mounts.Namespace
    ) -> None:
        self._table = name.replace("-", "_")
        self._prefix = f"dd{name[-6:]}-"
        self._subnet = IPv4Network(subnet)
        self._folder = folder
        self._namespace = namespace
        self._ready: deque[int] = deque()
        self._taken: set[int] = set()
        self._slots: dict[int, Slot] = {}
        self._last = -1
        self._filling: asyncio.Task[None] | None = None

    def slot(self, number: int) -> Slot:
        known = self._slots.get(number)
        if known is None:  # asked for at every sighting, so it is worth keeping
            known = self._slots[number] = Slot(
                number=number,
                link=link(self._prefix, self._subnet, number),
                netns=self._folder / str(number),
            )
        return known

    async def prepare(self, used: Collection[int]) -> None:
        """Firewall and forwarding; slots that no container uses are ready again, or removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await self._check_subnet()
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
        script = commands.firewall(self._table, prefix=self._prefix, subnet=self._subnet)
        await subprocess.run("nft", "-f", "-", stdin=script.encode())
        await self._let_pass()
        self._taken = set(used)
        self._last = max(used, default=-1)
        await self._sweep(used)
        self._fill()

    async def take(self) -> Slot:
        """A slot for a new container. EngineFailed when the subnet is full."""
        if self._ready:
            number = self._ready.popleft()
            self._fill()
            return self.slot(number)
        slot = await self._make()
        self._fill()
        return slot

    async def release(self, number: int) -> None:
        """Remove a slot that was taken. May be repeated."""
        await self._destroy([number])
        self._taken.discard(number)

    async def close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
            with suppress(asyncio.CancelledError):
                await self._filling
            self._filling = None

    async def destroy(self) -> None:
        """Remove all slots and the firewall."""
        await self.close()
        await self._destroy(self._devices() | self._files())
        self._ready.clear()
        self._taken.clear()
        if shutil.which("iptables"):
            for rule in commands.forwarding("-D", prefix=self._prefix):
                await subprocess.run_unchecked(*rule)
        script = commands.firewall_delete(self._table)
        await subprocess.run("nft", "-f", "-", stdin=script.encode())

    async def _let_pass(self) -> None:
        """Through another's firewall, if there is one; ours has had its say before."""
        if shutil.which("iptables"):
            rules = zip(
                commands.forwarding("-C", prefix=self._prefix),
                commands.forwarding("-I", prefix=self._prefix),
                strict=True,
            )
            for check, insert in rules:
                if (await subprocess.run_unchecked(*check)).status != 0:
                    await subprocess.run(*insert)

    async def _check_subnet(self) -> None:
        listed = await subprocess.run("ip", "-json", "address", "show")
        for device in msgspec.json.decode(listed.stdout):
            for address in device.get("addr_info", []):
                if address["family"] != "inet" or device["ifname"].startswith(self._prefix):
                    continue
                theirs = IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
                if theirs.overlaps(self._subnet):
                    raise errors.EngineFailed(
                        f"The dynos' subnet {self._subnet} overlaps with {theirs} of the device "
                        f"{device['ifname']}. Set DEODAR_SUBNET to one that is free here."
                    )

    async def _sweep(self, used: Collection[int]) -> None:
        devices = self._devices()
        for number in sorted(devices - set(used)):
            # up is the last thing that happens to a new slot
            if _is_up(self.slot(number).link.device):
                self._taken.add(number)
                self._ready.append(number)
        await self._destroy(sorted((devices | self._files()) - self._taken))

    def _fill(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill_up(), name="network:fill")

    async def _fill_up(self) -> None:
        await asyncio.sleep(PAUSE)
        while len(self._ready) < AHEAD:
            try:
                slot = await self._make()
            except (errors.EngineFailed, subprocess.CommandFailed, OSError) as error:
                # whoever needs a slot next makes one, and is told
                log.warning("Cannot make a network slot ahead", error=str(error))
                return
            self._ready.append(slot.number)

    async def _make(self) -> Slot:
        number = next_number(self._taken, after=self._last, count=capacity(self._subnet))
        if number is None:
            raise errors.EngineFailed(
                f"All addresses of the dynos' subnet {self._subnet} are taken. "
                "Set DEODAR_SUBNET to a larger one."
            )
        self._taken.add(number)
        self._last = number
        slot = self.slot(number)
        try:
            slot.netns.touch()
            await subprocess.run(
                *self._namespace.inside(*commands.unshare_net(slot.netns)),
                stdin=commands.link_inside(slot.link, pid=os.getpid()).encode(),
            )
            await subprocess.run(
                "ip", "-batch", "-", stdin=commands.link_outside(slot.link).encode()
            )
        except BaseException:
            await self.release(number)
            raise
        return slot

    async def _destroy(self, numbers: Collection[int]) -> None:
        """The device goes with its namespace, but not at once; who removes a dyno sees it gone."""
        devices = [self.slot(n).link.device for n in numbers if n in self._devices()]
        if devices:
            script = commands.links_delete(devices)
            # -force: a device may have gone by itself in between
            await subprocess.run_unchecked("ip", "-force", "-batch", "-", stdin=script.encode())
        points = await self._namespace.points() if numbers else set()
        for number in numbers:
            netns = self.slot(number).netns
            if str(netns) in points:
                await self._namespace.unmount(netns)
            netns.unlink(missing_ok=True)

    def _devices(self) -> set[int]:
        names = (entry.name for entry in os.scandir("/sys/class/net"))
        return {int(n.removeprefix(self._prefix)) for n in names if n.startswith(self._prefix)}

    def _files(self) -> set[int]:
        if not self._folder.exists():
            return set()  # a start that failed before there was any
        return {int(entry.name) for entry in os.scandir(self._folder)}


def _is_up(device: str) -> bool:
    try:
        flags = Path(f"/sys/class/net/{device}/flags").read_text()
    except OSError:  # gone in between
        return False
    return bool(int(flags, 16) & 1)

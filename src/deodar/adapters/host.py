"""What this machine is, and what it lacks to run the platform; installing that is for a person.

`look` reads the machine, `judge` is pure and names every lack at once: who mends one thing only to be
told of the next has been told too little.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deodar import settings as settings_
from deodar.kit import listeners
from deodar.model import errors


@dataclass(frozen=True, slots=True)
class Tool:
    """A command of the host; any of `names` will do."""

    names: tuple[str, ...]
    package: str  #: Debian's and Ubuntu's
    use: str  #: what for, as the end of "is needed to …"


TOOLS = (
    Tool(("crun", "runc"), "crun", "run dynos"),
    Tool(("conmon",), "conmon", "keep dynos and their output"),
    Tool(("ip",), "iproute2", "give dynos a network"),
    Tool(("nft",), "nftables", "keep dynos apart from each other and from this machine"),
    Tool(("mkfs.erofs", "mksquashfs"), "erofs-utils", "pack slugs"),
    Tool(("tar",), "tar", "pack and unpack sources"),
    Tool(("zstd",), "zstd", "compress slugs"),
    Tool(("git",), "git", "receive pushes"),
    Tool(("mount",), "mount", "mount slugs"),
)
STACK_TOOLS = (
    Tool(("mmdebstrap",), "mmdebstrap", "build the stack"),
    Tool(("unshare",), "util-linux", "build the stack"),
)

#: capability → its bit in /proc/self/status; a container's root often has none of them
CAPABILITIES: Mapping[str, int] = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}

GB = 1000**3
STACK_SPACE = 3 * GB  #: free bytes that building the stack takes for a while
RUN_SPACE = GB // 2  #: free bytes below which a build or a dyno soon fails


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that is missing or in the way, and what to do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was seen of this machine, as far as it matters."""

    system: str = "Linux"
    root: bool = True
    capabilities: frozenset[str] = frozenset(CAPABILITIES)
    commands: frozenset[str] = frozenset(
        name for tool in TOOLS + STACK_TOOLS for name in tool.names
    )
    filesystems: frozenset[str] = frozenset({"overlay", "erofs"})  #: built in or loadable
    controllers: frozenset[str] = frozenset({"memory", "pids", "cpu"})
    holders: Mapping[int, listeners.Holder] = field(default_factory=dict)  #: of the ports we want
    free: int = 100 * GB  #: bytes at the data directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the platform is about to do with this machine."""

    data: Path
    ports: Mapping[int, str]  #: port → the variable that sets it
    stack_built: bool


def judge(machine: Machine, wish: Wish) -> tuple[Lack, ...]:
    """Everything that keeps the platform from running here, most fundamental first."""
    if machine.system != "Linux":
        return (Lack(f"Deodar runs on Linux; this is {machine.system}.", "Use a Linux machine."),)
    return (
        *_rights(machine),
        *_tools(machine, wish),
        *_kernel(machine),
        *_ports(machine, wish),
        *_space(machine, wish),
    )


def _rights(machine: Machine) -> Iterator[Lack]:
    if not machine.root:
        yield Lack(
            "Deodar needs root: running without it is not supported yet.",
            "Run the same command with sudo.",
        )
        return
    missing = sorted(frozenset(CAPABILITIES) - machine.capabilities)
    if missing:
        yield Lack(
            f"root lacks {' and '.join(missing)} here, as in an unprivileged container.",
            "Use a machine or a virtual machine of its own, or a privileged container.",
        )


def _tools(machine: Machine, wish: Wish) -> Iterator[Lack]:
    for tool in TOOLS if wish.stack_built else TOOLS + STACK_TOOLS:
        if not machine.commands.intersection(tool.names):
            yield Lack(
                f"{' or '.join(tool.names)} is needed to {tool.use}, and is not here.",
                f"Install it: apt-get install {tool.package}",
            )


def _kernel(machine: Machine) -> Iterator[Lack]:
    if "overlay" not in machine.filesystems:
        yield Lack(
            "The kernel has no overlayfs, which every dyno's files are made of.",
            "Load it (modprobe overlay) or use another kernel.",
        )
    for controller, switch in (("memory", "cgroup_enable=memory"), ("pids", "cgroup_enable=pids")):
        if controller not in machine.controllers:
            yield Lack(
                f"The kernel's cgroups have no {controller} controller, so no dyno could be limited.",
                f"Start the kernel with {switch}, and see that cgroups are mounted.",
            )


def _ports(machine: Machine, wish: Wish) -> Iterator[Lack]:
    for port, variable in wish.ports.items():
        holder = machine.holders.get(port)
        # The router lives on while the control plane is away: its ports are not taken but kept.
        if holder is not None and str(wish.data) not in holder.command:
            yield Lack(
                f"Port {port} is taken by {holder}.",
                f"Stop that, or set {variable} to another port.",
            )


def _space(machine: Machine, wish: Wish) -> Iterator[Lack]:
    need, use = (RUN_SPACE, "run apps") if wish.stack_built else (STACK_SPACE, "build the stack")
    if machine.free < need:
        yield Lack(
            f"The disk of {wish.data} has {machine.free / GB:.1f} GB free; "
            f"to {use} takes {need / GB:.1f} GB.",
            "Free some, or set DEODAR_DATA to a folder on another disk.",
        )


def check(settings: settings_.Settings, *, stack_built: bool) -> None:
    """Raises Refused with every lack there is."""
    ports = settings.ports
    wish = Wish(
        data=settings.paths.data,
        ports={
            ports.api: "DEODAR_API_PORT",
            ports.api_tls: "DEODAR_API_TLS_PORT",
            ports.rendezvous: "DEODAR_RENDEZVOUS_PORT",
            ports.http: "DEODAR_HTTP_PORT",
            ports.https: "DEODAR_HTTPS_PORT",
        },
        stack_built=stack_built,
    )
    lacks = judge(look(wish), wish)
    if len(lacks) == 1:
        raise errors.Refused(str(lacks[0]))
    if lacks:
        told = "\n".join(f"  - {lack}" for lack in lacks)
        raise errors.Refused(f"This machine lacks {len(lacks)} things that Deodar needs.\n{told}")


# ---- reading -------------------------------------------------------------------------------------


def look(wish: Wish) -> Machine:
    """Reads what `judge` wants to know; changes nothing."""
    if platform.system() != "Linux":
        return Machine(system=platform.system())
    names = {name for tool in TOOLS + STACK_TOOLS for name in tool.names}
    return Machine(
        root=os.geteuid() == 0,
        capabilities=_capabilities(Path("/proc/self/status").read_text()),
        commands=frozenset(name for name in names if shutil.which(name, path=_search_path())),
        filesystems=_filesystems(),
        controllers=_controllers(),
        holders=listeners.holders(frozenset(wish.ports)),
        free=_free(wish.data),
    )


def _search_path() -> str:
    """An ordinary user's PATH lacks the folders where Debian keeps nft and ip."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def _capabilities(status: str) -> frozenset[str]:
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)


def _filesystems() -> frozenset[str]:
    """Known to the kernel now, or as a module that mount loads when it is asked for."""
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    modules = Path("/lib/modules") / platform.release() / "kernel/fs"
    loadable = {file.name.split(".")[0] for file in modules.glob("*/*.ko*")}
    return frozenset(known | loadable)


def _controllers() -> frozenset[str]:
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        return frozenset(unified.read_text().split())
    return frozenset(
        name
        for name in ("memory", "pids", "cpu")
        if (Path("/sys/fs/cgroup") / name / "cgroup.procs").exists()
    )


def _free(data: Path) -> int:
    """Free bytes where `data` is, or will be made."""
    folder = next(folder for folder in (data, *data.parents) if folder.exists())
    return shutil.disk_usage(folder).free

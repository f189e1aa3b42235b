"""Every host command of the local engine as a value; running them is for those who need them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from deodar.kit import subprocess

Argv = tuple[str, ...]

LOG_LIMIT = 128 * 1024 * 1024  #: bytes; minutes of a flood, weeks of most apps


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Which OCI runtime to call, and where it keeps its state."""

    path: str  #: of crun or runc
    root: Path

    @property
    def options(self) -> Argv:
        """crun would ask systemd for cgroups if it could; runc does not unless told to."""
        manager = ("--cgroup-manager=cgroupfs",) if Path(self.path).name == "crun" else ()
        return (f"--root={self.root}", *manager)


def inside(namespace: Path, argv: Sequence[str]) -> Argv:
    """`argv` in our mount namespace."""
    return ("nsenter", f"--mount={namespace}", "--", *argv)


def namespace(file: Path, hide: Sequence[Path]) -> Argv:
    """Makes a mount namespace that `file` keeps alive, in which `hide` are not mounted."""
    unmounts = [f"umount -l '{path}'" for path in hide]
    return (
        *("unshare", f"--mount={file}", "--propagation", "slave"),
        *("sh", "-c", " && ".join([*unmounts, "true"])),
    )


def supervise(
    container_id: str,
    *,
    runtime: Runtime,
    conmon: str,
    folder: Path,
    sockets: Path,
    terminal: bool,
    stdin: bool,
    keep_output: bool,
) -> Argv:
    """conmon, which makes the container, outlives us, and keeps its output and its exit status.

    Its log begins anew at LOG_LIMIT, which is what bounds it while we are away (output.py). Without
    --leave-stdin-open an attached peer's shutdown becomes the container's end of file; a terminal has
    its own sign for that, and stays open for the next peer.
    """
    options = [f"--runtime-arg={option}" for option in runtime.options]
    if terminal:
        options += ["--terminal", "--leave-stdin-open"]
    elif stdin:
        options += ["--stdin"]
    return (
        conmon,
        *("--cid", container_id, "--cuuid", container_id, "--name", container_id),
        *("--runtime", runtime.path, "--bundle", str(folder)),
        *("--container-pidfile", str(folder / "pid"), "--exit-dir", str(folder / "exit")),
        *("--conmon-pidfile", str(folder / "supervisor")),
        *("--socket-dir-path", str(sockets)),
        *("--log-path", f"k8s-file:{folder / 'log'}" if keep_output else "none"),
        *("--log-size-max", str(LOG_LIMIT), "--no-sync-log", "--log-level", "error"),
        *options,
    )


def start(container_id: str, runtime: Runtime) -> Argv:
    return (runtime.path, *runtime.options, "start", container_id)


def state(container_id: str, runtime: Runtime) -> Argv:
    return (runtime.path, *runtime.options, "state", container_id)


def delete(container_id: str, runtime: Runtime) -> Argv:
    return (runtime.path, *runtime.options, "delete", "--force", container_id)


def execute(
    container_id: str, runtime: Runtime, *, folder: Path, terminal: bool, oom_score: int
) -> Argv:
    """Runs what `folder` describes in a container, and ends with its status.

    choom, since the runtime leaves a second process's score as its own.
    """
    console = ("--tty", f"--console-socket={folder / 'console'}") if terminal else ()
    return (
        *("choom", "--adjust", str(oom_score), "--"),
        *(runtime.path, *runtime.options, "exec", *console),
        *("--pid-file", str(folder / "pid"), "--process", str(folder / "process.json")),
        container_id,
    )


def write(target: Path, word: str) -> Argv:
    """By a process that can be killed while the kernel does what is asked of it, and at the lowest
    priority: nobody waits for it."""
    return (*subprocess.AT_LEISURE, "sh", "-c", 'echo "$1" > "$2"', "sh", word, str(target))


def make_swap(device: Path) -> Argv:
    return ("mkswap", str(device))


def swap_on(device: Path, *, priority: int) -> Argv:
    return ("swapon", "--priority", str(priority), str(device))


def swap_off(device: Path) -> Argv:
    return ("swapoff", str(device))


def mkfs_erofs(tree: Path, image: Path, *, uid: int) -> Argv:
    """mtimes are kept: a .pyc is stale without its source's."""
    owner = (f"--force-uid={uid}", f"--force-gid={uid}")
    return ("mkfs.erofs", "-zlz4", *owner, "--preserve-mtime", "--quiet", str(image), str(tree))


def mksquashfs(tree: Path, image: Path, *, uid: int) -> Argv:
    return (
        *("mksquashfs", str(tree), str(image), "-comp", "zstd", "-Xcompression-level", "3"),
        *("-force-uid", str(uid), "-force-gid", str(uid)),
        *("-noappend", "-no-progress", "-quiet"),
    )


def copy_tree(tree: Path, copy: Path, *, uid: int) -> tuple[Argv, Argv]:
    """Where the kernel has no file system for images."""
    return (
        ("cp", "--archive", "--reflink=auto", "--no-target-directory", str(tree), str(copy)),
        ("chown", "--recursive", "--no-dereference", f"{uid}:{uid}", str(copy)),
    )


def mount_loop(image: Path, target: Path, *, kind: str) -> Argv:
    options = ("-o", "loop,ro,nosuid,nodev")
    return ("mount", "-t", kind, *options, str(image), str(target))


def unpack(archive: Path, tree: Path) -> Argv:
    return (
        *("tar", "--extract", "--zstd", "--file", str(archive), "--directory", str(tree)),
        *("--no-same-owner", "--preserve-permissions"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A veth pair between the machine and one network namespace: a /30 of two addresses."""

    device: str  #: our end; theirs is eth0
    ours: IPv4Address
    theirs: IPv4Address


def unshare_net(netns: Path) -> Argv:
    """Makes a network namespace that `netns` keeps alive, and sets up what `link_inside` says."""
    return ("unshare", f"--net={netns}", "ip", "-batch", "-")


def link_inside(link: Link, *, pid: int) -> str:
    """For `ip -batch` in the new namespace; `pid` is any process of the machine's own."""
    return (
        "link set lo up\n"
        f"link add eth0 type veth peer name {link.device} netns {pid}\n"
        "link set eth0 addrgenmode none\n"
        f"addr add {link.theirs}/30 dev eth0\n"
        "link set eth0 up\n"
        f"route add default via {link.ours}\n"
    )


def link_outside(link: Link) -> str:
    """For `ip -batch` on the machine. Up last: a link that is up is ready for use."""
    return (
        f"link set {link.device} addrgenmode none\n"
        f"addr add {link.ours}/30 dev {link.device}\n"
        f"link set {link.device} up\n"
    )


def links_delete(devices: Sequence[str]) -> str:
    return "".join(f"link del {device}\n" for device in devices)


def firewall(table: str, *, prefix: str, subnet: IPv4Network) -> str:
    """For `nft -f`. A dyno reaches the world; not the machine, no other dyno, no metadata service.

    The machine may open connections to dynos and is answered. What comes from elsewhere may not. The
    table is replaced in one transaction, so that there is no moment without it.
    """
    return f"""\
table inet {table}
delete table inet {table}
table inet {table} {{
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iifname "{prefix}*" ct state established,related accept
    iifname "{prefix}*" reject with icmpx admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    oifname "{prefix}*" ct state established,related accept
    oifname "{prefix}*" reject with icmpx admin-prohibited
    iifname "{prefix}*" ip daddr 169.254.0.0/16 reject with icmpx admin-prohibited
    iifname "{prefix}*" meta nfproto ipv6 reject with icmpx admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != "{prefix}*" masquerade
  }}
}}
"""


def firewall_delete(table: str) -> str:
    return f"table inet {table}\ndelete table inet {table}\n"


def forwarding(action: str, *, prefix: str) -> tuple[Argv, Argv]:
    """`-C`hecks, `-I`nserts or `-D`eletes what lets dynos' packets pass where iptables forwards nothing
    by itself, as Docker and ufw leave it: a packet must please every table, not ours alone."""
    established = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
    return (
        ("iptables", "-w", action, "FORWARD", "-i", f"{prefix}+", "-j", "ACCEPT"),
        ("iptables", "-w", action, "FORWARD", "-o", f"{prefix}+", *established, "-j", "ACCEPT"),
    )


#: what each command is for, by name of the Debian package that brings it
PACKAGES: Mapping[str, str] = {
    "conmon": "conmon",
    "nsenter": "util-linux",
    "choom": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "nft": "nftables",
}

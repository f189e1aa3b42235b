"""Turns a Spec into an OCI config; leaves making what the config names (slots, images, folders) to others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deodar.engines import base
from deodar.engines.local import seccomp

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CPU_PERIOD = 100_000  #: µs
NOFILE = 10_000  #: open files of one process (devcenter: limits)
OOM_SCORE = 500  #: a dyno dies before anything of the platform does

MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What of this machine goes into every container's config."""

    swap: bool  #: there is swap, and cgroups count it
    nofile: int  #: most open files that we may allow
    oom_score: int  #: our own; nobody without privilege may give less
    resolver: Path | None  #: resolv.conf that a container can use
    certificates: Path | None  #: bundle of CAs, private ones included


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What was prepared for one container."""

    root: Path  #: the stack
    folder: Path  #: the container's own: `upper`, `work`, `etc`, `tmp`
    slug: Path | None  #: where the slug is mounted
    netns: Path
    cgroup: str


def config(spec: base.Spec, place: Place, host: Host) -> dict[str, Any]:
    """The OCI config. What it names must exist when the container is made."""
    return {
        "ociVersion": "1.0.2",
        "hostname": hostname(spec.name),
        "root": {"path": str(place.root), "readonly": True},
        "process": {
            "terminal": spec.terminal,
            "user": {"uid": spec.uid, "gid": spec.uid, "umask": 0o022},
            # the app is not PID 1, which would be deaf to SIGTERM and would have to reap orphans
            "args": ["/usr/bin/tini", "-g", "--", *spec.argv],
            "env": [f"{key}={value}" for key, value in spec.env.items()],
            "cwd": "/app",
            "capabilities": {
                kind: []
                for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
            },
            "noNewPrivileges": True,
            "rlimits": [
                _rlimit("RLIMIT_NOFILE", min(NOFILE, host.nofile)),
                _rlimit("RLIMIT_CORE", 0),
            ],
            "oomScoreAdj": max(OOM_SCORE, host.oom_score),
        },
        "mounts": [
            *_kernel_mounts(),
            *_scratch_mounts(spec, place),
            *_etc_mounts(place, host),
            *_app_mounts(spec, place),
            *(_bind(v.source, v.target, writable=v.writable) for v in spec.volumes),
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network", "path": str(place.netns)},
            ],
            "rootfsPropagation": "rprivate",
            "cgroupsPath": place.cgroup,
            "resources": _resources(spec, host),
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
            "seccomp": seccomp.profile(),
        },
    }


def hostname(name: str) -> str:
    """`web.1` → `web-1`: a dot would start a domain."""
    return name.replace(".", "-")


def hosts(ours: str, *, address: str, name: str) -> str:
    """/etc/hosts: loopback, the dyno itself, and what `ours`, the machine's, says of other hosts."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for line in ours.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) > 1 and not words[0].startswith(("127.", "::1", "fe00:", "ff0")):
            lines.append(" ".join(words))
    return "\n".join([*lines, f"{address} {hostname(name)}", ""])


def users(theirs: str, *, uid: int) -> str:
    """/etc/passwd: the stack's, and the dyno's own user, since ssh, git and psql ask for its name."""
    return _with_line(theirs, f"u{uid}:x:{uid}:{uid}::/app:/bin/bash")


def groups(theirs: str, *, gid: int) -> str:
    """/etc/group: the stack's, and the dyno's own."""
    return _with_line(theirs, f"u{gid}:x:{gid}:")


def _with_line(text: str, line: str) -> str:
    return f"{text.rstrip()}\n{line}\n".lstrip("\n")


def _rlimit(kind: str, value: int) -> dict[str, Any]:
    return {"type": kind, "soft": value, "hard": value}


def _kernel_mounts() -> list[dict[str, Any]]:
    closed = ["nosuid", "noexec", "nodev"]
    return [
        _mount("/proc", "proc", *closed),
        _mount("/sys", "sysfs", *closed, "ro"),
        _mount("/dev", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=64k"),
        _mount(
            "/dev/pts",
            "devpts",
            *("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        _mount("/dev/shm", "tmpfs", *closed, "mode=1777", "size=64m"),
        _mount("/dev/mqueue", "mqueue", *closed),
    ]


def _scratch_mounts(spec: base.Spec, place: Place) -> list[dict[str, Any]]:
    run = _mount("/run", "tmpfs", "nosuid", "nodev", "mode=755", "size=8m")
    if spec.build:
        # compilers fill /tmp with more than a build's memory could hold
        return [run, _bind(place.folder / "tmp", "/tmp", writable=True)]
    # what it holds counts as the dyno's memory, so that no size is more than it may have
    size = f"size={spec.size.memory // 1024}k"
    return [run, _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777", size)]


def _etc_mounts(place: Place, host: Host) -> list[dict[str, Any]]:
    own = place.folder / "etc"
    mounts = [_bind(own / name, f"/etc/{name}") for name in ("passwd", "group", "hosts")]
    if host.resolver is not None:
        mounts.append(_bind(host.resolver, "/etc/resolv.conf"))
    if host.certificates is not None:
        mounts.append(_bind(host.certificates, CERTIFICATES))
    return mounts


def _app_mounts(spec: base.Spec, place: Place) -> list[dict[str, Any]]:
    upper, work = place.folder / "upper", place.folder / "work"
    if any(volume.target == "/app" for volume in spec.volumes):
        return []
    if place.slug is None:
        return [_bind(upper, "/app", writable=True)]
    layers = (f"lowerdir={place.slug}", f"upperdir={upper}", f"workdir={work}")
    # volatile: nothing of it outlives the dyno, so that its end need not sync the host's disk
    return [_mount("/app", "overlay", "nosuid", "nodev", *layers, "volatile")]


def _mount(target: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _bind(source: Path, target: str, *, writable: bool = False) -> dict[str, Any]:
    options = ["rbind", "rw" if writable else "ro", "nosuid", "nodev"]
    return {"destination": target, "type": "bind", "source": str(source), "options": options}


def _resources(spec: base.Spec, host: Host) -> dict[str, Any]:
    """R14 is beyond `memory`, R15 at twice as much: where there is swap the second half is swap."""
    size = spec.size
    memory: Mapping[str, int]
    if host.swap:
        memory = {"limit": size.memory, "swap": 2 * size.memory}
    else:
        memory = {"limit": 2 * size.memory, "reservation": size.memory}
    cpu: dict[str, int] = {"shares": size.shares}
    if size.cores is not None:
        cpu |= {"period": CPU_PERIOD, "quota": round(size.cores * CPU_PERIOD)}
    return {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": memory,
        "pids": {"limit": size.pids},
        "cpu": cpu,
    }

"""What the local engine decides and says, without doing it: configs, commands, scripts, parsing."""

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from deodar.engines import base
from deodar.engines.local import (
    cgroups,
    commands,
    images,
    mounts,
    network,
    oci,
    output,
    records,
    seccomp,
)
from deodar.model.app import ConfigVars
from deodar.model.formation import MB, DynoSize

SIZE = DynoSize(name="Basic", memory=512 * MB, pids=256, shares=256)
HOST = oci.Host(
    swap=False,
    nofile=20_000,
    oom_score=0,
    resolver=Path("/etc/resolv.conf"),
    certificates=Path("/etc/ssl/certs/ca-certificates.crt"),
)
PLACE = oci.Place(
    root=Path("/stack"),
    folder=Path("/box"),
    slug=Path("/slugs/ab-7"),
    netns=Path("/netns/3"),
    cgroup="/deodar-aaaaaa/id",
)
RUNTIME = commands.Runtime(path="/usr/bin/crun", root=Path("/run/d/oci"))
LINK = commands.Link(
    device="ddaaaaaa-3", ours=IPv4Address("10.1.0.13"), theirs=IPv4Address("10.1.0.14")
)


def spec(**changes: object) -> base.Spec:
    plain = base.Spec(
        id="id",
        app_id="app",
        name="web.1",
        uid=7,
        argv=("bash", "-c", "true"),
        env=ConfigVars(PATH="/bin", SECRET="s"),
        stack="deodar-12",
        slug="SHA256:ab",
        size=SIZE,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


# oci: the container's config


def test_the_process_is_a_user_without_rights_behind_tini() -> None:
    process = oci.config(spec(), PLACE, HOST)["process"]

    assert process == {
        "terminal": False,
        "user": {"uid": 7, "gid": 7, "umask": 0o022},
        "args": ["/usr/bin/tini", "-g", "--", "bash", "-c", "true"],
        "env": ["PATH=/bin", "SECRET=s"],
        "cwd": "/app",
        "capabilities": {
            "bounding": [],
            "effective": [],
            "permitted": [],
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": True,
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 10_000, "hard": 10_000},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "oomScoreAdj": 500,
    }


def test_it_has_its_own_of_all_that_dynos_must_not_share() -> None:
    config = oci.config(spec(), PLACE, HOST)

    assert (config["hostname"], config["root"], config["linux"]["namespaces"]) == (
        "web-1",
        {"path": "/stack", "readonly": True},
        [
            {"type": "pid"},
            {"type": "ipc"},
            {"type": "uts"},
            {"type": "mount"},
            {"type": "network", "path": "/netns/3"},
        ],
    )


def mounted(spec_: base.Spec, *targets: str) -> dict[str, tuple[str, list[str]]]:
    found = {m["destination"]: m for m in oci.config(spec_, PLACE, HOST)["mounts"]}
    return {t: (found[t]["source"], found[t]["options"]) for t in targets if t in found}


def test_the_app_folder_is_the_slug_under_a_layer_that_goes_with_the_dyno() -> None:
    layers = ["lowerdir=/slugs/ab-7", "upperdir=/box/upper", "workdir=/box/work"]

    assert mounted(spec(), "/app", "/tmp") == {
        "/app": ("overlay", ["nosuid", "nodev", *layers, "volatile"]),
        "/tmp": ("tmpfs", ["nosuid", "nodev", "mode=1777", "size=524288k"]),
    }


def test_without_a_slug_the_app_folder_is_empty_and_writable() -> None:
    config = oci.config(spec(slug=None), replace(PLACE, slug=None), HOST)

    assert [m for m in config["mounts"] if m["destination"] == "/app"] == [
        {
            "destination": "/app",
            "type": "bind",
            "source": "/box/upper",
            "options": ["rbind", "rw", "nosuid", "nodev"],
        }
    ]


def test_a_build_has_its_volumes_and_its_tmp_on_the_disk() -> None:
    volumes = (
        base.Volume(source=Path("/tree"), target="/app", writable=True),
        base.Volume(source=Path("/env"), target="/tmp/env"),
    )

    assert mounted(spec(build=True, volumes=volumes), "/app", "/tmp", "/tmp/env") == {
        "/app": ("/tree", ["rbind", "rw", "nosuid", "nodev"]),
        "/tmp": ("/box/tmp", ["rbind", "rw", "nosuid", "nodev"]),
        "/tmp/env": ("/env", ["rbind", "ro", "nosuid", "nodev"]),
    }


def test_volumes_come_after_what_they_are_mounted_in() -> None:
    volume = base.Volume(source=Path("/env"), target="/tmp/env")
    targets = [m["destination"] for m in oci.config(spec(volumes=(volume,)), PLACE, HOST)["mounts"]]

    assert targets.index("/tmp") < targets.index("/tmp/env")


@pytest.mark.parametrize(
    ("swap", "memory"),
    [
        (True, {"limit": 512 * MB, "swap": 1024 * MB}),
        (False, {"limit": 1024 * MB, "reservation": 512 * MB}),
    ],
)
def test_r15_is_at_twice_the_memory_with_swap_and_without(
    swap: bool, memory: dict[str, int]
) -> None:
    resources = oci.config(spec(), PLACE, replace(HOST, swap=swap))["linux"]["resources"]

    assert resources == {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": memory,
        "pids": {"limit": 256},
        "cpu": {"shares": 256},
    }


def test_a_size_with_cores_has_a_quota() -> None:
    size = replace(SIZE, cores=1.5)

    assert oci.config(spec(size=size), PLACE, HOST)["linux"]["resources"]["cpu"] == {
        "shares": 256,
        "period": 100_000,
        "quota": 150_000,
    }


def test_no_more_open_files_than_the_machine_allows_and_no_less_oom_score_than_ours() -> None:
    process = oci.config(spec(), PLACE, replace(HOST, nofile=1024, oom_score=800))["process"]

    assert (process["rlimits"][0]["hard"], process["oomScoreAdj"]) == (1024, 800)


def test_hosts_name_the_dyno_and_what_the_machine_knows_of_others() -> None:
    ours = "127.0.0.1 localhost\n127.0.1.1 vm\n::1 localhost\n# note\n10.0.0.9 db db.lan # main\n"

    assert oci.hosts(ours, address="10.1.0.14", name="web.1") == (
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
        "10.0.0.9 db db.lan\n10.1.0.14 web-1\n"
    )


def test_the_dynos_user_has_a_name() -> None:
    assert (oci.users("root:x:0:0::/root:/bin/sh\n", uid=7), oci.groups("", gid=7)) == (
        "root:x:0:0::/root:/bin/sh\nu7:x:7:7::/app:/bin/bash\n",
        "u7:x:7:\n",
    )


def test_no_system_call_is_denied_twice() -> None:
    assert len(set(seccomp.DENIED)) == len(seccomp.DENIED)


def test_new_namespaces_are_denied_flag_by_flag_and_clone3_is_unknown() -> None:
    rules = seccomp.profile()["syscalls"]

    assert {r["args"][0]["value"] for r in rules if r["names"] == ["clone"]} == set(
        seccomp.CLONE_NEW.values()
    )
    assert [r["errnoRet"] for r in rules if r["names"] == ["clone3"]] == [seccomp.ENOSYS]


# commands


def supervise(**changes: bool) -> list[str]:
    options = {"terminal": False, "stdin": False, "keep_output": True} | changes
    return list(
        commands.supervise(
            "id",
            runtime=RUNTIME,
            conmon="/usr/bin/conmon",
            folder=Path("/box"),
            sockets=Path("/run/d/sockets"),
            **options,
        )
    )


def test_conmon_keeps_all_output_and_the_exit_status() -> None:
    assert supervise() == [
        *("/usr/bin/conmon", "--cid", "id", "--cuuid", "id", "--name", "id"),
        *("--runtime", "/usr/bin/crun", "--bundle", "/box"),
        *("--container-pidfile", "/box/pid", "--exit-dir", "/box/exit"),
        *("--conmon-pidfile", "/box/supervisor", "--socket-dir-path", "/run/d/sockets"),
        *("--log-path", "k8s-file:/box/log", "--log-size-max", "134217728"),
        *("--no-sync-log", "--log-level", "error"),
        *("--runtime-arg=--root=/run/d/oci", "--runtime-arg=--cgroup-manager=cgroupfs"),
    ]


@pytest.mark.parametrize(
    ("changes", "more", "less"),
    [
        ({"terminal": True}, ["--terminal", "--leave-stdin-open"], []),
        ({"terminal": True, "stdin": True}, ["--terminal", "--leave-stdin-open"], []),
        ({"stdin": True}, ["--stdin"], []),
        ({"keep_output": False}, ["none"], ["k8s-file:/box/log"]),
    ],
)
def test_conmon_is_told_of_terminals_input_and_output(
    changes: dict[str, bool], more: list[str], less: list[str]
) -> None:
    plain, changed = supervise(), supervise(**changes)

    assert (
        [word for word in changed if word not in plain],
        [word for word in plain if word not in changed],
    ) == (more, less)


def test_runc_is_called_without_cruns_options() -> None:
    runtime = replace(RUNTIME, path="/usr/sbin/runc")

    assert commands.delete("id", runtime) == (
        *("/usr/sbin/runc", "--root=/run/d/oci", "delete", "--force", "id"),
    )


def test_the_namespace_hides_what_crun_must_not_see() -> None:
    made = commands.namespace(Path("/ns/mnt"), [Path("/sys/fs/cgroup/unified")])

    assert made == (
        *("unshare", "--mount=/ns/mnt", "--propagation", "slave"),
        *("sh", "-c", "umount -l '/sys/fs/cgroup/unified' && true"),
    )


def test_images_belong_to_the_app_and_keep_their_times() -> None:
    assert (
        commands.mkfs_erofs(Path("/tree"), Path("/i.erofs"), uid=7),
        commands.mksquashfs(Path("/tree"), Path("/i.sqfs"), uid=7),
    ) == (
        (
            *("mkfs.erofs", "-zlz4", "--force-uid=7", "--force-gid=7"),
            *("--preserve-mtime", "--quiet", "/i.erofs", "/tree"),
        ),
        (
            *("mksquashfs", "/tree", "/i.sqfs", "-comp", "zstd", "-Xcompression-level", "3"),
            *("-force-uid", "7", "-force-gid", "7", "-noappend", "-no-progress", "-quiet"),
        ),
    )


def test_a_link_is_up_only_when_all_else_is_done() -> None:
    assert (commands.link_inside(LINK, pid=42), commands.link_outside(LINK)) == (
        "link set lo up\n"
        "link add eth0 type veth peer name ddaaaaaa-3 netns 42\n"
        "link set eth0 addrgenmode none\n"
        "addr add 10.1.0.14/30 dev eth0\n"
        "link set eth0 up\n"
        "route add default via 10.1.0.13\n",
        "link set ddaaaaaa-3 addrgenmode none\n"
        "addr add 10.1.0.13/30 dev ddaaaaaa-3\n"
        "link set ddaaaaaa-3 up\n",
    )


def test_the_firewall_is_replaced_whole() -> None:
    script = commands.firewall("deodar_a", prefix="dda-", subnet=IPv4Network("10.1.0.0/16"))

    assert script == (
        "table inet deodar_a\n"
        "delete table inet deodar_a\n"
        "table inet deodar_a {\n"
        "  chain input {\n"
        "    type filter hook input priority filter - 10; policy accept;\n"
        '    iifname "dda-*" ct state established,related accept\n'
        '    iifname "dda-*" reject with icmpx admin-prohibited\n'
        "  }\n"
        "  chain forward {\n"
        "    type filter hook forward priority filter - 10; policy accept;\n"
        '    oifname "dda-*" ct state established,related accept\n'
        '    oifname "dda-*" reject with icmpx admin-prohibited\n'
        '    iifname "dda-*" ip daddr 169.254.0.0/16 reject with icmpx admin-prohibited\n'
        '    iifname "dda-*" meta nfproto ipv6 reject with icmpx admin-prohibited\n'
        "  }\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        '    ip saddr 10.1.0.0/16 oifname != "dda-*" masquerade\n'
        "  }\n"
        "}\n"
    )


def test_dynos_pass_another_firewall_out_and_their_answers_in() -> None:
    assert commands.forwarding("-I", prefix="dda-") == (
        ("iptables", "-w", "-I", "FORWARD", "-i", "dda-+", "-j", "ACCEPT"),
        (
            *("iptables", "-w", "-I", "FORWARD", "-o", "dda-+"),
            *("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
        ),
    )


# network: numbers


def test_a_slot_is_the_two_addresses_of_its_own_30() -> None:
    assert network.link("ddaaaaaa-", IPv4Network("10.1.0.0/16"), 3) == LINK


@pytest.mark.parametrize(
    ("taken", "after", "expected"),
    [
        (set(), -1, 0),
        ({0, 1}, 1, 2),
        ({0, 3}, 3, 1),  # round to the beginning, not 0, which is taken
        ({1}, 0, 2),
        ({0, 1, 2, 3}, 2, None),
    ],
)
def test_numbers_go_round_so_that_an_address_rests(
    taken: set[int], after: int, expected: int | None
) -> None:
    assert network.next_number(taken, after=after, count=4) == expected


def test_no_more_slots_than_a_devices_name_has_room_for() -> None:
    counts = [network.capacity(IPv4Network(net)) for net in ("10.0.0.0/24", "10.0.0.0/8")]

    assert counts == [64, 100_000]
    assert len(f"ddaaaaaa-{counts[1] - 1}") <= 15


# images: form


@pytest.mark.parametrize(
    ("filesystems", "tools", "form"),
    [
        ("nodev\ttmpfs\n\terofs\n\tsquashfs\n", {"mkfs.erofs", "mksquashfs"}, images.EROFS),
        ("\terofs\n\tsquashfs\n", {"mksquashfs"}, images.SQUASHFS),
        ("\tsquashfs\n", {"mkfs.erofs", "mksquashfs"}, images.SQUASHFS),
        ("nodev\ttmpfs\n", {"mkfs.erofs", "mksquashfs"}, images.FOLDER),
    ],
)
def test_the_best_form_that_can_be_made_and_mounted_is_chosen(
    filesystems: str, tools: set[str], form: images.Form
) -> None:
    assert images.choose(filesystems=filesystems, tools=frozenset(tools)) == form


# cgroups

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
V2 = "41 23 0:38 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
LEGACY = {
    "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
    "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
    "memory": Path("/sys/fs/cgroup/memory"),
    "pids": Path("/sys/fs/cgroup/pids"),
    "systemd": Path("/sys/fs/cgroup/systemd"),
}


@pytest.mark.parametrize(
    ("mountinfo", "found", "suffice"),
    [
        (V1, cgroups.Cgroups(unified=None, legacy=LEGACY, hybrid=None), True),
        (
            V1 + UNIFIED,
            cgroups.Cgroups(unified=None, legacy=LEGACY, hybrid=Path("/sys/fs/cgroup/unified")),
            True,
        ),
        (V2, cgroups.Cgroups(unified=Path("/sys/fs/cgroup"), legacy={}, hybrid=None), True),
        ("", cgroups.Cgroups(unified=None, legacy={}, hybrid=None), False),
    ],
)
def test_all_three_kinds_of_cgroups_are_recognised(
    mountinfo: str, found: cgroups.Cgroups, suffice: bool
) -> None:
    detected = cgroups.detect(mountinfo)

    assert (detected, detected.suffice) == (found, suffice)


@pytest.mark.parametrize(
    ("text", "controller", "path"),
    [
        ("8:pids:/a\n2:cpu,cpuacct:/b\n0::/c\n", "pids", "/a"),
        ("8:pids:/a\n2:cpu,cpuacct:/b\n0::/c\n", "cpuacct", "/b"),
        ("0::/system.slice/x:y\n", "", "/system.slice/x:y"),
        ("8:memory:/a\n", "pids", None),
    ],
)
def test_a_processs_own_cgroup_is_found(text: str, controller: str, path: str | None) -> None:
    assert cgroups.own_path(text, controller) == path


def test_oom_kills_are_counted_in_either_versions_words() -> None:
    texts = ["oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "low 0\noom 1\noom_kill 1\n", ""]

    assert [cgroups.oom_kills(text) for text in texts] == [2, 1, 0]


def test_on_version_2_the_kernel_itself_kills_all_and_counts(tmp_path: Path) -> None:
    folder = tmp_path / "dyno"
    folder.mkdir()
    (folder / "cgroup.kill").touch()
    (folder / "memory.events").write_text("oom_kill 1\n")
    unified = cgroups.Cgroups(unified=tmp_path, legacy={}, hybrid=None)

    unified.kill("/dyno")

    assert ((folder / "cgroup.kill").read_text(), unified.oom_killed("/dyno")) == ("1", True)
    assert unified.children("/") == {"dyno"}


# mountinfo


def test_a_mount_point_with_a_blank_is_read_as_it_is() -> None:
    line = r"41 31 0:38 / /mnt/my\040disk\134 rw shared:9 master:1 - ext4 /dev/sda rw,discard"

    assert list(mounts.parse(line)) == [mounts.Mount("/mnt/my disk\\", "ext4", ("rw", "discard"))]


# output

STAMP = b"2026-11-24T22:55:11.465581460+00:00"
AT = 1795560911.465581


def test_lines_are_read_with_the_offset_of_the_next() -> None:
    data = STAMP + b" stdout F hello\n" + STAMP + b" stderr P a b \n" + STAMP + b" stdout F \n"

    assert output.parse(data, 100) == [
        base.Output(AT, "stdout", b"hello", False, 151),
        base.Output(AT, "stderr", b"a b ", True, 201),
        base.Output(AT, "stdout", b"", False, 247),
    ]


def test_a_half_written_line_is_left_for_later() -> None:
    data = STAMP + b" stdout F hello\n" + STAMP + b" stdo"

    assert (output.parse(data, 0), output.parse(b"2026", 0)) == (
        [base.Output(AT, "stdout", b"hello", False, 51)],
        [],
    )


def test_what_was_discarded_is_passed_over() -> None:
    data = b"\0" * 4096 + STAMP + b" stdout F hello\n"

    assert output.parse(data, 0) == [base.Output(AT, "stdout", b"hello", False, 4147)]


def test_a_discarded_logs_blocks_are_given_back_and_its_length_stays(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = STAMP + b" stdout F " + b"x" * 1000 + b"\n"
    log.write_bytes(line * 1000)
    before = log.stat()

    output.discard(log, 900 * len(line))

    after = log.stat()
    assert (after.st_size, after.st_blocks < before.st_blocks / 5) == (before.st_size, True)
    assert [piece.offset for piece in output.read(log, 900 * len(line))] == [
        (n + 1) * len(line) for n in range(900, 1000)
    ]


# records


def test_a_process_is_told_from_a_later_one_by_when_it_began() -> None:
    assert (records.born(os.getpid()) or 0) > 0
    assert records.born(2**22 + 1) is None


@pytest.mark.parametrize(
    ("size", "available", "fits"),
    [(30_000_000, 4_000_000, True), (300_000_000, 4_000_000, False), (1, 0, False)],
)
def test_a_small_archive_is_unpacked_in_memory(size: int, available: int, fits: bool) -> None:
    meminfo = f"MemTotal: 8000000 kB\nMemFree: 10 kB\nMemAvailable: {available} kB\n"

    assert images.fits_in_memory(size, meminfo=meminfo) is fits

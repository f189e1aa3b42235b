"""What a machine lacks, each lack by itself and all at once."""

import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from deodar import settings
from deodar.adapters import host
from deodar.adapters.host import GB, Lack, Machine, Wish
from deodar.kit.listeners import Holder
from deodar.model import errors

FIT = Machine()
WISH = Wish(
    data=Path("/var/lib/deodar"),
    ports={8080: "DEODAR_HTTP_PORT", 5443: "DEODAR_API_TLS_PORT"},
    stack_built=False,
)


def test_a_fit_machine_lacks_nothing() -> None:
    assert host.judge(FIT, WISH) == ()


@pytest.mark.parametrize(
    ("machine", "lack"),
    [
        (
            replace(FIT, system="Darwin", root=False),
            Lack("Deodar runs on Linux; this is Darwin.", "Use a Linux machine."),
        ),
        (
            replace(FIT, root=False, capabilities=frozenset()),
            Lack(
                "Deodar needs root: running without it is not supported yet.",
                "Run the same command with sudo.",
            ),
        ),
        (
            replace(FIT, capabilities=frozenset({"CAP_NET_ADMIN"})),
            Lack(
                "root lacks CAP_SYS_ADMIN here, as in an unprivileged container.",
                "Use a machine or a virtual machine of its own, or a privileged container.",
            ),
        ),
        (
            replace(FIT, commands=FIT.commands - {"crun", "runc"}),
            Lack(
                "crun or runc is needed to run dynos, and is not here.",
                "Install it: apt-get install crun",
            ),
        ),
        (
            replace(FIT, commands=FIT.commands - {"mmdebstrap"}),
            Lack(
                "mmdebstrap is needed to build the stack, and is not here.",
                "Install it: apt-get install mmdebstrap",
            ),
        ),
        (
            replace(FIT, filesystems=frozenset({"ext4"})),
            Lack(
                "The kernel has no overlayfs, which every dyno's files are made of.",
                "Load it (modprobe overlay) or use another kernel.",
            ),
        ),
        (
            replace(FIT, controllers=frozenset({"pids", "cpu"})),
            Lack(
                "The kernel's cgroups have no memory controller, so no dyno could be limited.",
                "Start the kernel with cgroup_enable=memory, and see that cgroups are mounted.",
            ),
        ),
        (
            replace(FIT, holders={8080: Holder(412, "nginx", "nginx: master process")}),
            Lack(
                "Port 8080 is taken by nginx (pid 412).",
                "Stop that, or set DEODAR_HTTP_PORT to another port.",
            ),
        ),
        (
            replace(FIT, free=2 * GB),
            Lack(
                "The disk of /var/lib/deodar has 2.0 GB free; to build the stack takes 3.0 GB.",
                "Free some, or set DEODAR_DATA to a folder on another disk.",
            ),
        ),
    ],
    ids=lambda value: value.what if isinstance(value, Lack) else "",
)
def test_a_lack_is_named_with_what_to_do_about_it(machine: Machine, lack: Lack) -> None:
    assert host.judge(machine, WISH) == (lack,)


@pytest.mark.parametrize(
    ("machine", "wish"),
    [
        (replace(FIT, commands=FIT.commands - {"crun"}), WISH),
        (replace(FIT, commands=FIT.commands - {"mkfs.erofs"}), WISH),
        (replace(FIT, commands=FIT.commands - {"mmdebstrap"}), replace(WISH, stack_built=True)),
        (replace(FIT, free=2 * GB), replace(WISH, stack_built=True)),
        (
            replace(
                FIT,
                holders={8080: Holder(7, "haproxy", "haproxy -f /var/lib/deodar/run/haproxy.cfg")},
            ),
            WISH,
        ),
    ],
    ids=["runc for crun", "squashfs for erofs", "built stack", "space", "own router"],
)
def test_what_is_not_needed_or_is_ours_is_no_lack(machine: Machine, wish: Wish) -> None:
    assert host.judge(machine, wish) == ()


def test_all_lacks_are_told_at_once() -> None:
    machine = replace(
        FIT, root=False, commands=FIT.commands - {"git"}, holders={5443: Holder(None)}
    )

    assert [lack.what for lack in host.judge(machine, WISH)] == [
        "Deodar needs root: running without it is not supported yet.",
        "git is needed to receive pushes, and is not here.",
        "Port 5443 is taken by another process.",
    ]


def test_a_refusal_carries_what_was_seen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        wish = {"DEODAR_DATA": str(tmp_path / "new"), "DEODAR_HTTP_PORT": str(port)}

        with pytest.raises(errors.Refused) as refusal:
            host.check(settings.read(wish), stack_built=True)

    assert re.search(
        rf"Port {port} is taken by .* \(pid {os.getpid()}\)\. "
        "Stop that, or set DEODAR_HTTP_PORT to another port",
        refusal.value.message,
    )

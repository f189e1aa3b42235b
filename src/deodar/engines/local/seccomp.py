"""Which system calls a dyno may not make; leaves the rest of its config to `oci`.

A list of what is denied. Without capabilities and user namespaces the kernel refuses most of it anyway;
the list is the second lock, and keeps untrusted code away from the kernel's youngest corners. Only the
machine's own ABI is listed: calls by any other (32 bit, x32) end the process.
"""

from typing import Any

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

#: namespaces of one's own are the door to most kernel holes of late; only clone3 and unshare know NEWTIME
CLONE_NEW = {
    "CLONE_NEWNS": 0x00020000,
    "CLONE_NEWCGROUP": 0x02000000,
    "CLONE_NEWUTS": 0x04000000,
    "CLONE_NEWIPC": 0x08000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
}

MOUNTS = (
    "chroot fsconfig fsmount fsopen fspick listmount mount mount_setattr move_mount open_tree "
    "open_tree_attr pivot_root statmount umount umount2 setns unshare"
)
HANDLES = "fanotify_init fanotify_mark name_to_handle_at open_by_handle_at lookup_dcookie"
KERNEL = (
    "acct bpf create_module delete_module finit_module get_kernel_syms init_module kexec_file_load "
    "kexec_load nfsservctl perf_event_open query_module quotactl quotactl_fd reboot swapoff swapon "
    "sysfs _sysctl syslog uselib userfaultfd ustat"
)
CLOCKS = "adjtimex clock_adjtime clock_settime settimeofday stime"
HARDWARE = "iopl ioperm modify_ldt vm86 vm86old vhangup"
KEYS = "add_key keyctl request_key"
NUMA = "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node"
PEERS = "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"
RINGS = "io_uring_enter io_uring_register io_uring_setup"

DENIED = tuple(
    " ".join((MOUNTS, HANDLES, KERNEL, CLOCKS, HARDWARE, KEYS, NUMA, PEERS, RINGS)).split()
)

#: address families of `socket`: unix, inet, inet6 and netlink (getaddrinfo asks it) are what apps use
FAMILIES = (1, 2, 10, 16)


def profile() -> dict[str, Any]:
    """The profile in OCI's terms."""
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            _deny(*DENIED),
            # its flags lie behind a pointer that no filter can follow; libc falls back to clone
            _deny("clone3", errno=ENOSYS),
            *(
                _deny("clone", args=[_argument("SCMP_CMP_MASKED_EQ", flag, flag)])
                for flag in CLONE_NEW.values()
            ),
            *(
                _deny("socket", errno=EAFNOSUPPORT, args=[_argument("SCMP_CMP_EQ", family)])
                for family in range(max(FAMILIES))
                if family not in FAMILIES
            ),
            _deny("socket", errno=EAFNOSUPPORT, args=[_argument("SCMP_CMP_GT", max(FAMILIES))]),
        ],
    }


def _deny(
    *names: str, errno: int = EPERM, args: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
    return rule if args is None else rule | {"args": args}


def _argument(compare: str, value: int, mask: int = 0) -> dict[str, Any]:
    return {"index": 0, "value": value, "valueTwo": mask, "op": compare}

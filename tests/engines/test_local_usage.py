"""What cgroups tell of a container's memory, parsed: texts as kernels print them, shortened."""

from deodar.engines.base import Usage
from deodar.engines.local import usage

MB = 1024 * 1024

LEGACY = f"""\
cache {9 * MB}
rss {3 * MB}
shmem {1 * MB}
swap 0
pgpgin 5
pgpgout 4
hierarchical_memory_limit 536870912
total_cache {90 * MB}
total_rss {300 * MB}
total_rss_huge 0
total_shmem {10 * MB}
total_swap {4096}
total_swapcached 0
total_pgpgin 6697749
total_pgpgout 6643893
"""
UNIFIED = f"""\
anon {300 * MB}
file {90 * MB}
kernel 1200000
shmem {10 * MB}
workingset_refault_anon 0
pgfault 7577875
"""
NO_KILL = "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"


def test_version_1_tells_of_a_cgroup_with_all_below_it() -> None:
    assert usage.parse_legacy(LEGACY, control=NO_KILL, pids="max 0\n", peak=None) == Usage(
        rss=300 * MB,
        cache=90 * MB,
        shared=10 * MB,
        swap=4096,
        pgpgin=6697749,
        pgpgout=6643893,
    )


def test_version_1_tells_of_no_swap_where_the_kernel_does_not_count_it() -> None:
    stat = LEGACY.replace(f"total_swap {4096}\n", "")

    assert usage.parse_legacy(stat, control=NO_KILL, pids="max 0\n", peak=None).swap == 0


def test_version_2_counts_no_pages() -> None:
    parsed = usage.parse_unified(UNIFIED, swap="4096\n", events="oom_kill 0\n", pids="", peak=None)

    assert parsed == Usage(rss=300 * MB, cache=90 * MB, shared=10 * MB, swap=4096)


def test_version_2_counts_what_is_in_memory_and_in_swap_once() -> None:
    stat = f"{UNIFIED}swapcached {40 * MB}\n"

    parsed = usage.parse_unified(stat, swap=f"{50 * MB}\n", events="", pids="", peak=None)

    assert (parsed.rss, parsed.swap) == (300 * MB, 10 * MB)


def test_both_tell_of_the_killed_and_the_refused() -> None:
    legacy = usage.parse_legacy(
        LEGACY, control="under_oom 0\noom_kill 2\n", pids="max 7\n", peak=MB
    )
    unified = usage.parse_unified(
        UNIFIED, swap="", events="max 9\noom 2\noom_kill 2\n", pids="max 7\n", peak=MB
    )

    told = [(each.oom_kills, each.forks_refused, each.peak) for each in (legacy, unified)]
    assert told == [(2, 7, MB)] * 2


def test_a_threads_state_is_found_behind_whatever_name_it_has() -> None:
    stats = (b"7 (a) R S) R 1 7", b"7 (web) S 1 7", b"")

    assert [usage.state(stat) for stat in stats] == [b"R", b"S", b""]

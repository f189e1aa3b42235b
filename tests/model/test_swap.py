"""What /proc/swaps and zram say, as values."""

from deodar.model import swap

SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/zram0                              partition\t4194300\t\t1024\t\t100
/var/swap\\040file                       file\t\t1048572\t\t0\t\t-2
"""


def test_each_area_has_its_size_and_what_is_used_of_it_in_bytes() -> None:
    assert swap.parse(SWAPS) == (
        swap.Area("/dev/zram0", 4_294_963_200, 1_048_576),
        swap.Area("/var/swap\\040file", 1_073_737_728, 0),
    )


def test_a_machine_without_swap_has_no_room() -> None:
    assert swap.free(swap.parse(SWAPS.splitlines()[0])) == 0


def test_what_is_free_is_the_rest_of_all_areas() -> None:
    assert swap.free(swap.parse(SWAPS)) == 4_294_963_200 - 1_048_576 + 1_073_737_728


def test_only_zram_is_in_ram() -> None:
    assert [area.zram for area in swap.parse(SWAPS)] == ["zram0", None]


def test_what_zram_takes_of_ram_is_more_than_what_is_compressed_in_it() -> None:
    mm_stat = "96100352 36700160 37756928        0 37756928      512        0        0        0\n"

    assert swap.stored(mm_stat) == 37_756_928

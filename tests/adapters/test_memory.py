"""How much memory is free, as the kernel says it."""

from deodar.adapters import memory


def test_the_share_that_can_be_had_is_read_of_meminfo() -> None:
    text = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:    6000000 kB\nHugePages_Total: 0\n"

    assert memory.share(text) == 0.25
    assert 0 < memory.available() <= 1

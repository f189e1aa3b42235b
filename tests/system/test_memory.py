"""What an owner sees of a dyno's memory: R14 while it has too much, R15 at its end, and metrics."""

import re

import pytest

from tests.system.harness import APPS, Platform, eventually

HOST = "hungry.localhost"
METRICS = "log-runtime-metrics"
R14 = re.compile(
    r"heroku\[web\.1\]: Process running mem=(\d+)M\((\d+\.\d)%\)\n"
    r".* heroku\[web\.1\]: Error R14 \(Memory quota exceeded\)\n"
)


@pytest.fixture(scope="module", autouse=True)
def _hungry(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> None:
    platform.deploy("hungry", APPS / "hungry", tmp_path_factory.mktemp("hungry"), web=1)


@pytest.fixture(autouse=True)
def _fresh(platform: Platform) -> None:
    """Each test begins with a dyno that has taken nothing and whose crashes are forgotten."""
    before = history(platform)
    platform.api("PATCH", "/apps/hungry/config-vars", {"TEST": str(len(before))})
    # Until the old one is gone, it may be the one that is asked.
    eventually(lambda: "State changed from up to down" in since(platform, before))
    platform.settle("hungry", "web.1")


def history(platform: Platform) -> str:
    return platform.logs("hungry", lines=1500)


def since(platform: Platform, before: str) -> str:
    """What the log says that it did not say before."""
    return history(platform).removeprefix(before)


def end(log: str) -> list[str]:
    """The first five lines about a dyno that had all it could have; how much that is, is approximate."""
    told = re.findall(r"heroku\[web\.1\]: (.*)", log)
    told = [re.sub(r"mem=1024M\(200\.\d%\)", "mem=twice", line) for line in told]
    begin = told.index("Process running mem=twice")
    return told[begin : begin + 5]


def test_more_than_the_quota_is_told_again_and_again_and_the_dyno_lives(
    platform: Platform,
) -> None:
    before, dyno = history(platform), platform.dyno_ids("hungry")
    platform.get(HOST, "/eat?mb=600")

    told = eventually(lambda: (found := R14.findall(since(platform, before))) and found[2:])
    for memory, share in told:
        assert 600 <= int(memory) < 680
        assert float(share) == pytest.approx(100 * int(memory) / 512, abs=0.2)
    assert platform.get(HOST).status == 200
    assert platform.dyno_ids("hungry") == dyno


def test_files_that_the_kernel_remembers_alarm_nobody(platform: Platform) -> None:
    before = history(platform)
    platform.api("PATCH", f"/apps/hungry/features/{METRICS}", {"enabled": True})
    platform.get(HOST, "/write?mb=700")
    written = history(platform)

    # where there is swap, a dyno's files have less room
    eventually(lambda: re.search(r"memory_cache=[4-8]\d\d\.", since(platform, written)))
    platform.api("PATCH", f"/apps/hungry/features/{METRICS}", {"enabled": False})
    assert "R14" not in since(platform, before)


def test_more_than_twice_the_quota_ends_the_dyno_and_another_takes_over(
    platform: Platform,
) -> None:
    before, dyno = history(platform), platform.dyno_ids("hungry")
    platform.get(HOST, "/eat?mb=1100")
    eventually(lambda: platform.dyno_ids("hungry") != dyno)
    platform.settle("hungry", "web.1")

    assert end(since(platform, before))[:4] == [
        "Process running mem=twice",
        "Process exited with status 137",
        "Error R15 (Memory quota vastly exceeded)",
        "State changed from up to crashed",
    ]
    assert platform.get(HOST).status == 200
    (shown,) = platform.api("GET", "/apps/hungry/dynos")
    assert shown["reason"] == "Error R15 (Memory quota vastly exceeded)"


def test_a_dyno_whose_child_took_it_all_ends_too(platform: Platform) -> None:
    before, dyno = history(platform), platform.dyno_ids("hungry")
    platform.get(HOST, "/child?mb=1100")
    eventually(lambda: platform.dyno_ids("hungry") != dyno)
    platform.settle("hungry", "web.1")

    assert end(since(platform, before)) == [
        "Process running mem=twice",
        "Error R15 (Memory quota vastly exceeded)",
        "Stopping process with SIGKILL",
        "Process exited with status 137",
        "State changed from up to crashed",
    ]


def test_the_official_cli_switches_metrics_on_and_off(platform: Platform) -> None:
    before = history(platform)
    enabled = platform.heroku("labs:enable", METRICS, "--app", "hungry")
    dyno = platform.dyno_ids("hungry")["web.1"]
    app = platform.api("GET", "/apps/hungry")["id"]

    assert (enabled.status, f"Enabling {METRICS} for" in enabled.stderr) == (0, True)
    sample = (
        rf"heroku\[web\.1\]: source=web\.1 dyno=heroku\.{app}\.{dyno} "
        r"sample#memory_total=\d+\.\d\dMB sample#memory_rss=\d+\.\d\dMB "
        r"sample#memory_cache=\d+\.\d\dMB sample#memory_swap=0\.00MB "
        r"(sample#memory_pgpgin=\d+pages sample#memory_pgpgout=\d+pages )?"
        r"sample#memory_quota=512\.00MB\n"
    )
    eventually(lambda: re.search(sample, since(platform, before)))
    listed = platform.heroku("labs", "--app", "hungry")
    assert f"[+] {METRICS}" in listed.stdout
    disabled = platform.heroku("labs:disable", METRICS, "--app", "hungry")
    assert disabled.status == 0, disabled.all
    after = history(platform)
    platform.get(HOST, "/eat?mb=600")
    eventually(lambda: R14.findall(since(platform, after))[1:])
    assert "sample#memory" not in since(platform, after)

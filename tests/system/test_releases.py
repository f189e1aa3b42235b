"""Release phases, and slugs from elsewhere, as the official CLI and plain requests see them."""

import io
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.harness import APPS, Platform, Repo, eventually

MIGRATE = 'release: echo migrating; sleep ${NAP:-0}; echo migrated; test -z "$BREAK"\n'


@pytest.fixture(scope="module")
def press(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """An app that runs, with a release phase that ends as config vars say."""
    folder = tmp_path_factory.mktemp("press")
    (folder / "requirements.txt").touch()
    repo = platform.deploy("press", APPS / "hello", folder)
    platform.settle("press", "web.1")
    repo.write("Procfile", (repo.folder / "Procfile").read_text() + MIGRATE)
    repo.commit("Migrate before each release")
    result = repo.push()
    assert result.status == 0, result.all
    assert told(result.stderr)[-8:] == [
        "Running release command...",
        "",
        "migrating",
        "migrated",
        "Waiting for release... done.",
        "Verifying deploy... done.",
    ]
    return repo


def told(stderr: str) -> list[str]:
    """What the platform said to a push, from the release command on."""
    lines = [
        line.removeprefix("remote: ").rstrip()
        for line in stderr.splitlines()
        if line.startswith("remote:")
    ]
    return lines[lines.index("Running release command...") :]


def last(platform: Platform) -> dict[str, Any]:
    return max(platform.api("GET", "/apps/press/releases"), key=lambda each: int(each["version"]))


def decided(platform: Platform) -> tuple[str, bool]:
    def look() -> tuple[str, bool] | None:
        release = last(platform)
        is_open = release["status"] == "pending"
        return None if is_open else (release["status"], release["current"])

    answer = eventually(look)
    assert answer is not None
    return answer


def test_config_that_breaks_the_release_phase_is_not_taken(platform: Platform, press: Repo) -> None:
    platform.heroku("config:set", "BREAK=1", "--app", "press")

    output = platform.heroku("releases:output", "--app", "press").stdout

    assert output == (
        "migrating\nmigrated\n !     Release command failed: Process exited with status 1\n"
    )
    assert decided(platform) == ("failed", False)
    assert platform.api("GET", "/apps/press/config-vars") == {}
    assert platform.get("press.localhost").status == 200


def test_a_push_whose_release_phase_fails_is_stored_but_not_live(
    platform: Platform, press: Repo
) -> None:
    serving = platform.get("press.localhost").body
    procfile = (press.folder / "Procfile").read_text()
    press.write("Procfile", procfile.replace(MIGRATE, "release: exit 7\n"))
    press.commit("Break the migration")

    result = press.push()

    press.write("Procfile", procfile)
    press.commit("Mend it")
    assert result.status == 0, result.all
    assert told(result.stderr)[2:] == [
        " !     Release command failed: Process exited with status 7",
        "Waiting for release... failed.",
        "Verifying deploy... failed.",
    ]
    assert (last(platform)["status"], platform.get("press.localhost").body) == ("failed", serving)


def test_a_retry_runs_the_release_phase_again(platform: Platform, press: Repo) -> None:
    before = last(platform)
    assert press.push().status == 0

    result = platform.heroku("releases:retry", "--app", "press")

    assert result.stdout == "Running release command...\nmigrating\nmigrated\n"
    assert decided(platform) == ("succeeded", True)
    assert last(platform)["version"] == before["version"] + 2


def test_a_release_phase_outlives_the_control_plane(platform: Platform, press: Repo) -> None:
    platform.heroku("config:set", "NAP=4", "--app", "press")
    eventually(lambda: "migrating" in platform.heroku("logs", "--app", "press").stdout)

    platform.kill()
    platform.up()

    output = platform.heroku("releases:output", "--app", "press").stdout
    assert output == "migrating\nmigrated\n"
    assert decided(platform) == ("succeeded", True)
    platform.heroku("config:unset", "NAP", "--app", "press")
    decided(platform)


def test_a_slug_of_one_app_runs_as_another(platform: Platform, press: Repo, tmp_path: Path) -> None:
    slug = platform.api("GET", f"/apps/press/slugs/{last(platform)['slug']['id']}")
    archive = httpx.get(slug["blob"]["url"], verify=False, timeout=60).content
    platform.api("POST", "/apps", {"name": "reprint"})
    wanted = platform.api(
        "POST", "/apps/reprint/slugs", {"process_types": {"web": "python3 server.py"}}
    )

    uploaded = httpx.put(wanted["blob"]["url"], content=archive, verify=False, timeout=60)
    platform.api("POST", "/apps/reprint/releases", {"slug": wanted["id"]})

    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        assert "./app/server.py" in tar.getnames()
    assert uploaded.status_code == 200
    platform.settle("reprint", "web.1")
    assert platform.get("reprint.localhost").body.startswith("one hello web.1")

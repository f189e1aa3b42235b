"""Pushes that are built, refused, stored or interrupted, as somebody at a terminal sees them."""

from pathlib import Path

import pytest

from tests.system.conftest import STACKS
from tests.system.harness import APPS, Platform, Repo, eventually

php = pytest.mark.skipif(
    STACKS.exists() and not (STACKS / "deodar-12/run/usr/sbin/apache2").exists(),
    reason="the stack was built before PHP was part of it: build it anew",
)


@pytest.fixture(scope="module")
def forge(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """An app that runs, and to whose repository each test pushes something else."""
    folder = tmp_path_factory.mktemp("forge")
    (folder / "requirements.txt").touch()  # a Python app that needs nothing yet
    repo = platform.deploy("forge", APPS / "hello", folder)
    platform.settle("forge", "web.1")
    return repo


def release(platform: Platform) -> int:
    return max(int(one["version"]) for one in platform.api("GET", "/apps/forge/releases"))


def test_the_same_commit_is_up_to_date_and_no_release(platform: Platform, forge: Repo) -> None:
    before = release(platform)

    result = forge.push()

    assert (result.status, result.stderr.strip()) == (0, "Everything up-to-date")
    assert release(platform) == before


def test_an_empty_commit_is_built_and_released_again(platform: Platform, forge: Repo) -> None:
    before = release(platform)
    forge.commit("Again")

    result = forge.push()

    assert result.status == 0, result.all
    assert f"remote:        Released v{before + 1}" in result.stderr
    assert platform.get("forge.localhost").status == 200


def test_another_branch_is_stored_but_not_built(platform: Platform, forge: Repo) -> None:
    before = release(platform)
    forge.git("switch", "--quiet", "--create", "try-out")
    forge.commit("Try something")

    result = forge.push("try-out")

    forge.git("switch", "--quiet", "main")
    assert result.status == 0, result.all
    assert "Pushed to non-main branch, skipping build" in result.stderr
    assert " * [new branch]      try-out -> try-out" in result.stderr
    assert release(platform) == before


def test_a_malformed_procfile_is_refused_with_its_line(platform: Platform, forge: Repo) -> None:
    procfile = (forge.folder / "Procfile").read_text()
    forge.write("Procfile", "web: python3 server.py\nworker python3 worker.py\n")
    forge.commit("Forget a colon")

    result = forge.push()

    forge.write("Procfile", procfile)
    forge.commit("Remember the colon")
    assert result.status == 1
    assert "Procfile line 2 is not valid: 'worker python3 worker.py'" in result.stderr
    assert " ! [remote rejected] main -> main (pre-receive hook declined)" in result.stderr


def test_a_build_that_fails_is_rejected_and_the_old_release_serves_on(
    platform: Platform, forge: Repo
) -> None:
    before = release(platform)
    serving = platform.get("forge.localhost").body
    forge.write("requirements.txt", "a-package-that-nobody-would-publish==99\n")
    forge.commit("Depend on a dream")

    result = forge.push()

    forge.write("requirements.txt", "")
    forge.commit("Wake up")
    assert result.status == 1
    assert "a-package-that-nobody-would-publish" in result.stderr
    assert "Push rejected, failed to compile Python app." in result.stderr
    assert " ! [remote rejected] main -> main (pre-receive hook declined)" in result.stderr
    assert release(platform) == before
    assert platform.get("forge.localhost").body == serving


def test_what_no_buildpack_knows_is_refused(platform: Platform, tmp_path: Path) -> None:
    platform.create("enigma")
    repo = Repo.of(APPS / "nothing", tmp_path / "enigma", platform, app="enigma")

    result = repo.push()

    assert result.status == 1
    assert "No default language could be detected for this app." in result.stderr
    assert "Push rejected, failed to compile" in result.stderr or "Push failed" in result.stderr
    platform.api("DELETE", "/apps/enigma")


def test_a_wrong_token_may_not_push(platform: Platform, forge: Repo) -> None:
    host = platform.client["HEROKU_GIT_HOST"]

    result = forge.git("push", f"https://heroku:wrong@{host}/forge.git", "main")

    assert result.status == 128
    assert "Authentication failed" in result.stderr


def test_an_app_that_is_not_there_is_said_so(platform: Platform, forge: Repo) -> None:
    token, host = platform.client["HEROKU_API_KEY"], platform.client["HEROKU_GIT_HOST"]

    result = forge.git("push", f"https://heroku:{token}@{host}/nowhere.git", "main")

    assert result.status == 128
    assert "not found" in result.stderr


def test_a_release_that_does_not_come_up_is_given_up_and_the_old_one_serves_on(
    platform: Platform, forge: Repo
) -> None:
    platform.settle("forge", "web.1")
    serving = platform.get("forge.localhost").body
    procfile = (forge.folder / "Procfile").read_text()
    forge.write("Procfile", "web: echo no database here && exit 3\n")
    forge.commit("Forget the database")

    result = forge.push()

    forge.write("Procfile", procfile)
    forge.commit("Remember the database")
    assert result.status == 0, result.all
    assert "Verifying deploy... failed." in result.stderr
    assert "web.1 crashed" in result.stderr
    eventually(lambda: latest(platform) == ("failed", False))
    assert platform.get("forge.localhost").body == serving
    again = forge.push()
    assert "Verifying deploy... done." in again.stderr, again.all
    assert latest(platform) == ("succeeded", True)


def latest(platform: Platform) -> tuple[str, bool]:
    """Status of the newest release, and whether it is the current one."""
    newest = platform.api("GET", "/apps/forge/releases")[-1]
    return newest["status"], newest["current"]


@php
def test_an_index_php_is_served_by_as_many_workers_as_fit_and_its_words_are_in_the_log(
    platform: Platform, tmp_path: Path
) -> None:
    platform.deploy("plain", APPS / "php", tmp_path / "plain")

    assert platform.get("plain.localhost").body == "Ahoy from PHP in web.1 with 128M"
    said = eventually(lambda: said_by(platform, "plain", "asked for /"))
    assert "4 processes at 128MB memory limit." in said
    platform.api("DELETE", "/apps/plain")


@php
def test_a_php_app_s_packages_are_installed_and_its_nginx_knows_its_address(
    platform: Platform, tmp_path: Path
) -> None:
    repo = platform.deploy("packages", APPS / "php-packages", tmp_path / "packages")

    assert platform.get("packages.localhost").body == "Ahoy from a package at packages.localhost"
    repo.write("index.php", "")
    repo.commit("Again")
    assert "Released v4" in repo.push().stderr
    assert platform.get("packages.localhost").status == 200
    platform.api("DELETE", "/apps/packages")


def test_gunicorn_serves_a_python_app_without_a_procfile(
    platform: Platform, tmp_path: Path
) -> None:
    folder = tmp_path / "wsgi"
    folder.mkdir()
    (folder / "requirements.txt").write_text("gunicorn==23.0.0\n")
    (folder / "app.py").write_text(
        "def app(environ, start):\n    start('200 OK', [])\n    return [b'Ahoy']\n"
    )
    platform.create("wsgi")
    pushed = Repo.of(folder, tmp_path / "wsgi-repo", platform, app="wsgi").push()

    assert "Default types for Python    -> web" in pushed.stderr, pushed.all
    assert platform.get("wsgi.localhost").body == "Ahoy"
    platform.api("DELETE", "/apps/wsgi")


def said_by(platform: Platform, app: str, words: str) -> str:
    """The app's log if these words are in it."""
    log = platform.logs(app)
    return log if words in log else ""

"""What somebody types who knows Heroku, in the order they would, with the official CLI: each step is a
test that looks for the words they would read. The steps build on each other."""

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.system.harness import SAMPLES, Answer, Platform, Repo, eventually


@pytest.fixture(scope="module")
def shop(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("transcript") / "shop"
    return Repo.of(SAMPLES / "python-web-worker", folder, platform)


def host(name: str) -> str:
    return f"{name}.localhost"


def test_whoami_names_the_owner(platform: Platform) -> None:
    result = platform.heroku("auth:whoami")

    assert (result.status, result.stdout.strip()) == (0, "owner@deodar.local")


def test_create_names_the_app_and_adds_a_remote(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("create", "shop", cwd=shop.folder)

    https, git = platform.settings["DEODAR_HTTPS_PORT"], platform.client["HEROKU_GIT_HOST"]
    assert result.status == 0, result.all
    assert f"https://shop.localhost:{https}" in result.stdout
    assert f"https://{git}/shop.git" in result.stdout
    assert f"https://{git}/shop.git" in shop.git("remote", "--verbose").stdout


def test_a_new_app_answers_that_nothing_is_there_yet(platform: Platform, shop: Repo) -> None:
    answer = eventually(lambda: becomes(503, platform, "shop"))

    assert "Welcome to your new app!" in answer.body


def test_push_builds_releases_and_launches(platform: Platform, shop: Repo) -> None:
    result = shop.push()

    assert result.status == 0, result.all
    said = [line.removeprefix("remote: ").rstrip() for line in result.stderr.splitlines()]
    for line in (
        "Building source:",
        "-----> Python app detected",
        "-----> Discovering process types",
        "       Procfile declares types     -> web, worker",
        "-----> Compressing...",
        "-----> Launching...",
        "       Released v3",
        "Verifying deploy... done.",
    ):
        assert line in said, result.stderr
    https = platform.settings["DEODAR_HTTPS_PORT"]
    assert f"       https://shop.localhost:{https}/ deployed to Deodar" in said
    assert " * [new branch]      main -> main" in result.stderr


def test_the_page_is_there_with_the_headers_of_the_router(platform: Platform, shop: Repo) -> None:
    answer = platform.get(host("shop"))

    assert answer.status == 200
    assert answer.body.startswith("Hello from Deodar\nweb.1 ")
    assert answer.headers["via"] == "1.1 heroku-router"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


def test_the_page_is_there_by_https_under_the_platforms_own_ca(
    platform: Platform, shop: Repo
) -> None:
    port = platform.settings["DEODAR_HTTPS_PORT"]
    result = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--cacert", platform.client["GIT_SSL_CAINFO"]),
            *("--resolve", f"shop.localhost:{port}:127.0.0.1"),
            *("--write-out", "%{http_version} %{http_code}", "--output", "/dev/null"),
            f"https://shop.localhost:{port}/",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (result.stdout, result.stderr) == ("2 200", "")


def test_ps_shows_web_and_no_worker(platform: Platform, shop: Repo) -> None:
    platform.settle("shop", "web.1")

    result = platform.heroku("ps", cwd=shop.folder)

    assert result.status == 0, result.all
    assert "=== web (Basic): gunicorn app:app --bind 0.0.0.0:$PORT (1)" in result.stdout
    assert re.search(r"^web\.1: up ", result.stdout, re.MULTILINE)
    assert "worker" not in result.stdout


def test_scale_starts_as_many_as_wished(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("ps:scale", "web=3", "worker=2", cwd=shop.folder)

    assert result.status == 0, result.all
    assert "now running web at 3:Basic, worker at 2:Basic" in result.all
    platform.settle("shop", "web.1", "web.2", "web.3", "worker.1", "worker.2")
    listed = platform.heroku("ps", cwd=shop.folder).stdout
    assert "=== worker (Basic): python worker.py (2)" in listed
    assert re.findall(r"^(\w+\.\d): up ", listed, re.MULTILINE) == [
        *("web.1", "web.2", "web.3"),
        *("worker.1", "worker.2"),
    ]


def test_every_web_dyno_gets_requests(platform: Platform, shop: Repo) -> None:
    def seen() -> set[str]:
        bodies = [platform.get(host("shop")).body for _ in range(20)]
        return {body.splitlines()[1].split()[0] for body in bodies}

    assert eventually(lambda: seen() == {"web.1", "web.2", "web.3"}, within=20)


def test_a_config_var_makes_a_release_and_reaches_the_page(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("config:set", "GREETING=hello", cwd=shop.folder)

    assert result.status == 0, result.all
    assert "GREETING: hello" in result.all
    assert "done, v4" in result.all
    eventually(lambda: platform.get(host("shop")).body.startswith("hello\n"))
    assert platform.heroku("config:get", "GREETING", cwd=shop.folder).stdout == "hello\n"


def test_run_brings_output_and_exit_status_back(platform: Platform, shop: Repo) -> None:
    fine = platform.heroku("run", "-x", "--", "python", "-c", "print(6*7)", cwd=shop.folder)
    wrong = platform.heroku("run", "-x", "--", "bash", "-c", "exit 7", cwd=shop.folder)

    assert (fine.status, fine.stdout.strip()) == (0, "42"), fine.all
    assert wrong.status == 7, wrong.all


def test_run_reads_what_is_piped_into_it(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("run", "--no-tty", "--", "wc -l", cwd=shop.folder, stdin="a\nb\nc\n")

    assert result.stdout.strip() == "3", result.all


def test_run_bash_is_a_terminal(platform: Platform, shop: Repo) -> None:
    seen = platform.heroku_in_terminal(
        "run", "bash", typed="tty; echo $((6*7)) in $DYNO\nexit\n", cwd=shop.folder
    )

    assert "/dev/pts/" in seen or "/dev/console" in seen, seen
    assert re.search(r"42 in run\.\d{4}", seen), seen


def test_run_detached_leaves_its_output_in_the_log(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("run:detached", "python job.py 2", cwd=shop.folder)

    assert result.status == 0, result.all
    name = re.search(r"run\.\d{4}", result.all)
    assert name is not None, result.all
    for pattern in (
        r"app\[run\.\d{4}\]: job 1 done",
        r"app\[run\.\d{4}\]: job 2 done",
        r"heroku\[run\.\d{4}\]: Process exited with status 0",
        r"heroku\[run\.\d{4}\]: State changed from up to complete",
    ):
        eventually(partial(tells, platform, pattern, dyno=name[0]))


def test_logs_tell_of_router_dynos_and_api(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("logs", "-n", "400", cwd=shop.folder)

    assert result.status == 0, result.all
    for pattern in (
        r"heroku\[router\]: at=info method=GET path=\"/\" host=shop\.localhost\S* request_id=\S+ "
        r'fwd="127\.0\.0\.1" dyno=web\.\d connect=\d+ms service=\d+ms status=200 bytes=\d+ protocol=http1.1 tls=false',
        r"app\[api\]: Scaled to web@3:Basic worker@2:Basic by user owner@deodar\.local",
        r"app\[api\]: Set GREETING config vars by user owner@deodar\.local",
        r"heroku\[web\.1\]: Starting process with command `gunicorn app:app --bind 0\.0\.0\.0:\$PORT`",
        r"heroku\[web\.1\]: State changed from starting to up",
        r"app\[worker\.2\]: worker\.2 did job \d+",
    ):
        assert re.search(pattern, result.stdout), f"{pattern}\n{result.stdout}"
    assert "hello" not in re.findall(r"app\[api\].*", result.stdout)


def test_logs_can_be_followed(platform: Platform, shop: Repo) -> None:
    tail = subprocess.Popen(
        [str(platform.heroku_binary), "logs", "--tail", "--ps", "web"],
        cwd=shop.folder,
        env=platform.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tail.stdout is not None
    try:
        seen = [tail.stdout.readline()]  # what was there before; from here on it follows
        asked_at = platform.logs("shop", lines=1)[:19]
        platform.api("DELETE", "/apps/shop/dynos/web.1")
        for line in tail.stdout:
            seen.append(line)
            if "web.1]: Stopping all processes with SIGTERM" in line and line[:19] >= asked_at:
                break
    finally:
        tail.kill()
        tail.communicate()

    assert "Stopping all processes with SIGTERM" in seen[-1]
    assert [line for line in seen if not re.search(r"(app|heroku)\[web\.\d\]:", line)] == []


def test_releases_are_a_ledger(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("releases", cwd=shop.folder)

    assert result.status == 0, result.all
    for pattern in (
        r"v4\s+Set GREETING config vars\s+owner@deodar\.local",
        r"v3\s+Deploy [0-9a-f]{8}\s+owner@deodar\.local",
        r"v2\s+Enable Logplex\s+owner@deodar\.local",
        r"v1\s+Initial release\s+owner@deodar\.local",
    ):
        assert re.search(pattern, result.stdout), f"{pattern}\n{result.stdout}"


def test_a_release_can_be_looked_at(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("releases:info", "v3", cwd=shop.folder)

    assert result.status == 0, result.all
    assert "=== Release v3" in result.stdout
    assert re.search(r"Change:\s+Deploy [0-9a-f]{8}", result.stdout)
    assert "GREETING" not in result.stdout


def test_rollback_brings_code_and_config_back_as_a_new_release(
    platform: Platform, shop: Repo
) -> None:
    result = platform.heroku("rollback", "v3", cwd=shop.folder)

    assert result.status == 0, result.all
    eventually(lambda: platform.get(host("shop")).body.startswith("Hello from Deodar\n"))
    assert platform.api("GET", "/apps/shop/config-vars") == {}
    latest = platform.api("GET", "/apps/shop/releases")[-1]
    assert (latest["version"], latest["description"]) == (5, "Rollback to v3")


def test_maintenance_answers_for_the_app_and_lets_it_run(platform: Platform, shop: Repo) -> None:
    on = platform.heroku("maintenance:on", cwd=shop.folder)
    answer = eventually(lambda: becomes(503, platform, "shop"))
    off = platform.heroku("maintenance:off", cwd=shop.folder)

    assert (on.status, off.status) == (0, 0), on.all + off.all
    assert "maintenance" in answer.body
    eventually(lambda: platform.get(host("shop")).status == 200)
    eventually(partial(tells, platform, "at=info code=H80", dyno="router"))


def test_restart_replaces_one_dyno(platform: Platform, shop: Repo) -> None:
    platform.settle("shop", "web.1", "web.2", "web.3", "worker.1", "worker.2")
    before = platform.dyno_ids("shop")

    result = platform.heroku("ps:restart", "web.1", cwd=shop.folder)

    assert result.status == 0, result.all
    eventually(lambda: platform.dyno_ids("shop").get("web.1") not in (None, before["web.1"]))
    platform.settle("shop", "web.1", "web.2", "web.3", "worker.1", "worker.2")
    after = platform.dyno_ids("shop")
    assert {name for name in before if before[name] != after[name]} == {"web.1"}


def test_a_stopped_formation_dyno_is_replaced(platform: Platform, shop: Repo) -> None:
    before = platform.dyno_ids("shop")

    result = platform.heroku("ps:stop", "worker.1", cwd=shop.folder)

    assert result.status == 0, result.all
    eventually(lambda: platform.dyno_ids("shop").get("worker.1") not in (None, before["worker.1"]))
    platform.settle("shop", "web.1", "web.2", "web.3", "worker.1", "worker.2")


def test_info_tells_what_the_app_is(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("apps:info", cwd=shop.folder)

    assert result.status == 0, result.all
    https = platform.settings["DEODAR_HTTPS_PORT"]
    for pattern in (
        r"=== shop",
        r"Owner:\s+owner@deodar\.local",
        r"Stack:\s+deodar-12",
        rf"Web URL:\s+https://shop\.localhost:{https}/",
        r"Slug Size:\s+\d+ (KB|MB)",
        r"Dynos:\s+web: 3, worker: 2",
    ):
        assert re.search(pattern, result.stdout), f"{pattern}\n{result.stdout}"


def test_a_domain_of_ones_own_is_routed(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("domains:add", "www.example.test", cwd=shop.folder)

    assert "www.example.test" in result.all
    eventually(lambda: platform.get("www.example.test").status == 200)


def test_an_unknown_process_type_is_named(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("ps:scale", "wrker=1", cwd=shop.folder)

    assert result.status != 0
    assert "Couldn't find that process type (wrker)." in result.all


def test_rename_keeps_everything_but_the_name(platform: Platform, shop: Repo) -> None:
    result = platform.heroku("apps:rename", "store", "--app", "shop", cwd=shop.folder)

    assert result.status == 0, result.all
    eventually(lambda: platform.get(host("store")).status == 200)
    eventually(lambda: platform.get(host("shop")).status == 404)
    assert platform.get("www.example.test").status == 200


def test_destroy_leaves_nothing(platform: Platform, shop: Repo) -> None:
    app_id = platform.api("GET", "/apps/store")["id"]

    result = platform.heroku("apps:destroy", "store", "--confirm", "store", cwd=shop.folder)

    assert result.status == 0, result.all
    eventually(lambda: platform.get(host("store")).status == 404)
    eventually(lambda: platform.get("www.example.test").status == 404)
    eventually(lambda: files_that_name(app_id, platform.data) == [])


def files_that_name(app_id: str, data: Path) -> list[str]:
    """Containers, repository, cache and log of an app, by their names; slugs are named otherwise."""
    records = data.glob("run/containers/*/record.json")
    containers = [str(file.parent) for file in records if app_id in file.read_text()]
    named = [
        str(file) for folder in ("repos", "caches", "logs") for file in (data / folder).iterdir()
    ]
    return containers + [name for name in named if app_id in name]


def becomes(status: int, platform: Platform, app: str) -> Answer:
    """The answer once it has this status."""
    answer = platform.get(host(app))
    assert answer.status == status, answer
    return answer


def tells(platform: Platform, pattern: str, *, dyno: str | None = None) -> bool:
    log = platform.logs("shop", dyno=dyno)
    assert re.search(pattern, log), f"{pattern}\n{log}"
    return True

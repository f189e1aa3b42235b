#!/usr/bin/env python3
"""Deploys the sample app to the platform that runs here, as a person would: create it, push it with
git, scale it, look at its page. `scripts/demo` starts the platform first."""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import httpx

from deodar import settings as settings_

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples/python-web-worker"
APP = os.environ.get("DEODAR_DEMO_APP") or "demo"
FORMATION = {"web": 2, "worker": 1}
GIT = (
    *("git", "-c", "user.name=Demo", "-c", "user.email=demo@deodar.local"),
    *("-c", "init.defaultBranch=main", "-c", "credential.helper=", "-c", "commit.gpgsign=false"),
)


def main() -> None:
    settings = settings_.read(os.environ)
    client = json.loads((settings.paths.data / "client.json").read_text())
    tls = ssl.create_default_context(cafile=client["NODE_EXTRA_CA_CERTS"])
    api = httpx.Client(
        base_url=client["HEROKU_HOST"],
        verify=tls,
        trust_env=False,
        timeout=60,
        headers={
            "Accept": "application/vnd.heroku+json; version=3",
            "Authorization": f"Bearer {client['HEROKU_API_KEY']}",
        },
    )
    create(api)
    push(client)
    scale(api)
    show(settings)


def create(api: httpx.Client) -> None:
    if api.get(f"/apps/{APP}").status_code == 404:
        say(f"Creating the app {APP}")
        checked(api.post("/apps", json={"name": APP}))


def push(client: dict[str, str]) -> None:
    """A fresh commit of the sample on top of what was pushed before, and a real `git push`."""
    address = f"https://heroku:{client['HEROKU_API_KEY']}@{client['HEROKU_GIT_HOST']}/{APP}.git"
    environment = os.environ | {
        "GIT_SSL_CAINFO": client["GIT_SSL_CAINFO"],
        "GIT_TERMINAL_PROMPT": "0",
        # Not as an argument: those are there for every user of the machine to read.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "remote.heroku.url",
        "GIT_CONFIG_VALUE_0": address,
    }
    with tempfile.TemporaryDirectory(prefix="deodar-demo-") as folder:
        shutil.copytree(SAMPLE, folder, dirs_exist_ok=True)

        def git(*arguments: str, quiet: bool = True) -> int:
            return subprocess.run(
                (*GIT, *arguments),
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL if quiet else None,
                stderr=subprocess.DEVNULL if quiet else None,
            ).returncode

        git("init")
        if git("fetch", "heroku", "main") == 0:
            git("reset", "--soft", "FETCH_HEAD")
        git("add", ".")
        git("commit", "--allow-empty", "--message", "Deploy the sample")
        say(f"Deploying {SAMPLE.relative_to(ROOT)}: git push heroku main")
        if git("push", "heroku", "HEAD:refs/heads/main", quiet=False) != 0:
            fail("The push failed: see above.")


def scale(api: httpx.Client) -> None:
    say("Scaling to " + " ".join(f"{type}={quantity}" for type, quantity in FORMATION.items()))
    updates = [{"type": type, "quantity": quantity} for type, quantity in FORMATION.items()]
    checked(api.patch(f"/apps/{APP}/formation", json={"updates": updates}))


def show(settings: settings_.Settings) -> None:
    host = f"{APP}.{settings.domain}"
    here = "127.0.0.1" if settings.listen in ("0.0.0.0", "::") else settings.listen
    url = f"http://{host}:{settings.ports.http}/"
    say(f"GET {url}")
    # The router holds the request while the first dyno boots.
    connection = http.client.HTTPConnection(here, settings.ports.http, timeout=90)
    connection.request("GET", "/", headers={"Host": f"{host}:{settings.ports.http}"})
    answer = connection.getresponse()
    page = answer.read().decode()
    if answer.status != 200:
        fail(f"The app answered {answer.status}: {page}")
    print(page, flush=True)
    say(f"It is at {url} and https://{host}:{settings.ports.https}/ until: make down")
    sudo = "" if os.geteuid() == 0 and "SUDO_USER" not in os.environ else "sudo "
    say(
        f'With the Heroku CLI: eval "$({sudo}.venv/bin/deodar env)"; heroku logs --tail --app {APP}'
    )


def checked(answer: httpx.Response) -> None:
    if answer.is_error:
        fail(f"The API refused: {answer.json()['message']}")


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    print(f"Error: {text}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()

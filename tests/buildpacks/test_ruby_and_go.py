"""What the Ruby and the Go buildpacks do beyond their samples, with nothing from the network."""

import json
import shutil
import zipfile
from pathlib import Path

from tests.buildpacks.conftest import Shelf
from tests.buildpacks.runner import Workshop, lay

LOCK = (
    "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (2.2.22)\n    rake (13.0.6)\n\n"
    "PLATFORMS\n  ruby\n\nDEPENDENCIES\n  rack\n  rake\n"
)


def test_a_gemfile_without_its_lock_is_refused(shop: Workshop, tmp_path: Path) -> None:
    built = shop.build(lay(tmp_path / "app", {"Gemfile": ""}), offline=True)

    assert " !     Gemfile.lock required. Please check it in." in built.output.splitlines()
    assert built.status == 1


def test_gems_that_cannot_be_fetched_fail_the_build(shop: Workshop, tmp_path: Path) -> None:
    lock = LOCK.replace("2.2.22", "2.0.1")
    gemfile = 'source "https://rubygems.org"\ngem "rack"\ngem "rake"\n'

    built = shop.build(
        lay(tmp_path / "app", {"Gemfile": gemfile, "Gemfile.lock": lock}), offline=True
    )

    assert " !     Failed to install gems via Bundler. The lines above say why." in built.output
    assert built.status == 1


def test_assets_are_precompiled_where_the_task_is(shop: Workshop, tmp_path: Path) -> None:
    app = {
        "Gemfile": 'source "https://rubygems.org"\ngem "rack"\ngem "rake"\n',
        "Gemfile.lock": LOCK,
        "Rakefile": 'task "assets:precompile" do\n'
        '  File.write("assets", ENV["SECRET_KEY_BASE"] + ENV["RAILS_ENV"])\nend\n',
    }

    built = shop.build(lay(tmp_path / "app", app), offline=True)

    assert built.status == 0, built.output
    assert (built.app / "assets").read_text() == "of-the-build-onlyproduction"
    assert built.outcome.process_types == {"rake": "bundle exec rake"}


def test_gems_are_downloaded_once_and_those_not_needed_any_more_are_dropped(
    shop: Workshop, tmp_path: Path, shelf: Shelf
) -> None:
    for name in ("word", "other"):
        gem = (
            f"Gem::Specification.new {{ |s| s.name = '{name}'; s.version = '1'; s.summary = 's'; "
            "s.authors = ['n']; s.files = Dir['lib/*'] }"
        )
        files = {f"{name}.gemspec": gem, f"lib/{name}.rb": f"module {name.title()}; end"}
        lay(shelf.folder / name, files)
    shop.inside(
        shelf.folder,
        "set -e; mkdir gems; for name in word other; do (cd $name && gem build --silent --output ../gems/$name-1.gem"
        " $name.gemspec); done; gem generate_index --silent --directory .",
    )
    both = {
        "Gemfile": f"source '{shelf.url}'\ngem 'word'\ngem 'other'\n",
        "app.rb": "require 'word'; puts Word",
        "Procfile": "web: bundle exec ruby app.rb",
    }
    one = both | {"Gemfile": f"source '{shelf.url}'\ngem 'word'\n"}
    sources = [lay(tmp_path / "both", both), lay(tmp_path / "one", one)]
    for source in sources:
        shop.inside(source, "bundle lock > /dev/null")

    first = shop.build(sources[0])
    again = shop.build(sources[0], offline=True)
    fewer = shop.build(sources[1], offline=True)

    assert [built.status for built in (first, again, fewer)] == [0, 0, 0], again.output
    assert shop.run(again, "bundle exec ruby app.rb; ls -A .bundle; bundle list --name-only") == (
        "Word\nconfig\nother\nword\n"
    )
    assert shop.run(fewer, "bundle list --name-only") == "word\n"


MAIN = 'package main\n\nvar word = "none"\n\nfunc main() { println(word) }\n'


def test_every_main_package_of_a_module_is_installed(shop: Workshop, tmp_path: Path) -> None:
    app = {
        "go.mod": "module example.com/two\n\ngo 1.21\n",
        "cmd/api/main.go": MAIN,
        "cmd/job/main.go": MAIN,
        "lib/lib.go": "package lib\n",
        "Procfile": "web: bin/api",
    }

    built = shop.build(lay(tmp_path / "app", app), offline=True)

    assert built.status == 0, built.output
    assert sorted(path.name for path in (built.app / "bin").iterdir()) == ["api", "job"]
    assert built.outcome.process_types == {"web": "bin/api"}


def test_a_linker_symbol_and_the_packages_can_be_chosen(shop: Workshop, tmp_path: Path) -> None:
    app = {
        "go.mod": "module example.com/two\n\n// +heroku install ./cmd/api\n\ngo 1.21\n",
        "cmd/api/main.go": MAIN,
        "cmd/job/main.go": MAIN,
    }

    built = shop.build(
        lay(tmp_path / "app", app),
        offline=True,
        config={"GO_LINKER_SYMBOL": "main.word", "GO_LINKER_VALUE": "told"},
    )

    assert built.outcome.process_types == {"web": "bin/api"}
    assert shop.run(built, "ls bin; api 2>&1") == "api\ntold\n"


def test_go_that_does_not_compile_fails_the_build(shop: Workshop, tmp_path: Path) -> None:
    app = {"go.mod": "module example.com/x\n\ngo 1.21\n", "main.go": MAIN + "broken\n"}

    built = shop.build(lay(tmp_path / "app", app), offline=True)

    assert "main.go:6:1: syntax error" in built.output
    assert built.status == 1


def test_modules_are_downloaded_once_and_vendored_ones_never(
    shop: Workshop, tmp_path: Path, shelf: Shelf
) -> None:
    module = "example.com/word"
    versions = shelf.folder / module / "@v"
    versions.mkdir(parents=True)
    (versions / "list").write_text("v1.0.0\n")
    (versions / "v1.0.0.info").write_text(json.dumps({"Version": "v1.0.0"}))
    (versions / "v1.0.0.mod").write_text(f"module {module}\n")
    with zipfile.ZipFile(versions / "v1.0.0.zip", "w") as archive:
        archive.writestr(f"{module}@v1.0.0/go.mod", f"module {module}\n")
        archive.writestr(f"{module}@v1.0.0/word.go", 'package word\n\nconst Word = "proxied"\n')
    source = lay(
        tmp_path / "app",
        {
            "go.mod": f"module example.com/x\n\ngo 1.21\n\nrequire {module} v1.0.0\n",
            "main.go": f'package main\n\nimport "{module}"\n\nfunc main() {{ println(word.Word) }}\n',
        },
    )
    proxy = {"GOPROXY": shelf.url, "GOSUMDB": "off"}
    tools = f"export GOCACHE=/tmp/a GOPATH=/tmp/b GOPROXY={shelf.url} GOSUMDB=off;"
    shop.inside(source, f"{tools} go mod tidy")

    cut = shop.build(source, config=proxy, offline=True)
    first = shop.build(source, config=proxy)
    again = shop.build(source, config=proxy, offline=True)
    shop.inside(source, f"{tools} go mod vendor")
    shutil.rmtree(shop.cache / "go/modules")
    vendored = shop.build(source, offline=True)

    assert [built.status for built in (cut, first, again, vendored)] == [1, 0, 0, 0], again.output
    assert shop.run(again, "x 2>&1") == shop.run(vendored, "x 2>&1") == "proxied\n"

"""What the Ruby and the Go buildpacks do beyond their samples, with nothing from the network."""

from pathlib import Path

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


MAIN = 'package main\n\nvar word = "none"\n\nfunc main() { println(word) }\n'


def test_every_main_package_of_a_module_is_installed(shop: Workshop, tmp_path: Path) -> None:
    app = {
        "go.mod": "module example.com/two\n\ngo 1.21\n",
        "cmd/api/main.go": MAIN,
        "cmd/work/main.go": MAIN,
        "lib/lib.go": "package lib\n",
        "Procfile": "web: bin/api",
    }

    built = shop.build(lay(tmp_path / "app", app), offline=True)

    assert built.status == 0, built.output
    assert sorted(path.name for path in (built.app / "bin").iterdir()) == ["api", "work"]
    assert built.outcome.process_types == {"web": "bin/api"}


def test_a_linker_symbol_and_the_packages_can_be_chosen(shop: Workshop, tmp_path: Path) -> None:
    app = {
        "go.mod": "module example.com/two\n\n// +heroku install ./cmd/api\n\ngo 1.21\n",
        "cmd/api/main.go": MAIN,
        "cmd/work/main.go": MAIN,
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

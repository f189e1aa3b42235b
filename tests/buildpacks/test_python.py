"""What the Python buildpack does with each way of naming packages, and what it refuses."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from deodar.loops.compiler import buildpack
from tests.buildpacks.runner import Built, Workshop, lay

PIN = "markupsafe==3.0.2\n"


def test_requirements_are_installed_and_compiled(shop: Workshop, tmp_path: Path) -> None:
    built = succeed(shop, tmp_path, {"requirements.txt": PIN, "app.py": "import markupsafe"})

    assert shop.run(
        built, "which python; python -c 'import app, markupsafe as m; print(m.__file__)'"
    ) == (
        "/app/.heroku/python/bin/python\n"
        "/app/.heroku/python/lib/python3.11/site-packages/markupsafe/__init__.py\n"
    )
    assert list((built.app / "__pycache__").glob("app.*.pyc")) != []


def test_changed_requirements_are_installed_anew_and_the_old_ones_are_gone(
    shop: Workshop, tmp_path: Path
) -> None:
    shop.build(lay(tmp_path / "one", {"requirements.txt": PIN + "six==1.17.0\n"}))
    built = shop.build(lay(tmp_path / "two", {"requirements.txt": PIN}))

    assert "Using cached install" not in built.output
    assert shop.run(
        built, "ls .heroku/python/lib/python3.11/site-packages | grep -c six || true"
    ) == ("0\n")


def test_an_included_file_that_changed_is_seen_although_the_install_is_cached(
    shop: Workshop, tmp_path: Path
) -> None:
    shop.build(lay(tmp_path / "one", {"requirements.txt": "-r base.txt", "base.txt": PIN}))
    built = shop.build(
        lay(tmp_path / "two", {"requirements.txt": "-r base.txt", "base.txt": "six==1.17.0"})
    )

    assert "Using cached install" in built.output
    assert shop.run(built, "python -c 'import six; print(six.__version__)'") == "1.17.0\n"


def test_uv_lock_is_synced_without_development_packages(shop: Workshop, tmp_path: Path) -> None:
    project = (
        '[project]\nname = "example"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["markupsafe==3.0.2"]\n[dependency-groups]\ndev = ["six==1.17.0"]\n'
    )
    source = lay(tmp_path / "app", {"pyproject.toml": project})
    shop.inside(source, "UV_CACHE_DIR=/tmp/uv uv lock --quiet --no-python-downloads")

    shop.build(source)
    built = shop.build(source, offline=True)

    assert built.status == 0, built.output
    assert "Using cached install" in built.output
    assert shop.run(
        built, "ls .heroku/python/lib/python3.11/site-packages | grep -E '^(markupsafe|six)$'"
    ) == ("markupsafe\n")


def test_a_uv_lock_that_is_out_of_date_is_refused(shop: Workshop, tmp_path: Path) -> None:
    project = '[project]\nname = "example"\nversion = "1"\nrequires-python = ">=3.11"\n'
    source = lay(tmp_path / "app", {"pyproject.toml": project})
    shop.inside(source, "UV_CACHE_DIR=/tmp/uv uv lock --quiet --no-python-downloads")
    (source / "pyproject.toml").write_text(project + 'dependencies = ["six"]\n')

    built = shop.build(source)

    assert built.output.endswith(
        " !     Cannot install what uv.lock names. The lines above say why.\n"
        " !     If uv.lock is out of date, run this and commit it: uv lock\n"
    )
    assert built.status == 1


def test_poetry_installs_from_its_lock_file_and_the_result_is_kept(
    shop: Workshop, tmp_path: Path
) -> None:
    project = (
        '[project]\nname = "example"\nversion = "1"\nrequires-python = ">=3.11,<4"\n'
        'dependencies = ["mine @ file:///app/mine-1-py3-none-any.whl"]\n'
        "[tool.poetry]\npackage-mode = false\n"
    )
    source = lay(tmp_path / "app", {"pyproject.toml": project})
    write_wheel(source / "mine-1-py3-none-any.whl")
    shop.inside(source, "UV_CACHE_DIR=/tmp/uv uvx --quiet --from 'poetry>=2,<3' poetry lock")

    first = shop.build(source)
    again = shop.build(source, offline=True)

    assert (first.status, again.status) == (0, 0), first.output + again.output
    assert "-----> Installing dependencies using 'poetry sync --only main'" in first.output
    assert "Using cached install" in again.output
    assert shop.run(again, "python -c 'import mine; print(mine.__file__)'") == (
        "/app/.heroku/python/lib/python3.11/site-packages/mine.py\n"
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"Pipfile": "[packages]"}, "Pipenv is not supported."),
        ({"manage.py": ""}, "No file that names packages was found."),
        (
            {"requirements.txt": "", ".python-version": "3.13\n"},
            "Python 3.13, which .python-version asks for, is not available.",
        ),
        (
            {"requirements.txt": "", "runtime.txt": "python-2.7.18"},
            "Python 2.7.18, which runtime.txt asks for, is not available.",
        ),
        (
            {"requirements.txt": "", "bin/pre_compile": "#!/bin/sh\nexit 1"},
            "The script bin/pre_compile failed. Its output above says why.",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_clear_words(
    shop: Workshop, tmp_path: Path, files: dict[str, str], words: str
) -> None:
    built = shop.build(lay(tmp_path / "app", files))

    assert f" !     {words}" in built.output.splitlines()
    assert built.status == 1


@pytest.mark.parametrize("version", ["3.11", "3", "# ours\n3.11\n", "python-3.11"])
def test_the_stack_s_python_may_be_asked_for(shop: Workshop, tmp_path: Path, version: str) -> None:
    built = succeed(shop, tmp_path, {"requirements.txt": "", ".python-version": version})

    assert "specified in .python-version" in built.output


@pytest.mark.parametrize(
    ("files", "web"),
    [
        ({"app.py": "app = print"}, {"web": "gunicorn app:app"}),
        ({"main.py": "application: object = print"}, {"web": "gunicorn main:application"}),
        ({"wsgi.py": "def app(environ, start): pass"}, {"web": "gunicorn wsgi:app"}),
        ({"manage.py": "", "site/wsgi.py": ""}, {"web": "gunicorn site.wsgi"}),
        ({"app.py": "from fastapi import FastAPI\napp = FastAPI()"}, {}),
        ({"app.py": "print('no server')"}, {}),
        (
            {"app.py": "app = print", "Procfile": "worker: python app.py"},
            {"worker": "python app.py"},
        ),
    ],
)
def test_gunicorn_is_the_web_process_of_an_app_that_has_it_and_no_procfile(
    tmp_path: Path, files: dict[str, str], web: dict[str, str]
) -> None:
    tree = lay(tmp_path / "app", {".heroku/python/bin/gunicorn": "#!/bin/sh"} | files)
    release = buildpack.located("heroku/python")
    assert release is not None
    printed = subprocess.run([release / "bin/release", tree], capture_output=True, text=True)

    result = lay(tmp_path / "result", {"release.yml": printed.stdout})

    assert buildpack.outcome(result, tree, status=0).process_types == web


DJANGO = {
    "requirements.txt": "django==5.1.4",
    "manage.py": "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n"
    "from django.core.management import execute_from_command_line as run\nrun(sys.argv)\n",
    "settings.py": "import os\nSECRET_KEY = os.environ['SECRET_KEY']\nSTATIC_URL = 'static/'\n"
    "STATIC_ROOT = 'collected'\nSTATICFILES_DIRS = ['assets']\n"
    "INSTALLED_APPS = ['django.contrib.staticfiles']\n",
    "assets/a.css": "a {}",
}


def test_django_s_static_files_are_collected_with_the_config_vars(
    shop: Workshop, tmp_path: Path
) -> None:
    built = succeed(shop, tmp_path, DJANGO, SECRET_KEY="x")

    assert "-----> $ python manage.py collectstatic --noinput" in built.output
    assert (built.app / "collected/a.css").read_text() == "a {}"


def test_django_that_cannot_collect_fails_the_build_unless_told_not_to(
    shop: Workshop, tmp_path: Path
) -> None:
    failed = shop.build(lay(tmp_path / "one", DJANGO))
    built = succeed(shop, tmp_path, DJANGO, DISABLE_COLLECTSTATIC="1")

    assert failed.status == 1
    assert "KeyError: 'SECRET_KEY'" in failed.output
    assert " !     Error: Unable to generate Django static files." in failed.output
    assert "Skipping Django collectstatic" in built.output


def succeed(shop: Workshop, tmp_path: Path, files: dict[str, str], **config: str) -> Built:
    built = shop.build(lay(tmp_path / "app", files), config=config)
    assert built.status == 0, built.output
    return built


def write_wheel(path: Path) -> None:
    """The smallest package there is, so that no index is asked."""
    facts = "mine-1.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("mine.py", "")
        wheel.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
        wheel.writestr(
            f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{facts}/RECORD", f"mine.py,,\n{facts}/METADATA,,\n{facts}/WHEEL,,\n")

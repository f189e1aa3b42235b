"""The `deodar` command: names its commands, and is where an error ends as a sentence."""

import os
import sys
import traceback

import click

from deodar.cli import output
from deodar.cli.topics import platform, stacks
from deodar.model import errors


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deodar", message="%(package)s %(version)s")
def commands() -> None:
    """Deodar, a self-hosted Heroku: run the platform here, use it with the official Heroku CLI.

    \b
    Example:
      sudo deodar up --detach
      eval "$(sudo deodar env)"
      heroku create example-app
    """


for command in (
    *(platform.up, platform.down, platform.status, platform.env),
    *(stacks.list_, stacks.import_, stacks.update, stacks.remove),
):
    commands.add_command(command)


def main() -> None:
    try:
        commands.main(prog_name="deodar", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except errors.PlatformError as error:
        _end(error.message)
    except PermissionError as error:
        _end(f"Not allowed to use {error.filename}.", "Run the same command with sudo.")
    except Exception as error:  # noqa: BLE001 - the edge: what nobody foresaw ends here
        if os.environ.get("DEODAR_DEBUG"):
            traceback.print_exc()
        _end(
            f"{type(error).__name__}: {error}",
            "This is a bug of Deodar. DEODAR_DEBUG=1 shows where it happened.",
        )


def _end(what: str, remedy: str | None = None) -> None:
    output.Failed(what, remedy).show()
    sys.exit(1)

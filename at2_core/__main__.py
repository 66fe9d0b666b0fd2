"""The engine from the shell: `python -m at2_core --help`."""

from __future__ import annotations

import sys

import click

from .commands import fit, learn, runs
from .errors import At2Error, Cancelled
from .estimator_commands import estimators
from .evaluation_commands import evaluate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Learn which attention heads say what a model used, and judge how true they are."""


for command in (learn, fit, runs, estimators, evaluate):
    main.add_command(command)


def run() -> int:
    """Exit status: 0, 1 for what the user can mend, 130 for Ctrl-C."""
    try:
        main(standalone_mode=False)
    except Cancelled as stopped:
        click.echo(str(stopped), err=True)
        return 130
    except At2Error as error:
        click.echo(str(error), err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nStopped; the same command goes on from here.", err=True)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run())

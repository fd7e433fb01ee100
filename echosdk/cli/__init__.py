"""One command a file, loaded when it is called: parse, call one library function, print."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from echosdk.errors import EchoError

COMMANDS = {
    "generate": "Generate a privacy-filtered synthetic dataset.",
    "train": "Train a bundle from real data, all stages or one.",
    "verify": "Check every checksum and count of a dataset.",
    "reproduce": "Generate a dataset again and compare the bytes.",
    "merge": "Join finished shards into a dataset.",
    "repair": "Generate again what is damaged or missing.",
    "audit": "Audit a dataset's privacy against the real data.",
    "evaluate": "Measure a dataset against real data.",
    "validate": "Train on a dataset and on real data, and compare.",
    "protocol": "All of it, from training to the report.",
    "view": "Write a page with a dataset's videos.",
    "export": "Write a dataset in another format.",
    "bundle": "Show, strip or import a bundle.",
    "data": "Show or export a data source.",
    "plugins": "List, show and check what the installed plugins offer; begin a new one.",
    "weights": "List and import other people's pretrained weights.",
    "doctor": "Say whether this machine has what echosdk needs.",
}


class _Commands(click.Group):
    """Loads a command's module only when it is called, so that `--help` needs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"echosdk.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="echosdk")
def app() -> None:
    """Turn a private medical video dataset into a synthetic surrogate, with evidence about privacy and usefulness."""


def main(arguments: list[str] | None = None) -> Any:
    """Run a command. Errors are one line on stderr and exit status 2; Ctrl-C is status 130."""
    try:
        app.main(arguments, prog_name="echosdk", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click turns the second into the first
        click.echo("echosdk: stopped; the same command goes on from here", err=True)
        sys.exit(130)
    except click.ClickException as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # since click 8.2
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        context = getattr(error, "ctx", None)
        see = f" See: {context.command_path} --help" if context else ""
        click.echo(f"echosdk: {_one_line(error.format_message())}{see}", err=True)
        sys.exit(2)
    except EchoError as error:
        click.echo(f"echosdk: {_one_line(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:  # a disk that is full, a file that may not be read
        where = f"{error.filename}: " if error.filename is not None else ""
        click.echo(f"echosdk: {where}{_one_line(error.strerror or str(error))}", err=True)
        sys.exit(2)


def _one_line(text: str) -> str:
    return " ".join(text.split())

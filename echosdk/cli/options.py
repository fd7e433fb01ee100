"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

plugin_set = click.option(
    "--plugin-set", "plugin_set_name", default="default", show_default=True, help="Name of a plugin set, or a TOML file."
)
use = click.option("--use", multiple=True, metavar="KIND=NAME", help="Use another component for one kind.")
set_ = click.option("--set", "set_", multiple=True, metavar="KIND.KEY=VALUE", help="Set one parameter of a component.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device = click.option("--device", default="auto", show_default=True, help="cpu, cuda or cuda:N; auto takes cuda where there is one.")


def components(function: F) -> F:
    """Add the options of every command that builds components."""
    return plugin_set(use(set_(function)))  # type: ignore[no-any-return]


def pick_device(name: str) -> str:
    """Resolve `auto`."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def say(line: str) -> None:
    """Print a line of progress to stderr."""
    click.echo(line, err=True)

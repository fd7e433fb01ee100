"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

plugin_set = click.option(
    "--plugin-set",
    "plugin_set_name",
    default="default",
    show_default=True,
    help="Name of a plugin set, or a TOML file.",
)
use = click.option("--use", multiple=True, metavar="KIND=NAME", help="Use another component for one kind.")
set_ = click.option("--set", "set_", multiple=True, metavar="KIND.KEY=VALUE", help="Set one parameter of a component.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda or cuda:N; auto takes cuda where there is one."
)


SAID_AGAIN = "Say a path again that the dataset was made with, and does not tell."


def components(function: F) -> F:
    """Add the options of every command that builds components."""
    return plugin_set(use(set_(function)))


def pick_device(name: str) -> str:
    """Resolve `auto`, and refuse what is no device or not there."""
    from echosdk import devices

    return devices.pick_device(name)


def pick_workers(asked: int | None, out: str, device: str, threads: int) -> int:
    """Choose how many processes make shards: as many as this one may use CPU cores, where nothing else limits it."""
    import os

    if asked is not None:
        return asked
    if device != "cpu" or out.startswith("memory:"):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def say(line: str) -> None:
    """Print a line of progress to stderr."""
    click.echo(line, err=True)


def on_a_terminal() -> bool:
    """Say whether a person watches stderr, where a bar is drawn; a log gets plain lines."""
    return sys.stderr.isatty()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns; the last one is as wide as it is, so a line is a record wherever it is read."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)]
        click.echo("  ".join(cells).rstrip())


def label(plain: Mapping[str, Any]) -> str:
    """Write a label's name, and its unit and range, or its values."""
    if "values" in plain:
        return f"{plain['name']}: {', '.join(plain['values'])}"
    return f"{plain['name']}: {span(plain['low'], plain['high'])} {plain['unit']}".rstrip()


def span(low: float, high: float) -> str:
    """Write a range, or the one number that it is."""
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def counts(of: Mapping[Any, int]) -> str:
    """Write how many there are of each."""
    return ", ".join(f"{name} {count}" for name, count in of.items())

"""What an audit must show: limits on its figures, from a TOML file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, Literal

import cattrs
import fsspec
from attrs import field, frozen
from attrs.validators import in_

from echosdk.errors import InputError
from echosdk.privacy.statistics import Figure

Bound = Literal["low", "high", "value"]


@frozen(kw_only=True)
class Limit:
    """One limit: on which figures, how large or small a bound of theirs may be, and why."""

    figure: str
    bound: Bound = field(validator=in_(("low", "high", "value")))
    why: str
    at_least: float | None = None
    at_most: float | None = None

    def __attrs_post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.figure}: wants one of at_least and at_most")


@frozen(kw_only=True)
class Finding:
    """Whether a figure meets a limit; `reached` is None where it could not be measured, and then it does not."""

    limit: Limit
    figure: str
    reached: float | None
    met: bool


def read_policy(location: str | None = None) -> tuple[Limit, ...]:
    """Read a policy file at a path or URL; None is echosdk's own. Raises `InputError` that names file and key."""
    if location is None:
        name, text = "privacy-policy.toml", (files("echosdk.privacy") / "privacy-policy.toml").read_text()
    else:
        name = location
        try:
            with fsspec.open(location, "rt") as file:
                text = file.read()
        except (OSError, ValueError, ImportError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"--policy {location}: cannot be read: {reason}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: not valid TOML: {error}") from error
    rows = table.pop("limit", [])
    if table or not isinstance(rows, list) or not rows:
        raise InputError(f"{name}: wants tables [[limit]], at least one, and nothing else")
    return tuple(_limit(row, f"{name}: limit {number}") for number, row in enumerate(rows, start=1))


def most(figure: str) -> float:
    """Return what echosdk's own policy allows at most of a figure, or of a group of them."""
    return next(limit.at_most for limit in read_policy() if limit.figure == figure and limit.at_most is not None)


def judge(limits: Sequence[Limit], figures: Sequence[Figure]) -> list[Finding]:
    """Compare every limit with the figures that it names."""
    findings = []
    for limit in limits:
        named = [figure for figure in figures if fnmatchcase(figure.name, limit.figure)]
        if not named:
            findings.append(Finding(limit=limit, figure=limit.figure, reached=None, met=False))
        for figure in named:
            reached = _bound(figure, limit.bound)
            findings.append(Finding(limit=limit, figure=figure.name, reached=reached, met=_met(limit, reached)))
    return findings


def _limit(row: Any, where: str) -> Limit:
    if not isinstance(row, dict):
        raise InputError(f"{where}: is no table")
    known = {"figure": str, "bound": str, "why": str, "at_least": float, "at_most": float}
    for key, value in row.items():
        if key not in known:
            raise InputError(f"{where}: {key}: no such key; choose from {', '.join(known)}")
        wanted = (int, float) if known[key] is float else (str,)
        if type(value) not in wanted:
            raise InputError(f"{where}: {key}: wants a {known[key].__name__}, got {value!r}")
    if missing := [key for key in ("figure", "bound", "why") if key not in row]:
        raise InputError(f"{where}: {', '.join(missing)} is missing")
    try:
        return _CONVERTER.structure(row, Limit)
    except (ValueError, cattrs.BaseValidationError) as error:
        reason: BaseException = error
        while isinstance(reason, BaseExceptionGroup):
            reason = reason.exceptions[0]
        raise InputError(f"{where}: {reason.args[0] if reason.args else reason}") from error


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def _bound(figure: Figure, bound: Bound) -> float | None:
    if figure.value is None or bound == "value":
        return figure.value
    if figure.interval_95 is None:
        return None
    return figure.interval_95[0 if bound == "low" else 1]


def _met(limit: Limit, reached: float | None) -> bool:
    if reached is None or math.isnan(reached):
        return False
    return reached >= limit.at_least if limit.at_least is not None else reached <= (limit.at_most or 0.0)

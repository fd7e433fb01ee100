"""An audit's part of a report page, as data: headings, sentences, tables and curves, for whoever renders it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

HEAD = ("figure", "value", "95 % interval", "better", "n", "of", "in what is published", "note")

SUBJECTS: Mapping[str, str] = {
    "probe": "Training patients shown to the gate",
    "enrolled": "Simulated patients shown to the gate, enrolled and not trained on",
    "innocents": "Unrelated patients shown to the gate",
    "holes": "Holes",
    "records": "Nearest records",
    "stills": "Stills before and after the filter",
    "near-copies": "Stills that show a training patient's anatomy",
    "coverage": "Coverage of training patients",
    "duplicates": "Duplicates among the samples",
    "membership": "Membership inference",
}
"""What the first word of a figure's name stands for, in the order in which a page shows them."""


@frozen(kw_only=True)
class Table:
    """Rows under a caption; all cells are text, the first one names its row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@frozen(kw_only=True)
class Curve:
    """A ROC curve: points (share of outsiders, share of training patients found)."""

    name: str
    points: tuple[tuple[float, float], ...]


@frozen(kw_only=True)
class Section:
    """Everything that a page says of an audit. `met` is the verdict; `claims` are the sentences that may be said."""

    heading: str
    what: str
    met: bool
    claims: tuple[str, ...]
    verdict: Table
    figures: tuple[Table, ...]
    curves: tuple[Curve, ...]


def section(report: Mapping[str, Any]) -> Section:
    """Return the section of a report, as `echosdk audit --json` prints it."""
    by_subject: dict[str, list[tuple[str, ...]]] = {}
    for figure in report["figures"]:
        by_subject.setdefault(figure["name"].partition(".")[0], []).append(_row(figure))
    verdicts = tuple(
        (f["figure"], _number(f["reached"]), f["wants"], "met" if f["met"] else "NOT MET", f["why"])
        for f in report["findings"]
    )
    return Section(
        heading="Privacy audit",
        what=report["what"],
        met=report["ok"],
        claims=tuple(report["claims"]),
        verdict=Table(
            caption=f"Verdict against {report['policy']}: {'met' if report['ok'] else 'NOT MET'}",
            head=("figure", "reached", "wants", "verdict", "why"),
            rows=verdicts,
        ),
        figures=tuple(
            Table(caption=caption, head=HEAD, rows=tuple(by_subject[subject]))
            for subject, caption in SUBJECTS.items()
            if subject in by_subject
        ),
        curves=tuple(
            Curve(name=name, points=tuple((point["false_positives"], point["found"]) for point in points))
            for name, points in report["roc"].items()
            if points
        ),
    )


def _row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    interval = figure["interval_95"]
    return (
        figure["name"],
        _number(figure["value"]),
        "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
        figure["better"],
        str(figure["n"]),
        figure["of"],
        in_published(figure.get("expected")),
        figure.get("note", ""),
    )


def in_published(expected: Mapping[str, Any] | None) -> str:
    """Say what a rate comes to in as many samples, or patients, as there are."""
    if expected is None:
        return ""
    low, high = expected["interval_95"]
    return f"{expected['value']:.1f} ({low:.1f} to {high:.1f}) {expected['of']}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"

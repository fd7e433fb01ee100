"""Plots of two axes as inline SVG: points, curves and intervals, each with its numbers as a table.

Nothing is told by colour alone: curves differ in their dashes, and a plot's label and table say what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import frozen

from echosdk.report.charts import ticks
from echosdk.report.page import Html, element, join, measured, table

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40
STYLES = ("line", "line other", "line third")
BINS = 5

Point = tuple[float, float]


@frozen
class Axes:
    """Two ranges, and where they lie in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: int = HEIGHT

    def across(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x[0]) / (self.x[1] - self.x[0])

    def up(self, value: float) -> float:
        base = self.height - BOTTOM
        return base - (base - TOP) * (value - self.y[0]) / (self.y[1] - self.y[0])

    def frame(self, x_name: str, y_name: str) -> list[Html]:
        """Return the axes with ticks and names."""
        base, right = self.height - BOTTOM, WIDTH - RIGHT
        drawn = [_line("axis", LEFT, base, right, base), _line("axis", LEFT, TOP, LEFT, base)]
        for tick in ticks(*self.x):
            drawn.append(_text(f"{tick:g}", self.across(tick), base + 15))
        for tick in ticks(*self.y):
            drawn.append(_line("guide", LEFT, self.up(tick), right, self.up(tick)))
            drawn.append(_text(f"{tick:g}", LEFT - 6, self.up(tick) + 4, "at-right"))
        middle = f"translate(11 {(base + TOP) / 2:.0f}) rotate(-90)"
        return [
            *drawn,
            _text(x_name, (LEFT + right) / 2, self.height - 6),
            element("text", y_name, transform=middle),
        ]


def scatter(title: str, name: str, unit: str, cells: Sequence[Sequence[float]], low: float, high: float) -> Html:
    """Return readings against true labels; `cells` are true label, reading, how many. On the line both are equal."""
    (low, high), of = _range([low, high, *(cell[i] for cell in cells for i in (0, 1))]), _of(unit)
    axes = Axes((low, high), (low, high))
    drawing = [
        *axes.frame(f"{name}, true{of}", f"{name}, read{of}"),
        _line("limit", axes.across(low), axes.up(low), axes.across(high), axes.up(high)),
        *_points(axes, cells),
    ]
    total = int(sum(cell[2] for cell in cells))
    said = f"{total} readings of {name} against the true value, a scatter plot; the dashed line is where both are equal"
    head = ("true value", "readings", "mean reading", "mean error")
    rows = [
        (f"{left:g} to {right:g}", str(n), f"{_mean(inside, 1):.1f}", f"{_mean(inside, 1) - _mean(inside, 0):+.1f}")
        for left, right, inside, n in _binned(cells)
    ]
    return _figure(
        title,
        f"{total} readings. On the dashed line a reading is right.",
        drawing,
        said,
        table(f"{title}: {name}", head, rows),
    )


def bland_altman(
    title: str, name: str, unit: str, cells: Sequence[Sequence[float]], bias: float, lower: float, upper: float
) -> Html:
    """Return differences of reading and truth over their mean, with bias and limits of agreement (1986)."""
    turned = [((true + read) / 2, read - true, n) for true, read, n in cells]
    ys = [lower, upper, 0.0, *(cell[1] for cell in turned)]
    axes, of = Axes(_range([cell[0] for cell in turned]), _range(ys)), _of(unit)
    right = WIDTH - RIGHT
    lines = [
        _line(style, LEFT, axes.up(at), right, axes.up(at))
        for style, at in (("mean", bias), ("limit", lower), ("limit", upper))
    ]
    drawing = [*axes.frame(f"mean of read and true {name}{of}", f"read minus true{of}"), *lines, *_points(axes, turned)]
    text = f"Bias {bias:+.1f}, limits of agreement {lower:+.1f} to {upper:+.1f}{of}."
    rows = [(f"{left:g} to {high:g}", str(n), f"{_mean(inside, 1):+.1f}") for left, high, inside, n in _binned(turned)]
    numbers = table(f"{title}: differences", ("mean of both", "readings", "mean difference"), rows)
    return _figure(title, text, drawing, f"Bland-Altman plot of {name}. {text}", numbers)


def curves(title: str, x_name: str, y_name: str, drawn: Mapping[str, Sequence[Point]], text: str) -> Html:
    """Return up to three curves in the unit square, such as ROC curves, told apart by their dashes."""
    axes = Axes((0.0, 1.0), (0.0, 1.0))
    paths = [_path(style, axes, points) for style, points in zip(STYLES, drawn.values(), strict=False)]
    drawing = [*axes.frame(x_name, y_name), _line("guide", LEFT, axes.up(0), WIDTH - RIGHT, axes.up(1)), *paths]
    at = sorted({round(i / 10, 1) for i in range(11)})
    rows = [(f"{x:g}", *(f"{_value_at(points, x):.2f}" for points in drawn.values())) for x in at]
    numbers = table(f"{title}: {y_name}", (x_name, *drawn), rows)
    return _figure(title, text, drawing, f"{title}. {text}", numbers, _key(drawn))


def interval(title: str, unit: str, value: float, low: float, high: float, margin: float) -> Html:
    """Return a difference with its interval, and the margin that it is held against."""
    axes, of = Axes(_range([low, high, margin, 0.0, -margin]), (0.0, 1.0), 110), _of(unit)
    base, y = axes.height - BOTTOM, 45.0
    at = {"no difference": (0.0, "axis"), f"margin {margin:g}": (margin, "mean")}
    marks = [_line("axis", LEFT, base, WIDTH - RIGHT, base)]
    marks += [_text(f"{tick:g}", axes.across(tick), base + 15) for tick in ticks(*axes.x)]
    for place, style in at.values():
        marks.append(_line(style, axes.across(place), 22, axes.across(place), base))
    for i, (words, (place, _)) in enumerate(at.items()):
        marks.append(_text(words, axes.across(place) + (4 if i else -4), 18, "at-left" if i else "at-right"))
    marks.append(_line("bar", axes.across(low), y, axes.across(high), y))
    marks += [_line("bar", axes.across(end), y - 6, axes.across(end), y + 6) for end in (low, high)]
    marks.append(element("circle", cx=f"{axes.across(value):.2f}", cy=f"{y}", r="5", class_="point"))
    marks.append(_text(f"synthetic minus real{of}", (LEFT + WIDTH - RIGHT) / 2, axes.height - 6))
    text = f"{value:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}; margin {margin:g}{of}."
    return _figure(title, text, marks, f"{title}: {text}", "", height=axes.height)


def distances(title: str, kept: Sequence[float], rejected: Sequence[float], tau: float) -> Html:
    """Return a histogram of distances, kept and rejected apart, with the threshold."""
    low, high = _range([*kept, *rejected, tau])
    bins = 24
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    sides = [[sum(a <= value < b for value in side) for a, b in pairwise(edges)] for side in (kept, rejected)]
    axes = Axes((low, high), (0.0, float(max(1, *map(sum, zip(*sides, strict=True))))))
    marks = axes.frame("distance to the nearest training reference", "how many")
    for i, (a, b) in enumerate(zip(*sides, strict=True)):
        x, width = axes.across(edges[i]) + 0.5, axes.across(edges[i + 1]) - axes.across(edges[i]) - 1
        for n, under, style in ((a, 0, ""), (b, a, "rejected")):
            if n:
                top, height = axes.up(under + n), axes.up(under) - axes.up(under + n)
                place = {"x": f"{x:.2f}", "y": f"{top:.2f}", "width": f"{width:.2f}", "height": f"{height:.2f}"}
                marks.append(element("rect", **place, **({"class_": style} if style else {})))
    marks.append(_line("mean", axes.across(tau), TOP, axes.across(tau), HEIGHT - BOTTOM))
    text = f"{len(kept)} kept (filled), {len(rejected)} rejected (outlined). Dashed: tau, {tau:.4g}."
    rows = [
        (f"{a:.4g} to {b:.4g}", str(k), str(r)) for a, b, k, r in zip(edges, edges[1:], *sides, strict=False) if k or r
    ]
    numbers = table(title, ("distance", "kept", "rejected"), rows)
    return _figure(title, text, marks, f"{title}. {text}", numbers)


def distributions(title: str, x_name: str, edges: Sequence[float], counted: Mapping[str, Sequence[int]]) -> Html:
    """Return up to three histograms over each other as outlines, each as shares of its own total."""
    shares = {name: [n / max(1, sum(counts)) for n in counts] for name, counts in counted.items()}
    axes = Axes((edges[0], edges[-1]), (0.0, max(1e-9, *(max(each) for each in shares.values())) * 1.05))
    outlines = []
    for style, each in zip(STYLES, shares.values(), strict=False):
        steps = [(edge, share) for *ends, share in zip(edges, edges[1:], each, strict=False) for edge in ends]
        outlines.append(_path(style, axes, [(edges[0], 0.0), *steps, (edges[-1], 0.0)]))
    totals = {name: f"{name} ({sum(counts)})" for name, counts in counted.items()}
    text = "Shares of each set; how many are in it stands in brackets."
    rows = [
        (f"{low:g} to {high:g}", *(f"{each[i]:.3f}" for each in shares.values()))
        for i, (low, high) in enumerate(pairwise(edges))
    ]
    numbers = table(f"{title}: shares", (x_name, *totals.values()), rows)
    drawing = [*axes.frame(x_name, "share"), *outlines]
    return _figure(title, text, drawing, f"{title}: histograms. {text}", numbers, _key(totals.values()))


def _figure(
    title: str, text: str, drawing: Iterable[Html], said: str, numbers: str, key: str = "", height: int = HEIGHT
) -> Html:
    svg = element("svg", *drawing, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=said)
    more = element("details", element("summary", "The numbers"), numbers) if numbers else ""
    caption = element("figcaption", element("strong", title), join(": ", text))
    return element("figure", caption, svg, key, more, class_="chart")


def _key(drawn: Iterable[str]) -> Html:
    items = []
    for style, name in zip(STYLES, drawn, strict=False):
        mark = element("svg", _line(style, 0, 5, 40, 5), viewBox="0 0 40 10", aria_hidden="true")
        items.append(element("li", mark, name))
    return element("ul", *items, class_="key")


def _points(axes: Axes, cells: Iterable[Sequence[float]]) -> list[Html]:
    return [
        element(
            "circle", cx=f"{axes.across(x):.1f}", cy=f"{axes.up(y):.1f}", r=f"{2 * math.sqrt(n):.1f}", class_="point"
        )
        for x, y, n in cells
    ]


def _path(style: str, axes: Axes, points: Sequence[Point]) -> Html:
    places = " ".join(f"{axes.across(x):.1f},{axes.up(y):.1f}" for x, y in points)
    return element("polyline", points=places, class_=style)


def _binned(cells: Sequence[Sequence[float]]) -> list[tuple[float, float, list[Sequence[float]], int]]:
    """Return a few equal parts of the range of the first value: its ends, its cells, how many readings."""
    low, high = min(cell[0] for cell in cells), max(cell[0] for cell in cells)
    step = (high - low) / BINS or 1.0
    found = []
    for i in range(BINS):
        inside = [cell for cell in cells if min(BINS - 1, int((cell[0] - low) / step)) == i]
        ends = (float(measured(low + j * step, high - low or 1.0)) for j in (i, i + 1))
        if inside:
            found.append((*ends, inside, int(sum(cell[2] for cell in inside))))
    return found  # type: ignore[return-value]


def _mean(cells: Sequence[Sequence[Any]], column: int) -> float:
    return float(sum(cell[column] * cell[2] for cell in cells) / sum(cell[2] for cell in cells))


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that holds all values, with a little room."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
    return low - room, high + room


def _value_at(points: Sequence[Point], x: float) -> float:
    before = max((point for point in points if point[0] <= x + 1e-9), default=points[0])
    after = min((point for point in points if point[0] >= x - 1e-9), default=points[-1])
    if after[0] <= before[0]:
        return before[1]
    return before[1] + (after[1] - before[1]) * (x - before[0]) / (after[0] - before[0])


def _of(unit: str) -> str:
    return f" ({unit})" if unit else ""


def _line(style: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    ends = {name: f"{value:.2f}" for name, value in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2))}
    return element("line", class_=style, **ends)


def _text(text: str, x: float, y: float, style: str = "") -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **({"class_": style} if style else {}))

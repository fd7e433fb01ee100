"""Charts as inline SVG, each with its numbers as a table: for screen readers, for print, and for copying."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from echosdk.report.page import Html, count, element, measured, table

WIDTH, LEFT, TOP, BASE, HEIGHT = 360, 14, 18, 150, 172
MAX_TICKS = 8
MAX_DIGITS = 48  # that fit side by side


def histogram(title: str, unit: str, edges: Sequence[float], counts: Sequence[int], mean: float) -> Html:
    """Return a histogram of a number: `len(counts)` bins between `len(counts) + 1` edges."""
    low, high, tallest = edges[0], edges[-1], max(1, *counts)
    bins = list(zip(edges, edges[1:], counts, strict=False))

    def across(value: float) -> float:
        return LEFT + (WIDTH - 2 * LEFT) * (value - low) / (high - low)

    marks, labels = [], []
    for left, right, videos in bins:
        if not videos:
            continue
        x, width, height = across(left) + 1, across(right) - across(left) - 2, (BASE - TOP) * videos / tallest
        marks.append(_shape("rect", x=x, y=BASE - height, width=width, height=height, rx=1.5))
        if videos == tallest or len(counts) * len(str(tallest)) <= MAX_DIGITS:
            labels.append(_text(count(videos), x + width / 2, BASE - height - 4))
    marks.append(_shape("line", "axis", x1=LEFT, x2=WIDTH - LEFT, y1=BASE, y2=BASE))
    marks.append(_shape("line", "mean", x1=across(mean), x2=across(mean), y1=2, y2=BASE))
    labels += [_text(f"{tick:g}", across(tick), BASE + 16) for tick in ticks(low, high)]
    all_videos = f"{count(sum(counts))} {'video' if sum(counts) == 1 else 'videos'}"
    span, middle = f"{low:g} to {high:g}", measured(mean, high - low)
    drawing = element(
        "svg",
        *marks,
        *labels,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"Histogram of {title}: {all_videos}, {span} {unit}, mean {middle}; a table follows",
    )
    name = f"{title} ({unit})" if unit else title
    caption = f": the range they were drawn from is {span}. Dashed line: the mean, {middle}."
    rows = ((f"{measured(left, high - low)} to {measured(right, high - low)}", count(n)) for left, right, n in bins)
    return element(
        "figure",
        element("figcaption", element("strong", name), caption),
        drawing,
        element("details", element("summary", "The numbers"), table(f"Videos by {title}", (name, "videos"), rows)),
        class_="chart",
    )


def ticks(low: float, high: float) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten in a range: as many as fit, at most `MAX_TICKS`."""
    power = 10.0 ** math.floor(math.log10((high - low) / MAX_TICKS))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < MAX_TICKS:
            return [round(i * step, 12) for i in range(first, last + 1)]
    return [low, high]


def bars(title: str, counts: Mapping[str, int]) -> Html:
    """Return how many videos have each value of a category."""
    tallest = max(1, *counts.values())

    def bar(videos: int) -> Html:
        length = f"{100 * videos / tallest:.2f}%"
        return element("svg", element("rect", width=length, height="100%"), aria_hidden="true")

    rows = ((value, bar(videos), count(videos)) for value, videos in counts.items())
    return element("figure", table(f"Videos by {title}", (title, "", "videos"), rows), class_="chart")


def _shape(tag: str, class_: str | None = None, **numbers: float) -> Html:
    marks = {name: f"{value:.2f}" for name, value in numbers.items()}
    return element(tag, **marks, **({"class_": class_} if class_ else {}))


def _text(text: str, x: float, y: float) -> Html:
    return element("text", text, x=f"{x:.2f}", y=f"{y:.2f}")

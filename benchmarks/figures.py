"""Figures with intervals and bars, and overlaid histograms: what `quality.py` prints, writes and draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy.stats import binomtest

from echosdk.evaluation.intervals import statistic_interval

Array = NDArray[np.float64]


@frozen(kw_only=True)
class Figure:
    """A value of `n` patients or videos with its 95 % interval, and the bar, `least` to `most`, where there is one.

    The bar is for the value; whether the whole interval clears it is to be seen beside it.
    """

    name: str
    n: int
    value: float
    low: float
    high: float
    interval: str
    least: float = -math.inf
    most: float = math.inf

    @property
    def bar(self) -> str:
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:g} to {self.most:g}"
        if math.isfinite(self.least):
            return f"at least {self.least:g}"
        return f"at most {self.most:g}" if math.isfinite(self.most) else ""

    @property
    def met(self) -> str:
        if not self.bar:
            return ""
        return "yes" if self.least <= self.value <= self.most else "NO"

    def row(self, part: str) -> tuple[str, ...]:
        between = f"{_short(self.low)} to {_short(self.high)}" if math.isfinite(self.low) else ""
        return (part, self.name, str(self.n), _short(self.value), between, self.bar, self.met)

    def plain(self) -> dict[str, object]:
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        known = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        bar = {"bar": self.bar, "met": self.met == "yes"} if self.bar else {}
        return {"name": self.name, "n": self.n, **known, "interval": self.interval, **bar}


HEAD = ("part", "figure", "n", "value", "95 % interval", "bar", "met")


def resampled(
    name: str,
    statistic: Callable[[NDArray[np.int64]], Array],
    n: int,
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> Figure:
    """Return a statistic of n patients, resampled; it is given rows of their numbers `b n`."""
    low, high = statistic_interval(statistic, n, resamples=2000)
    value = float(statistic(np.arange(n)[None])[0])
    interval = "bootstrap of patients"
    return Figure(name=name, n=n, value=value, low=low, high=high, interval=interval, least=least, most=most)


def mean(name: str, values: Array, *, least: float = -math.inf, most: float = math.inf) -> Figure:
    """Return the mean of one value a patient."""
    return resampled(name, lambda rows: values[rows].mean(1), len(values), least=least, most=most)


def share(name: str, hits: Array, *, least: float = -math.inf, most: float = math.inf) -> Figure:
    """Return a share of patients, with the exact interval."""
    count, n = int(hits.sum()), len(hits)
    exact = binomtest(count, n).proportion_ci(0.95, "exact")
    low, high = float(exact.low), float(exact.high)
    return Figure(
        name=name, n=n, value=count / n, low=low, high=high, interval="exact binomial", least=least, most=most
    )


def reading(what: str, true: Array, read: Array, **bars: float) -> list[Figure]:
    """Return mean absolute error, bias, R2 and slope of readings; a reading that failed (NaN) is left out of all."""
    known = np.isfinite(read)
    true, read = true[known], read[known]

    def r2(rows: NDArray[np.int64]) -> Array:
        t, e = true[rows], (read - true)[rows]
        return np.asarray(1 - (e**2).sum(1) / ((t - t.mean(1, keepdims=True)) ** 2).sum(1))

    def slope(rows: NDArray[np.int64]) -> Array:
        t, r = true[rows], read[rows]
        centred = t - t.mean(1, keepdims=True)
        return np.asarray((centred * r).sum(1) / (centred**2).sum(1))

    n = len(true)
    return [
        resampled(f"{what}: MAE", lambda rows: np.abs(read - true)[rows].mean(1), n, most=bars.get("mae", math.inf)),
        resampled(f"{what}: bias", lambda rows: (read - true)[rows].mean(1), n),
        resampled(f"{what}: R2", r2, n, least=bars.get("r2", -math.inf)),
        resampled(f"{what}: slope of read on asked for", slope, n),
    ]


def two_sets(
    name: str,
    ours: Array,
    theirs: Array,
    statistic: Callable[[Array, Array], Array],
    *,
    least: float = -math.inf,
) -> Figure:
    """Return a statistic of two sets of numbers, given as rows `b n`, with both sets resampled."""
    draw = np.random.default_rng(0)
    drawn = (draw.choice(ours, (1000, len(ours))), draw.choice(theirs, (1000, len(theirs))))
    low, high = np.quantile(statistic(*drawn), (0.025, 0.975))
    value = float(statistic(ours[None], theirs[None])[0])
    both = "bootstrap of stills and of patients"
    return Figure(name=name, n=len(ours), value=value, low=float(low), high=float(high), interval=both, least=least)


def shift(ours: Array, theirs: Array) -> Array:
    """Return the difference of the means, in standard deviations of theirs."""
    return np.asarray((ours.mean(1) - theirs.mean(1)) / theirs.std(1))


def spread(ours: Array, theirs: Array) -> Array:
    """Return our standard deviation over theirs."""
    return np.asarray(ours.std(1) / theirs.std(1))


def least_tenth(ours: Array, theirs: Array) -> NDArray[np.bool_]:
    """Return which of ours lie in that tenth of theirs that has fewest of them: hardly any where a mode is missing."""
    place = np.searchsorted(np.quantile(theirs, np.arange(1, 10) / 10), ours)
    return np.asarray(place == np.bincount(place, minlength=10).argmin())


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p values of several tests (Holm 1979)."""
    found, largest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        largest = max(largest, min(1.0, p[name] * (len(p) - rank)))
        found[name] = largest
    return found


INKS = {"held-out": "#7a828c", "generated": "#c2571a"}


def histograms(measures: Mapping[str, str], held_out: Mapping[str, Array], made: Mapping[str, Array]) -> str:
    """Draw both distributions of every measure over each other, as the text of an SVG file."""
    wide, high, gap, bins = 300, 150, 46, 20
    panels = []
    for number, (name, what) in enumerate(measures.items()):
        left, top = 30 + number % 2 * (wide + 40), 40 + number // 2 * (high + gap + 24)
        sets = {"held-out": held_out[name], "generated": made[name]}
        everything = np.concatenate([values[np.isfinite(values)] for values in sets.values()])
        edges = np.linspace(everything.min(), everything.max(), bins + 1)
        heights = {who: np.histogram(values, edges, density=True)[0] for who, values in sets.items()}
        most = max(height.max() for height in heights.values())
        panels.append(f'<text x="{left}" y="{top - 8}">{name}: {what}</text>')
        for who, height in heights.items():
            panels.append(_steps(height / most, left, top, wide, high, INKS[who]))
        panels.append(f'<path d="M{left} {top + high}h{wide}" stroke="#444" fill="none"/>')
        for x, edge, anchor in ((left, edges[0], "start"), (left + wide, edges[-1], "end")):
            panels.append(f'<text x="{x}" y="{top + high + 15}" text-anchor="{anchor}">{_short(edge)}</text>')
    key = "".join(
        f'<rect x="{30 + 110 * i}" y="8" width="12" height="12" fill="{ink}" fill-opacity=".5"/>'
        f'<text x="{48 + 110 * i}" y="18">{who}</text>'
        for i, (who, ink) in enumerate(INKS.items())
    )
    rows = -(-len(measures) // 2)
    size = f'viewBox="0 0 {2 * wide + 100} {40 + rows * (high + gap + 24)}"'
    style = 'font-family="sans-serif" font-size="12" fill="#222"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{key}{"".join(panels)}</svg>\n'


def _steps(heights: Sequence[float] | Array, left: float, top: float, wide: float, high: float, ink: str) -> str:
    step = wide / len(heights)
    path = f"M{left} {top + high}"
    for number, height in enumerate(heights):
        path += f"V{top + high * (1 - height):.1f}H{left + (number + 1) * step:.1f}"
    return f'<path d="{path}V{top + high}Z" fill="{ink}" fill-opacity=".35" stroke="{ink}"/>'


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"

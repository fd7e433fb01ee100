"""How videos move. A Fréchet distance hardly sees motion, so motion has measures of its own.

Frames are `t H W` or `t H W 3` uint8; grey levels are counted from 0 to 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from echosdk.evaluation.intervals import BOOTSTRAP, statistic_interval
from echosdk.evaluation.measurement import Floor, Measured

Frames = NDArray[np.uint8]


@frozen(kw_only=True)
class Motion:
    """How one video moves.

    `amount` is the mean change from a frame to the next, in grey levels. `flicker` is what of it the frame after takes
    back: half the mean second difference, zero for what goes on evenly. `rhythm` is the frequency of most power over
    all pixels, in Hz. `consistency` is the mean correlation of a frame with the next. NaN where a video is too short,
    or shows one grey.
    """

    amount: float
    flicker: float
    rhythm: float
    consistency: float


def motion_of(frames: Frames, fps: float) -> Motion:
    """Measure one video; slow drifts below one period of the whole video are no rhythm."""
    values = frames.astype(np.float32)
    if values.ndim == 4:
        values = values.mean(-1)
    first, second = np.diff(values, axis=0), np.diff(values, 2, axis=0)
    rhythm = float("nan")
    if len(values) > 3:
        power = (np.abs(np.fft.rfft(values - values.mean(0), axis=0)) ** 2).mean((1, 2))
        rhythm = float((1 + np.argmax(power[1:])) * fps / len(values)) if power[1:].max() > 0 else 0.0
    return Motion(
        amount=float(np.abs(first).mean()) if len(first) else float("nan"),
        flicker=float(np.abs(second).mean() / 2) if len(second) else float("nan"),
        rhythm=rhythm,
        consistency=_neighbours(values),
    )


def measure_motion(real: list[Motion], made: list[Motion], *, against: str, seed: int = 0) -> list[Measured]:
    """Compare the mean amount, flicker, rhythm and consistency of motion with the real one's: each a ratio, 1 is best.

    The floor is the ratio of one half of the real videos to the other, over random halvings.
    """
    rng = np.random.default_rng(seed)
    halves = np.array([rng.permutation(len(real)) for _ in range(200)])
    middle = len(real) // 2
    found = []
    for name in ("amount", "flicker", "rhythm", "consistency"):
        theirs, ours = (np.array([getattr(motion, name) for motion in motions]) for motions in (real, made))
        theirs, ours = theirs[np.isfinite(theirs)], ours[np.isfinite(ours)]
        if len(theirs) < 2 or len(ours) < 2 or not theirs.mean():
            continue
        low, high = _ratio_interval(ours, theirs, seed)
        floor = None
        if len(theirs) == len(real) and middle:
            with np.errstate(invalid="ignore", divide="ignore"):
                ratios = theirs[halves[:, :middle]].mean(1) / theirs[halves[:, middle:]].mean(1)
            if np.isfinite(ratios).all():
                ends = np.quantile(ratios, (0.025, 0.975))
                floor = Floor(value=float(ratios.mean()), low=float(ends[0]), high=float(ends[1]), n=middle)
        found.append(
            Measured(
                name=f"motion: {name}, made over real",
                direction="one",
                n=min(len(ours), len(theirs)),
                value=float(ours.mean() / theirs.mean()),
                low=low,
                high=high,
                interval=BOOTSTRAP,
                against=against,
                floor=floor,
            )
        )
    return found


def _neighbours(values: NDArray[np.float32]) -> float:
    """Return the mean correlation of neighbouring frames of `t H W`."""
    flat = values.reshape(len(values), -1)
    flat = flat - flat.mean(1, keepdims=True)
    size = np.sqrt((flat**2).sum(1))
    shared = (flat[1:] * flat[:-1]).sum(1)
    varied = size[1:] * size[:-1] > 0
    return float((shared[varied] / (size[1:] * size[:-1])[varied]).mean()) if varied.any() else float("nan")


def _ratio_interval(above: NDArray[Any], below: NDArray[Any], seed: int) -> tuple[float, float]:
    """Return the interval of a ratio of two means, each set resampled by itself."""
    other = np.random.default_rng(seed + 1)

    def ratios(rows: NDArray[Any]) -> NDArray[Any]:
        beside = other.integers(len(below), size=(len(rows), len(below)))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio: NDArray[Any] = above[rows].mean(1) / below[beside].mean(1)
        return ratio

    return statistic_interval(ratios, len(above), seed)

"""Are stitched videos continuous? Motion at the seams against motion elsewhere, and labels read window by window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy import stats

from echosdk.clips.array import ArrayClip
from echosdk.interfaces import Conditions, DownstreamValidator

Frames = NDArray[np.uint8]


@frozen(kw_only=True)
class SeamRatio:
    """Mean frame-to-frame difference at seams over that elsewhere: 1 is best. NaN where nothing moves.

    `low` and `high` are the 95 % interval from resampling videos.
    """

    ratio: float
    low: float
    high: float
    videos: int

    def within(self, tolerance: float) -> bool:
        """Say whether the ratio is 1 give or take `tolerance`; a video that does not move has none."""
        return bool(abs(self.ratio - 1) <= tolerance)


@frozen(kw_only=True)
class WindowError:
    """Label errors (read minus asked for) in one window over all videos; smaller is better."""

    first: int
    last: int
    mae: float
    standard_error: float
    bias: float
    videos: int


def window_starts(num_frames: int, window: int, seams: Sequence[int]) -> list[int]:
    """Return the first frame of each window that the animator made, in order.

    `seams` are the stitcher's (`Joins`): a window ends before each, and one with the video. Where that one is shorter,
    what is read are the last `window` frames all the same.
    """
    return sorted({max(0, end - window) for end in (*seams, num_frames)})


def seam_ratio(videos: Sequence[Frames], seams: Sequence[int], *, resamples: int = 2000, seed: int = 0) -> SeamRatio:
    """Compare the difference between frames `s - 1` and `s`, for the seams s, with that of all other neighbours.

    Both means are taken over all videos before they are divided, so a still moment of one video weighs little.
    """
    return seam_ratio_of(
        np.array([frame_differences(video) for video in videos]), seams, resamples=resamples, seed=seed
    )


def frame_differences(video: Frames) -> NDArray[np.float32]:
    """Return the mean change of a pixel from each frame to the next, `t - 1`."""
    changes: NDArray[np.float32] = np.abs(np.diff(video.astype(np.float32), axis=0)).reshape(len(video) - 1, -1).mean(1)
    return changes


def seam_ratio_of(
    differences: NDArray[np.float32], seams: Sequence[int], *, resamples: int = 2000, seed: int = 0
) -> SeamRatio:
    """Do the same with the differences `n t` of n videos of t + 1 frames."""
    at = np.zeros(differences.shape[1], bool)
    at[[seam - 1 for seam in seams]] = True
    seam, elsewhere = differences[:, at].mean(1), differences[:, ~at].mean(1)
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(differences), size=(resamples, len(differences)))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = float(seam.mean() / elsewhere.mean())
        low, high = np.quantile(seam[rows].mean(1) / elsewhere[rows].mean(1), (0.025, 0.975))
    return SeamRatio(ratio=ratio, low=float(low), high=float(high), videos=len(differences))


def label_by_window(
    videos: Sequence[Frames],
    conditions: Sequence[Conditions],
    label: str,
    validator: DownstreamValidator,
    window: int,
    starts: Sequence[int],
) -> list[WindowError]:
    """Read a label from each window of each video, by itself, and compare it with what was asked for."""
    by_video = [
        errors_by_window(video, asked, label, validator, window, starts)
        for video, asked in zip(videos, conditions, strict=True)
    ]
    return window_errors(np.array(by_video), window, starts)


def errors_by_window(
    video: Frames,
    asked: Conditions,
    label: str,
    validator: DownstreamValidator,
    window: int,
    starts: Sequence[int],
) -> NDArray[np.float64]:
    """Return the label's error (read minus asked for) in each window of one video; NaN where the video ends before."""

    def error(first: int) -> float:
        if first + window > len(video):
            return float("nan")
        part = ArrayClip(id="", group="", labels=asked, frames=video[first : first + window])
        return float(validator.predict(part)[label]) - float(asked[label])

    return np.array([error(first) for first in starts])


def window_errors(by_video: NDArray[np.float64], window: int, starts: Sequence[int]) -> list[WindowError]:
    """Sum up errors `n w` of n videos in the w windows of `window` frames that begin at `starts`."""
    found = []
    for first, errors in zip(starts, by_video.T, strict=True):
        found.append(
            WindowError(
                first=first,
                last=first + window,
                mae=float(np.abs(errors).mean()),
                standard_error=float(np.abs(errors).std(ddof=1) / np.sqrt(len(errors))),
                bias=float(errors.mean()),
                videos=len(errors),
            )
        )
    return found


def later_as_good_as_first(windows: Sequence[WindowError], *, confidence: float = 0.95) -> bool:
    """Say whether no later window's error exceeds the first one's beyond what chance explains."""
    first, z = windows[0], stats.norm.ppf(confidence)
    return all(w.mae - first.mae <= z * np.hypot(w.standard_error, first.standard_error) for w in windows[1:])

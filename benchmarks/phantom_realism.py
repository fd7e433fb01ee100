"""Lay the simulated echocardiogram beside the one real apical cine that pydicom carries, in numbers and as a picture.

    python benchmarks/phantom_realism.py --picture /tmp/phantom.png

One real cine is no population: the figures say whether the simulation is of the right kind, not that it is realistic.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pydicom
from echosdk_phantom import LABELS, Patient, Simulation, simulate
from PIL import Image
from pydicom.examples import get_path
from pydicom.pixels import pixel_array
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

CROP = (slice(19, 205), slice(76, 262))  # the sector of the real cine, without the scanner's writing
SEPTUM, CAVITY = (slice(45, 68), slice(43, 50)), (slice(50, 66), slice(56, 72))  # read off the cropped cine by eye


def real_cine() -> np.ndarray:
    """Return the real cine as grey frames `t 112 112`."""
    grey = pixel_array(pydicom.dcmread(get_path("ybr_color")), raw=False).mean(-1).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(frame[CROP]).resize((112, 112), Image.Resampling.LANCZOS)) for frame in grey]
    )


def real_sector() -> np.ndarray:
    """Return where the real cine's sector is (fitted by eye)."""
    row, column = np.mgrid[:112, :112]
    depth, angle = np.hypot(column - 55.5, row - 2), np.arctan2(column - 55.5, row - 2)
    return (np.abs(angle) < 0.75) & (depth > 4) & (depth < 107)


def speckle_widths(frames: np.ndarray) -> tuple[float, float]:
    """Return the pixels to half the autocorrelation of bright tissue's texture, down and across."""
    widths = []
    for axis in (1, 2):
        numerators, powers = np.zeros(7), 0.0
        for frame in frames[::6].astype(float):
            mean = gaussian_filter(frame, 3)
            tissue = mean > 25
            rest = (frame - mean) * tissue
            powers += (rest**2).sum()
            numerators += [(rest * np.roll(rest, lag, axis - 1)).sum() for lag in range(7)]
        correlation = numerators / powers
        last = int(np.argmax(correlation < 0.5))
        before, after = correlation[last - 1], correlation[last]
        widths.append(last - 1 + (before - 0.5) / (before - after))
    return widths[0], widths[1]


def describe(
    name: str, frames: np.ndarray, sector: np.ndarray, contrast: tuple[float, float], real: np.ndarray
) -> None:
    """Print one row of the comparison."""
    grey, (wall, blood) = frames[:, sector].ravel(), contrast
    down, across = speckle_widths(frames)
    quantiles = " ".join(f"{value:4.0f}" for value in np.percentile(grey, [50, 75, 90, 95, 99]))
    print(
        f"{name:12s} mean {grey.mean():5.1f}  p50-75-90-95-99 {quantiles}  black<16 {np.mean(grey < 16):5.1%}"
        f"  histogram distance {wasserstein_distance(grey[::7], real[::7]):5.1f}"
        f"  speckle {down:4.2f} x {across:4.2f} px"
        f"  septum {wall:5.1f} blood {blood:5.1f} ratio {wall / max(blood, 1):4.1f}"
    )


def septum_and_blood(simulation: Simulation) -> tuple[float, float]:
    """Return the mean grey of the septum's middle and of the left ventricle's, both taken off their borders."""
    frame, mask = (
        simulation.frames[simulation.ed_frame].astype(float),
        simulation.masks(frames=[simulation.ed_frame])[0],
    )
    lines = simulation.tracing(simulation.ed_frame)[8:16]
    septum, blood = [], []
    for left, top, right, _ in lines.round().astype(int):
        blood.append(frame[top, left + (right - left) // 4 : right - (right - left) // 4].mean())
        wall = np.flatnonzero(mask[top, :left] == LABELS.index("LV wall"))
        septum.append(frame[top, wall].mean())
    return float(np.mean(septum)), float(np.mean(blood))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="write real and simulated frames side by side (PNG)")
    arguments = parser.parse_args()

    real = real_cine()
    grey = real[:, real_sector()].ravel()
    describe("real cine", real, real_sector(), (real[0][SEPTUM].mean(), real[0][CAVITY].mean()), grey)

    started = time.process_time()
    hearts = [simulate(Patient.draw(arguments.seed, number)) for number in range(arguments.patients)]
    seconds = time.process_time() - started
    contrast = np.array([septum_and_blood(heart) for heart in hearts])
    frames = np.concatenate([heart.frames[::8] for heart in hearts])
    describe("all phantoms", frames, real_sector(), tuple(contrast.mean(0)), grey)
    for heart, (wall, blood) in zip(hearts[:6], contrast[:6], strict=True):
        describe(f"phantom {heart.patient.number}", heart.frames, heart.frames.max(0) > 0, (wall, blood), grey)
    print(f"{arguments.patients * 64 / seconds:.0f} frames/s of processor time, set-up of video and patient included")

    if arguments.picture:
        columns = [np.concatenate([real[0], real[16]])]
        columns += [
            np.concatenate([heart.frames[heart.ed_frame], heart.frames[heart.es_frame]]) for heart in hearts[:7]
        ]
        picture = Image.fromarray(np.concatenate(columns, 1))
        picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.BILINEAR).save(arguments.picture)
        print(f"real cine (left) and {len(columns) - 1} phantoms, end-diastole above end-systole: {arguments.picture}")


if __name__ == "__main__":
    main()

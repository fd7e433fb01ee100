"""Draw a contact sheet of a generated dataset: one video a row, from the lowest first label to the highest.

python benchmarks/contact_sheet.py OUT docs/sheet.png --videos 6 --frames 6
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from echosdk.clips import decode_video
from echosdk.generation.dataset import read_manifest
from echosdk.generation.files import Folder
from echosdk.generation.reading import read_samples
from echosdk.report.page import measured
from echosdk.report.preview import spread

GROUND, INK, QUIET, ALARM = "#131517", "#e9e7e3", "#9ba3ac", "#ffbd85"
GAP, TEXT = 6, 15


@click.command()
@click.argument("dataset")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--videos", type=click.IntRange(1), default=6, show_default=True)
@click.option("--frames", type=click.IntRange(1), default=6, show_default=True)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
@click.option("--side", type=click.IntRange(16), default=168, show_default=True, help="Width of a frame, in pixels.")
def main(dataset: str, out: Path, videos: int, frames: int, seconds: float, side: int) -> None:
    """Draw DATASET's contact sheet as the PNG file OUT."""
    folder = Folder.at(dataset)
    manifest = read_manifest(folder)
    chosen = _choose(folder, manifest, videos)
    clips = [_read(folder, row, manifest["plan"]["format"]) for row in chosen]
    rows = [[_tile(frame, side) for frame in _over(clip, fps, seconds, frames)] for clip, fps in clips]
    labels = [_label(row, manifest["labels"]) for row in chosen]
    step = min(seconds, manifest["plan"]["num_frames"] / manifest["plan"]["fps"]) / frames
    times = [f"{i * step:.2f} s" for i in range(frames)]
    draw(rows, labels, times, manifest.get("warning")).save(out, optimize=True)
    click.echo(f"{out}: {len(rows)} of {manifest['counts']['samples']} videos")


def draw(rows: list[list[Image.Image]], labels: list[str], times: list[str], warning: str | None) -> Image.Image:
    """Lay tiles out with labels at the left and times on top; a warning comes first."""
    font, small = ImageFont.load_default(TEXT), ImageFont.load_default(TEXT - 3)
    left = GAP * 3 + int(max(font.getlength(line) for label in labels for line in label.split("\n")))
    width, height = rows[0][0].size
    total = left + len(times) * (width + GAP)
    warned = _wrapped(warning, font, total - 4 * GAP) if warning else []
    top = 26 + len(warned) * (TEXT + 6) + (GAP if warned else 0)
    sheet = Image.new("RGB", (total, top + len(rows) * (height + GAP)), GROUND)
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(warned):
        pen.text((2 * GAP, GAP + number * (TEXT + 6)), line, ALARM, font)
    for column, time in enumerate(times):
        pen.text((left + column * (width + GAP) + width / 2, top - 8), time, QUIET, small, anchor="ms")
    for number, (tiles, label) in enumerate(zip(rows, labels, strict=True)):
        y = top + number * (height + GAP)
        pen.multiline_text((left - GAP * 2, y + height / 2), label, INK, font, anchor="rm", align="right")
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (left + column * (width + GAP), y))
    return sheet


def _choose(folder: Folder, manifest: dict[str, Any], number: int) -> list[dict[str, Any]]:
    numeric = {label["name"] for label in manifest["labels"] if "values" not in label}
    rows: list[dict[str, Any]] = []
    for row in csv.DictReader(io.StringIO(folder.read("index.csv").decode())):
        labels = {label["name"]: row[label["name"]] for label in manifest["labels"]}
        rows.append({**row, "labels": {name: float(v) if name in numeric else v for name, v in labels.items()}})
    return [dict(row) for row in spread(rows, manifest["labels"], number)]


def _read(folder: Folder, row: dict[str, Any], extension: str) -> tuple[np.ndarray, float]:
    data = next(s[extension] for s in read_samples(folder.read(row["shard"])) if s["__key__"] == row["key"])
    if extension == "npy":
        return np.load(io.BytesIO(data), allow_pickle=False), float(row["fps"])
    return decode_video(data)


def _over(clip: np.ndarray, fps: float, seconds: float, number: int) -> np.ndarray:
    span = min(seconds * fps, len(clip))
    return clip[(np.arange(number) * span / number).astype(int)]


def _tile(frame: np.ndarray, side: int) -> Image.Image:
    height, width = frame.shape[:2]
    return Image.fromarray(frame).convert("RGB").resize((side, round(side * height / width)), Image.Resampling.BICUBIC)


def _label(row: dict[str, Any], labels: list[dict[str, Any]]) -> str:
    if not labels:
        return str(row["key"])
    label = next((label for label in labels if "values" not in label), labels[0])
    value = row["labels"][label["name"]]
    if "values" not in label:
        value = f"{measured(value, label['high'] - label['low'])} {label['unit']}".strip()
    return f"{label['name']}\n{value}"


def _wrapped(text: str, font: Any, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width else [*lines, word]
    return lines


if __name__ == "__main__":
    main()

"""What is seen of a training while it runs, beside its lines: a curve in a file, TensorBoard, pictures.

All of it lies in the run's private folder: pictures may show what a network remembers of real data.
"""

from __future__ import annotations

import csv
import importlib.util
import struct
import zlib
from pathlib import Path
from typing import Any

import torch
from attrs import define, field
from einops import rearrange

from echosdk.errors import TrainingError
from echosdk.integrity import write_whole
from echosdk.interfaces import Run, Switches

CURVE = "curve.csv"
COLUMNS = ("step", "train_loss", "learning_rate", "val_loss")
SCALARS_EVERY = 10  # steps


def check_switches(switches: Switches) -> None:
    """Raise `TrainingError` where a package that was asked for is not installed."""
    if switches.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise TrainingError("--tensorboard: its package is not installed: pip install 'echosdk[tensorboard]'")


@define
class Watch:
    """Writes what is seen of a run from step `start` on; one process of several does."""

    run: Run
    start: int
    _writer: Any = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Forget rows of steps that a resumed run makes again."""
        kept = [row for row in read_curve(self.run.folder) if row[0] <= self.start]
        lines = [",".join(COLUMNS), *(",".join(map(_cell, row)) for row in kept)]
        write_whole(self.run.folder / CURVE, ("\n".join(lines) + "\n").encode(), mode=0o600)
        if self.run.switches.tensorboard:
            check_switches(self.run.switches)
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.run.folder / "tensorboard"), purge_step=self.start)

    def step(self, step: int, loss: float, rate: float) -> None:
        """See a step's loss on this process."""
        if self._writer and step % SCALARS_EVERY == 0:
            self._writer.add_scalar("loss/train", loss, step)
            self._writer.add_scalar("learning_rate", rate, step)

    def row(self, step: int, train_loss: float | None, rate: float, val_loss: float | None) -> None:
        """Add a row to the curve; a row that is there already stays."""
        if any(row[0] >= step for row in read_curve(self.run.folder)):
            return
        with (self.run.folder / CURVE).open("a") as file:
            file.write(",".join(map(_cell, (step, train_loss, rate, val_loss))) + "\n")
        if self._writer and val_loss is not None:
            self._writer.add_scalar("loss/validation", val_loss, step)

    def picture(self, step: int, images: torch.Tensor) -> None:
        """Write images `n k H W` in [-1, 1] beside each other, grey."""
        row = rearrange(images.float().mean(1), "n h w -> h (n w)")
        grey = ((row.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
        folder = self.run.folder / "pictures"
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(folder / f"step-{step:08d}.png", _png(grey), mode=0o600)
        if self._writer:
            self._writer.add_image("samples", grey.numpy(), step, dataformats="HW")

    def close(self) -> None:
        """Finish the logs."""
        if self._writer:
            self._writer.close()
            for path in (self.run.folder / "tensorboard").rglob("*"):
                path.chmod(0o600)


def read_curve(folder: Path) -> list[tuple[int, float | None, float | None, float | None]]:
    """Return the rows of a run's curve: step, training loss, learning rate and validation loss, in the order of steps.

    A line that a crash cut short is left out.
    """
    path = folder / CURVE
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS) and row[0].isdigit()]
    found = []
    for row in rows:
        train, rate, val = (float(cell) if cell else None for cell in row[1:])
        found.append((int(row[0]), train, rate, val))
    return found


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}" if isinstance(value, float) else str(value)


def _png(grey: torch.Tensor) -> bytes:
    """Encode uint8 `h w` (PNG specification, third edition: section 5.3)."""
    height, width = grey.shape
    lines = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), grey], 1)  # each line begins with its filter: none

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines.numpy().tobytes())) + chunk(b"IEND", b"")

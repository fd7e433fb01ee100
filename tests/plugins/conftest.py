"""Fixtures: small training data held in memory, and what a component hands to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import frozen
from numpy.typing import NDArray

from echosdk import Label, Run, TrainingData
from echosdk.training import Trained

EF = Label(name="EF", unit="%", low=10, high=80)


@frozen(kw_only=True)
class HeldClip:
    """A stored clip whose frames are in memory."""

    id: str
    group: str
    labels: Mapping[str, Any]
    frames: NDArray[Any]

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        return self.frames[start:stop].copy()


@pytest.fixture
def data_of() -> Callable[..., TrainingData]:
    """Make training data of `(patient, frames)` pairs; every clip has an EF of 50 %."""

    def make(*clips: tuple[str, NDArray[Any]], labels: tuple[Any, ...] = (EF,), **values: Any) -> TrainingData:
        held = [
            HeldClip(id=f"clip{i}", group=group, labels={"EF": 50.0, **values}, frames=frames)
            for i, (group, frames) in enumerate(clips)
        ]
        return TrainingData(train=held, val=held, labels=labels, fps=16.0, shape=held[0].frames.shape[1:])

    return make


@pytest.fixture
def training_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Fit a component without training it, and return the network, loss and example that it gave to the loop."""

    def fit(module: ModuleType, component: Any, data: TrainingData) -> dict[str, Any]:
        given: dict[str, Any] = {}

        def train(network: Any, loss: Any, example: Any, recipe: Any, run: Any, *, validation: Any, **others: Any) -> Trained:
            given.update({"network": network, "loss": loss, "example": example, "adversary": None, **others})
            network.eval()
            return Trained(steps=0, train_loss=0.0, val_loss=None, seconds=0.0, device="cpu")

        monkeypatch.setattr(module, "train", train)
        component.fit(data, Run(folder=tmp_path))
        return given

    return fit


@pytest.fixture
def latents() -> Callable[..., NDArray[np.float32]]:
    """Random latents `t c h w`."""

    def make(frames: int, shape: tuple[int, int, int] = (4, 8, 8), seed: int = 0) -> NDArray[np.float32]:
        return np.random.default_rng(seed).normal(size=(frames, *shape)).astype(np.float32)

    return make

"""A downstream validator for labels that take one of a few values (a view, a grade, a class)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import define, field
from attrs.validators import ge, min_len
from einops import rearrange, reduce
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

import echosdk
from echosdk.training import Recipe, choose, starting_from, train


@define
class CategoryClassifier:
    """Predict one category from `num_frames` frames, every `period`-th; each frame is seen by itself and averaged.

    So it reads what a single frame shows, and clips of one frame are enough; an order in time it cannot see. `label`
    is the first category of the data unless it is named. `size` 0 keeps the frames' size. Colours are averaged to grey.
    """

    widths: tuple[int, ...] = field(default=(16, 32, 64), validator=min_len(1))
    num_frames: int = field(default=8, validator=ge(1))
    period: int = field(default=4, validator=ge(1))
    size: int = field(default=64, validator=ge(0))
    label: str = ""
    recipe: Recipe = Recipe(steps=4000, batch_size=32, learning_rate=1e-3, weight_decay=1e-4)
    min_frames: int = field(init=False, default=1)
    fps: float = field(init=False, default=0.0)
    _values: tuple[str, ...] = field(init=False, default=())
    _mean: float = field(init=False, default=0.0)
    _std: float = field(init=False, default=1.0)
    _network: Any = field(init=False, default=None, repr=False)

    @torch.no_grad()
    def predict(self, clip: echosdk.StoredClip) -> echosdk.Conditions:
        device = next(self._network.parameters()).device
        logits = self._network(self._frames(clip, 0)[None].to(device))[0]
        return {self.label: self._values[int(logits.argmax())]}

    def score(self, test: Sequence[echosdk.StoredClip]) -> Mapping[str, float]:
        """Return `accuracy`, `balanced_accuracy` (the mean over the values that occur) and `commonest`.

        Higher is better, 1 is best; `commonest` is the accuracy of always answering the value that is commonest here.
        """
        right = np.array([self.predict(clip)[self.label] == clip.labels[self.label] for clip in test])
        true = np.array([clip.labels[self.label] for clip in test])
        of_each = [right[true == value] for value in np.unique(true)]
        return {
            "n": len(right),
            "accuracy": float(right.mean()),
            "balanced_accuracy": float(np.mean([own.mean() for own in of_each])),
            "commonest": max(len(own) for own in of_each) / len(right),
        }

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        categories = {label.name: label.values for label in data.labels if isinstance(label, echosdk.Category)}
        if not categories or (self.label and self.label not in categories):
            raise echosdk.TrainingError(
                f"category-classifier: no category {self.label!r}; those of the data are {list(categories)}"
            )
        self.label = self.label or next(iter(categories))
        self._values, self.fps = categories[self.label], data.fps
        sample = np.concatenate([clip.read(0, 4).reshape(-1) for clip in data.train[:256]])
        self._mean, self._std = float(sample.mean()), float(sample.std()) or 1.0
        self._network = starting_from(self._network, FrameClassifier(self.widths, len(self._values)))

        def example(split: Sequence[echosdk.StoredClip]) -> Any:
            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                clip = choose(split, generator)
                start = int(torch.randint(self._latest(clip) + 1, (), generator=generator))
                answer = self._values.index(str(clip.labels[self.label]))
                return {"frames": self._frames(clip, start), "answer": torch.tensor(answer)}

            return draw

        def loss(network: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return functional.cross_entropy(network(batch["frames"]).float(), batch["answer"])

        trained = train(self._network, loss, example(data.train), self.recipe, run, validation=example(data.val))
        return {**trained.facts(), "validation": self.score(data.val)}

    def save(self, public: Path, private: Path) -> None:
        save_file({name: value.half() for name, value in self._network.state_dict().items()},
                  public / "network.safetensors")
        about = {"label": self.label, "values": self._values, "fps": self.fps, "mean": self._mean, "std": self._std}
        (public / "classifier.json").write_text(json.dumps(about))

    def load(self, public: Path, private: Path | None) -> None:
        about = json.loads((public / "classifier.json").read_text())
        self.label, self.fps, self._mean, self._std = about["label"], about["fps"], about["mean"], about["std"]
        self._values = tuple(about["values"])
        self._network = FrameClassifier(self.widths, len(self._values))
        self._network.load_state_dict(load_file(public / "network.safetensors"))
        self._network.float().eval()

    def _latest(self, clip: echosdk.StoredClip) -> int:
        return max(0, clip.num_frames - (self.num_frames - 1) * self.period - 1)

    def _frames(self, clip: echosdk.StoredClip, start: int) -> torch.Tensor:
        """Return `num_frames` frames `t 1 h w`, standardised; those after the clip's end are its last."""
        read = clip.read(start, start + (self.num_frames - 1) * self.period + 1)[:: self.period]
        frames = torch.from_numpy(read).float()
        grey = frames[:, None] if frames.ndim == 3 else reduce(frames, "t h w k -> t 1 h w", "mean")
        if self.size:
            grey = functional.adaptive_avg_pool2d(grey, self.size)
        grey = torch.cat([grey, grey[-1:].expand(self.num_frames - len(grey), -1, -1, -1)])
        return (grey - self._mean) / self._std


class FrameClassifier(nn.Module):
    """Strided convolutions on each frame, the mean over space and time, and a linear layer: `n t 1 h w` to `n values`.

    Group norms, so that an answer depends on no other item of the batch, in training either.
    """

    def __init__(self, widths: tuple[int, ...], values: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.GroupNorm(1, width), nn.ReLU()]
            before = width
        self.features = nn.Sequential(*layers)
        self.answer = nn.Linear(before, values)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        features = self.features(rearrange(frames, "n t k h w -> (n t) k h w")).mean((2, 3))
        return self.answer(reduce(features, "(n t) c -> n c", "mean", n=len(frames)))

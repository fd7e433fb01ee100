"""The downstream task of EchoNet-Synthetic: regression of the ejection fraction from video (Ouyang et al. 2020)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from attrs import define, field
from attrs.validators import ge, in_, min_len
from einops import rearrange
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.nn import functional

import echosdk
from echosdk.training import Recipe, Stopping, begin_with_weights, choose, starting_from, train
from echosdk_ef.network import make_network

CLIPS_A_BATCH = 8
CLIPS_FOR_STATISTICS = 256
PADDING = 12  # pixels at 112: the random crop's reach


@define
class EFRegressor:
    """Predict one numeric label from `num_frames` frames, every `period`-th; a video's is the mean over its clips.

    Clips start at every `every`-th frame of a video: 1 is the paper's, and costs a clip a frame.
    `label` is the first numeric label of the data unless it is named. `size` 0 keeps the frames' size. Every
    `look_every` steps the loss on validation clips is looked at, and the weights that had the smallest stay; with 0 the
    last ones do. `start` is a file of torchvision's weights of R(2+1)D-18 (Kinetics-400, say) from which training
    starts.
    """

    cutoffs: ClassVar[tuple[float, ...]] = (35.0, 40.0, 50.0)
    """Ejection fractions at which cardiologists decide."""
    architecture: Literal["r2plus1d-18", "small"] = field(
        default="r2plus1d-18", validator=in_(("r2plus1d-18", "small"))
    )
    widths: tuple[int, ...] = field(default=(16, 32, 64, 128), validator=min_len(1))
    num_frames: int = field(default=32, validator=ge(1))
    period: int = field(default=2, validator=ge(1))
    size: int = field(default=0, validator=ge(0))
    label: str = ""
    every: int = field(default=1, validator=ge(1))
    look_every: int = field(default=0, validator=ge(0))
    start: str = ""
    recipe: Recipe = Recipe(
        steps=16_800, batch_size=20, learning_rate=1e-4, optimizer="sgd", weight_decay=1e-4, max_grad_norm=0.0,
        decay="step", decay_every=5_600,
    )  # fmt: skip
    fps: float = field(init=False, default=0.0)
    _network: Any = field(init=False, default=None, repr=False)
    _mean: float = field(init=False, default=0.0)
    _std: float = field(init=False, default=1.0)
    _scale: tuple[float, float] = field(init=False, default=(0.0, 1.0))

    @property
    def min_frames(self) -> int:
        return (self.num_frames - 1) * self.period + 1

    def to(self, device: str, dtype: torch.dtype) -> None:
        self._network.to(device, dtype)

    @torch.no_grad()
    def predict(self, clip: echosdk.StoredClip) -> echosdk.Conditions:
        frames = clip.read()
        starts = range(0, max(1, len(frames) - self.min_frames + 1), self.every)
        device = next(self._network.parameters()).device
        outputs = []
        for first in range(0, len(starts), CLIPS_A_BATCH):
            clips = torch.stack([self._cut(frames, start) for start in starts[first : first + CLIPS_A_BATCH]])
            outputs.append(self._network(clips.to(device)).cpu())
        return {self.label: float(torch.cat(outputs).mean() * self._scale[1] + self._scale[0])}

    @torch.no_grad()
    def embed_clip(self, clip: echosdk.StoredClip) -> torch.Tensor:
        """Return what the last layer sees of the video's first clip."""
        seen: list[torch.Tensor] = []
        hook = self._network.fc.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
        try:
            video = self._cut(clip.read(0, self.min_frames), 0)[None]
            self._network(video.to(next(self._network.parameters()).device))
        finally:
            hook.remove()
        return seen[0][0].float().cpu()

    def score(self, test: Sequence[echosdk.StoredClip]) -> Mapping[str, float]:
        predicted = np.array([self.predict(clip)[self.label] for clip in test], float)
        true = np.array([clip.labels[self.label] for clip in test], float)
        error = predicted - true
        return {
            "n": len(true),
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt((error**2).mean())),
            "r2": float(1 - (error**2).sum() / ((true - true.mean()) ** 2).sum()),
        }

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        self.label, values = self._learnable(data)
        self.fps = data.fps
        # The paper's network predicts the label itself; the small one a standardised label, which trains faster.
        self._scale = (0.0, 1.0) if self.architecture == "r2plus1d-18" else (values.mean(), values.std())
        shown = np.linspace(0, len(data.train) - 1, min(CLIPS_FOR_STATISTICS, len(data.train))).round().astype(int)
        sample = np.concatenate([data.train[i].read(0, 4).reshape(-1) for i in shown.tolist()])
        self._mean, self._std = float(sample.mean()), float(sample.std())
        network = make_network(
            self.architecture, self.widths, float((values.mean() - self._scale[0]) / self._scale[1])
        )
        if self.start:
            self._begin_with_weights(network)
        self._network = starting_from(self._network, network)

        def example(split: Any, augment: bool) -> Any:
            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                clip = choose(split, generator)
                start = int(torch.randint(max(1, clip.num_frames - self.min_frames + 1), (), generator=generator))
                video = self._cut(clip.read(start, start + self.min_frames), 0)
                if augment:
                    video = _random_crop(video, generator)
                target = (float(clip.labels[self.label]) - self._scale[0]) / self._scale[1]
                return {"video": video, "target": torch.tensor(target, dtype=torch.float32)}

            return draw

        def loss(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return functional.mse_loss(network(batch["video"])[:, 0].float(), batch["target"])

        held_out = example(data.val, False)
        stopping = Stopping(example=held_out, every=self.look_every) if self.look_every else None
        trained = train(
            self._network, loss, example(data.train, True), self.recipe, run, validation=held_out, stopping=stopping
        )
        return {**trained.facts(), "validation": self.score(data.val)}

    def check_training(self) -> None:
        """Raise before any data is read where the weights to start from cannot be had."""
        if self.start:
            self._begin_with_weights(make_network(self.architecture, self.widths, 0.0))

    def check_data(self, data: echosdk.TrainingData) -> None:
        self._learnable(data)

    def _learnable(self, data: echosdk.TrainingData) -> tuple[str, NDArray[np.float64]]:
        """Return the label's name and its training values. Raises where there is no such label, or nothing to learn."""
        numeric = [label.name for label in data.labels if isinstance(label, echosdk.Label)]
        if not numeric or (self.label and self.label not in numeric):
            raise echosdk.TrainingError(f"ef-regressor: no numeric label {self.label!r}; the data has {numeric}")
        name = self.label or numeric[0]
        values = np.array([clip.labels[name] for clip in data.train], np.float64)
        if not np.isfinite(values).all():
            unusable = data.train[int(np.isfinite(values).argmin())]
            raise echosdk.TrainingError(
                f"ef-regressor: {unusable.id}: label {name!r} is {unusable.labels[name]}; leave the clip out, or "
                "choose another label: --set downstream_validator.label=NAME"
            )
        if values.min() == values.max():
            raise echosdk.TrainingError(
                f"ef-regressor: label {name!r} is {values[0]:g} in every training clip, so nothing can be learnt from "
                "it; choose another: --set downstream_validator.label=NAME"
            )
        return name, values

    def _begin_with_weights(self, network: torch.nn.Module) -> None:
        """Give a network all of a file's weights but the last layer's, which are of other classes."""
        if self.architecture != "r2plus1d-18":
            raise echosdk.InputError(f"ef-regressor: start={self.start} is for r2plus1d-18, not {self.architecture!r}")
        begin_with_weights(network, self.start, "ef-regressor")

    def save(self, public: Path, private: Path) -> None:
        state = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self._network.state_dict().items()
        }
        save_file(state, public / "network.safetensors")
        about = {"label": self.label, "fps": self.fps, "mean": self._mean, "std": self._std, "scale": self._scale}
        (public / "regressor.json").write_text(json.dumps(about))

    def load(self, public: Path, private: Path | None) -> None:
        about = json.loads((public / "regressor.json").read_text())
        self.label, self.fps, self._mean, self._std = about["label"], about["fps"], about["mean"], about["std"]
        self._scale = tuple(about["scale"])
        self._network = make_network(self.architecture, self.widths, 0.0)
        self._network.load_state_dict(load_file(public / "network.safetensors"))
        self._network.float().eval()

    def _cut(self, frames: Any, start: int) -> torch.Tensor:
        """Return one clip `k t h w`, standardised; what a video lacks at its end is the mean, 0, as in the original."""
        cut = torch.from_numpy(frames[start : start + self.min_frames : self.period]).float()
        cut = rearrange(cut, "t h w -> 1 t h w") if cut.ndim == 3 else rearrange(cut, "t h w k -> k t h w")
        if self.architecture == "r2plus1d-18" and len(cut) == 1:
            cut = cut.expand(3, -1, -1, -1)
        elif self.architecture == "small":
            cut = cut.mean(0, keepdim=True)
        if self.size:
            cut = rearrange(
                functional.adaptive_avg_pool2d(rearrange(cut, "k t h w -> t k h w"), self.size), "t k h w -> k t h w"
            )
        return functional.pad((cut - self._mean) / self._std, (0, 0, 0, 0, 0, self.num_frames - cut.shape[1]))


def _random_crop(video: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pad a standardised video with the mean, and crop back at random."""
    height, width = video.shape[-2:]
    pad = max(1, round(PADDING * height / 112))
    top, left = torch.randint(2 * pad + 1, (2,), generator=generator).tolist()
    return functional.pad(video, (pad,) * 4)[..., top : top + height, left : left + width]

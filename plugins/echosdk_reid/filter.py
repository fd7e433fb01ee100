"""The privacy filter of EchoNet-Synthetic: Pearson distance of re-identification features (paper, section 2).

A network learns to say whether two frames are of one patient. Its features of a generated still are compared with those
of the training references; a still whose nearest reference is closer than tau counts as memorised.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from attrs import define, field
from attrs.validators import ge, gt, in_, lt, max_len, min_len
from safetensors.torch import load_file, save_file
from torch.nn import functional

import echosdk
from echosdk.training import Recipe, Stopping, choose, train
from echosdk_reid.network import ReIdentification

T = TypeVar("T")
Clips = Sequence[echosdk.StoredClip]

CHUNK = 4096
PAIRS_TO_SCORE = 2000


@define
class PearsonReID:
    """Reject stills whose smallest 1 - correlation to a training reference is under tau.

    tau is the `percentile`-th percentile of the held-out items' own smallest distances: `percentile` % of innocents
    are rejected. Latents are scaled to [-1, 1] with the extremes of the training split, which are kept with the
    weights, so a verdict depends on nothing but the item.

    With `patience`, training stops when the loss on pairs of `held_back` of the training patients, looked at every
    `look_every` steps, has not fallen that often; the best weights stay. Validation patients are for tau.
    """

    architecture: Literal["resnet50", "small"] = field(default="resnet50", validator=in_(("resnet50", "small")))
    layers: tuple[int, ...] = field(default=(1, 1, 1), validator=[min_len(1), max_len(4)])
    features: int = field(default=128, validator=ge(2))
    percentile: float = field(default=5.0, validator=[gt(0), lt(100)])
    patience: int = field(default=0, validator=ge(0))
    look_every: int = field(default=60, validator=ge(1))
    held_back: float = field(default=0.1, validator=[gt(0), lt(1)])
    recipe: Recipe = Recipe(steps=60_000, batch_size=128, learning_rate=1e-4, optimizer="adam", max_grad_norm=0.0)
    space = "latent"
    _network: Any = field(init=False, default=None, repr=False)
    _low: float = field(init=False, default=-1.0)
    _high: float = field(init=False, default=1.0)
    _train: torch.Tensor | None = field(init=False, default=None, repr=False)
    _tau: float = field(init=False, default=float("nan"))

    def calibrate(self, train: echosdk.References, holdout: echosdk.References, generator: torch.Generator) -> None:
        if not len(train.items) or not len(holdout.items):
            raise echosdk.PrivacyError("pearson-reid: needs training and held-out references; the bundle has none")
        self._train = standardise(self.embed(train.items))
        self._tau = torch.quantile(self._nearest(holdout.items), self.percentile / 100).item()

    def judge(self, stills: torch.Tensor) -> echosdk.Verdict:
        if self._train is None:
            raise echosdk.PrivacyError("pearson-reid: judged before it was calibrated")
        distance = self._nearest(stills)
        return echosdk.Verdict(keep=distance >= self._tau, distance=distance, tau=self._tau)

    @torch.no_grad()
    def embed(self, stills: torch.Tensor) -> torch.Tensor:
        """Map stills `n c h w` to features `n d`."""
        parts = [self._network.embed(self._scaled(part.to(self._device))).cpu() for part in stills.split(CHUNK)]
        return torch.cat(parts) if parts else torch.zeros(0, self.features)

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        patients = {"train": _by_patient(data.train), "val": _by_patient(data.val)}
        if self.patience:
            patients |= _carved(patients["train"], self.held_back, torch.Generator().manual_seed(run.seed))
        _refuse_too_few(patients)
        self._low, self._high = _extremes(data.train)
        self._network = ReIdentification(self.architecture, self.layers, data.shape[0], self.features)

        def example(patients: Sequence[Clips]) -> Any:
            seen_twice = _seen_twice(patients)

            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                """Draw two frames: different ones of one patient, or one each of two, half and half."""
                same = bool(torch.rand((), generator=generator) < 0.5)
                if same:
                    frames = _two(_frames(choose(seen_twice, generator)), generator)
                else:
                    frames = [choose(_frames(clips), generator) for clips in _two(patients, generator)]
                first, second = (self._scaled(_read(*frame)) for frame in frames)
                return {"first": first, "second": second, "same": torch.tensor(float(same))}

            return draw

        def loss(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return functional.binary_cross_entropy_with_logits(network(batch["first"], batch["second"]), batch["same"])

        validation = example(patients["val"])
        stopping = None
        if self.patience:
            stopping = Stopping(example=example(patients["held back"]), every=self.look_every, patience=self.patience)
        trained = train(
            self._network, loss, example(patients["train"]), self.recipe, run, validation=validation, stopping=stopping
        )
        return {**trained.facts(), "pairs": self._score(validation)}

    def save(self, public: Path, private: Path) -> None:
        state = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self._network.state_dict().items()
        }
        save_file(state, private / "network.safetensors")
        channels = self._network.model.conv1.in_channels
        about = {"channels": channels, "low": self._low, "high": self._high}
        (private / "normalisation.json").write_text(json.dumps(about))

    def load(self, public: Path, private: Path | None) -> None:
        if private is None:
            raise echosdk.PrivacyError("pearson-reid: its weights are private, and this bundle was stripped")
        about = json.loads((private / "normalisation.json").read_text())
        self._low, self._high = about["low"], about["high"]
        self._network = ReIdentification(self.architecture, self.layers, about["channels"], self.features)
        self._network.load_state_dict(load_file(private / "network.safetensors"))
        self._network.float().eval()

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _scaled(self, stills: torch.Tensor) -> torch.Tensor:
        return (stills.float() - self._low) / (self._high - self._low) * 2 - 1

    def _nearest(self, stills: torch.Tensor) -> torch.Tensor:
        """Return each still's smallest distance to a training reference, in double precision."""
        assert self._train is not None
        features = standardise(self.embed(stills))
        return torch.cat([1 - (part @ self._train.T).amax(1) for part in features.split(CHUNK)])

    @torch.no_grad()
    def _score(self, example: Any) -> dict[str, float]:
        """Recall and specificity of the pair head on validation patients, at logit 0."""
        drawn = [example(torch.Generator().manual_seed(seed)) for seed in range(PAIRS_TO_SCORE)]
        batch = {key: torch.stack([pair[key] for pair in drawn]) for key in drawn[0]}
        logits = self._network(batch["first"].to(self._device), batch["second"].to(self._device)).cpu()
        same = batch["same"] > 0.5
        return {
            "n": PAIRS_TO_SCORE,
            "recall": float((logits[same] > 0).float().mean()),
            "specificity": float((logits[~same] <= 0).float().mean()),
        }


def standardise(features: torch.Tensor) -> torch.Tensor:
    """Give each row mean 0 and length 1 in double precision, so that a product of rows is their Pearson correlation."""
    features = features.double() - features.double().mean(1, keepdim=True)
    return features / features.norm(dim=1, keepdim=True)


def _by_patient(clips: Clips) -> list[Clips]:
    patients = defaultdict(list)
    for clip in clips:
        patients[clip.group].append(clip)
    return list(patients.values())


def _carved(patients: list[Clips], share: float, generator: torch.Generator) -> dict[str, list[Clips]]:
    """Draw the training patients that are held back, and return them and the others."""
    order = torch.randperm(len(patients), generator=generator).tolist()
    count = max(2, round(share * len(patients)))
    return {"train": [patients[i] for i in order[count:]], "held back": [patients[i] for i in order[:count]]}


def _frames(clips: Clips) -> list[tuple[echosdk.StoredClip, int]]:
    return [(clip, index) for clip in clips for index in range(clip.num_frames)]


def _seen_twice(patients: Sequence[Clips]) -> list[Clips]:
    return [clips for clips in patients if sum(clip.num_frames for clip in clips) > 1]


def _refuse_too_few(patients: Mapping[str, Sequence[Clips]]) -> None:
    """Raise where a split has no pair of two patients, or none of two frames of one."""
    if any(len(split) < 2 or not _seen_twice(split) for split in patients.values()):
        counts = ", ".join(
            f"{name} has {len(split)} ({len(_seen_twice(split))} with two frames)" for name, split in patients.items()
        )
        raise echosdk.TrainingError(
            f"pearson-reid: pairs need at least two patients in {' and in '.join(patients)}, and of one of them two "
            f"frames; {counts}"
        )


def _two(items: Sequence[T], generator: torch.Generator) -> tuple[T, T]:
    """Draw two different items."""
    first = int(torch.randint(len(items), (), generator=generator))
    second = int(torch.randint(len(items) - 1, (), generator=generator))
    return items[first], items[second + (second >= first)]


def _read(clip: echosdk.StoredClip, index: int) -> torch.Tensor:
    return torch.from_numpy(clip.read(index, index + 1))[0]


def _extremes(clips: Any) -> tuple[float, float]:
    frames = [clip.read() for clip in clips]
    return float(min(frame.min() for frame in frames)), float(max(frame.max() for frame in frames))

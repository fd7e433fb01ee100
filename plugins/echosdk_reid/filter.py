"""The privacy filter of EchoNet-Synthetic: Pearson distance of re-identification features (paper, section 2).

A network learns to say whether two frames are of one patient. Its features of a generated still are compared with those
of the training references; a still whose nearest reference is closer than tau counts as memorised. `calibration` says
where tau comes from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from attrs import define, field
from attrs.validators import ge, gt, in_, le, lt, max_len, min_len
from safetensors.torch import load_file, save_file
from torch.nn import functional

import echosdk
from echosdk.training import Recipe, Stopping, begin_with_weights, choose, starting_from, train
from echosdk_reid.calibration import CALIBRATIONS, Calibration, copies, copy_tau, innocent_tau
from echosdk_reid.distances import nearest, standardise
from echosdk_reid.network import ReIdentification, contrastive

T = TypeVar("T")
Clips = Sequence[echosdk.StoredClip]

CHUNK = 512
PAIRS_TO_SCORE = 2000
FARTHEST = 2  # 1 minus a correlation
SMALLEST_RANGE = 1e-6  # of an item's own extremes; one value throughout has none


@define
class PearsonReID:
    """Reject stills whose smallest 1 - correlation to a training reference is under tau.

    tau is such that `percentile` % of innocents are rejected (`calibration`: see there) and, by `conformal`, at least
    `copy_percentile` % of copies: of frames of held-out patients, where another frame of the same clip, `apart` frames
    away or more, is a reference; 0 asks nothing of copies. With `mirrored`, a still is also compared with the mirror
    images of training patients that the bundle keeps, or, where it keeps none, with mirrored latents. Fewer than
    `min_patients` held-out patients, or a tau at which more than `max_rejection` % of them are rejected, is refused.

    Latents are scaled to [-1, 1] with the extremes of the training split, which are kept with the weights, so a verdict
    depends on nothing but the item; with `normalisation` "item" with its own extremes, for weights that were learnt on
    videos scaled each by itself, as the published ones were. tau is bound to references, scaling and network: where one
    of them is another than at calibration, nothing is judged.

    The paper's pairs shape a head that filtering does not use. `contrast` is the weight of a second loss, on the very
    correlation that the filter goes by; for it a mirrored patient is one more patient. 0 is the paper.

    With `patience`, training stops when the loss on pairs of `held_back` of the training patients, looked at every
    `look_every` steps, has not fallen that often; the best weights stay. Validation patients are for tau.

    `start` is a file of torchvision's weights of ResNet-50 (ImageNet, as in the paper) from which training starts. Its
    first layer sees red, green and blue: latent channel i gets the weights of colour i mod 3, and all are scaled by 3
    / channels, so that its answers keep their size.
    """

    architecture: Literal["resnet50", "small"] = field(default="resnet50", validator=in_(("resnet50", "small")))
    layers: tuple[int, ...] = field(default=(1, 1, 1), validator=[min_len(1), max_len(4)])
    features: int = field(default=128, validator=ge(2))
    percentile: float = field(default=5.0, validator=[gt(0), lt(100)])
    calibration: Calibration = field(default="conformal", validator=in_(CALIBRATIONS))
    copy_percentile: float = field(default=95.0, validator=[ge(0), lt(100)])
    apart: int = field(default=16, validator=ge(1))
    mirrored: bool = False
    normalisation: Literal["training", "item"] = field(default="training", validator=in_(("training", "item")))
    min_patients: int = field(default=200, validator=ge(1))
    max_rejection: float = field(default=50.0, validator=[gt(0), le(100)])
    contrast: float = field(default=0.0, validator=ge(0))
    patience: int = field(default=0, validator=ge(0))
    look_every: int = field(default=60, validator=ge(1))
    held_back: float = field(default=0.1, validator=[gt(0), lt(1)])
    start: str = ""
    recipe: Recipe = Recipe(steps=60_000, batch_size=128, learning_rate=1e-4, optimizer="adam", max_grad_norm=0.0)
    space = "latent"
    _network: Any = field(init=False, default=None, repr=False)
    _low: float = field(init=False, default=-1.0)
    _high: float = field(init=False, default=1.0)
    _train: torch.Tensor | None = field(init=False, default=None, repr=False)
    _innocents: torch.Tensor | None = field(init=False, default=None, repr=False)
    _enrolled: int = field(init=False, default=1)
    _tau: float = field(init=False, default=float("nan"))
    _bound: str = field(init=False, default="", repr=False)

    def calibrate(self, train: echosdk.References, holdout: echosdk.References, generator: torch.Generator) -> None:
        if not len(train.items) or not len(holdout.items):
            raise echosdk.PrivacyError("pearson-reid: needs training and held-out references; the bundle has none")
        patients = len(set(holdout.groups))
        if patients < self.min_patients:
            raise echosdk.PrivacyError(
                f"pearson-reid: {patients} held-out patients are fewer than min_patients = {self.min_patients}, and so "
                "few say little about strangers; train with more, or take it on yourself: "
                f"--set privacy_filter.min_patients={patients}"
            )
        self._train = self._references(train.items, train.mirrored)
        innocents = standardise(self.embed(holdout.items))
        self._innocents = nearest(innocents, self._train)
        self._enrolled = len(train.groups) // len(set(train.groups))
        self._settle(innocent_tau(self.calibration, self.percentile / 100, self._train, innocents))

    def calibrate_copies(self, holdout: echosdk.References, generator: torch.Generator) -> None:
        """Raise tau to what `copy_percentile` % of the held-out patients' own frames are nearer than."""
        if self.calibration != "conformal" or not self.copy_percentile:
            return
        chosen = copies(holdout.groups, self._enrolled, self.apart, generator)
        distances = [
            nearest(standardise(self.embed(holdout.items[[copy]])), self._references(holdout.items[references]))
            for references, copy in chosen
        ]
        tau = copy_tau(torch.cat(distances) if distances else torch.zeros(0), self.copy_percentile / 100)
        if tau == math.inf:
            raise echosdk.PrivacyError(
                f"pearson-reid: {len(chosen)} held-out patients with frames {self.apart} apart are too few to say what "
                f"{self.copy_percentile:g} % of copies are nearer than; train with more or longer clips, or ask less: "
                "--set privacy_filter.copy_percentile=0 asks nothing of copies"
            )
        self._settle(max(self._tau, tau))

    def judge(self, stills: torch.Tensor) -> echosdk.Verdict:
        if self._train is None:
            raise echosdk.PrivacyError("pearson-reid: judged before it was calibrated")
        if self._digest() != self._bound:
            raise echosdk.PrivacyError(
                "pearson-reid: its references, scaling or network are not those that tau was calibrated with; "
                "calibrate it again"
            )
        distance = nearest(standardise(self.embed(stills)), self._train)
        return echosdk.Verdict(keep=distance >= self._tau, distance=distance, tau=self._tau)

    @torch.no_grad()
    def embed(self, stills: torch.Tensor) -> torch.Tensor:
        """Map stills `n c h w` to features `n d`."""
        parts = [self._network.embed(self._scaled(part.to(self._device))).cpu() for part in stills.split(CHUNK)]
        return torch.cat(parts) if parts else torch.zeros(0, self.features)

    def check_training(self) -> None:
        """Raise before any data is read where the weights to start from cannot be had."""
        if self.start:
            self._begin_with_weights(ReIdentification(self.architecture, self.layers, 4, self.features))

    def check_data(self, data: echosdk.TrainingData) -> None:
        _refuse_too_few(self._patients(data, seed=0))

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        patients = self._patients(data, run.seed)
        _refuse_too_few(patients)
        self._low, self._high = _extremes(data.train)
        network = ReIdentification(self.architecture, self.layers, data.shape[0], self.features)
        if self.start:
            self._begin_with_weights(network)
        self._network = starting_from(self._network, network)

        def example(patients: Sequence[Clips]) -> Any:
            seen_twice = _seen_twice(patients)
            number = {clips[0].group: i for i, clips in enumerate(patients)}

            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                """Draw two frames: different ones of one patient, or one each of two, half and half."""
                same = bool(torch.rand((), generator=generator) < 0.5)
                if same:
                    frames = _two(_frames(choose(seen_twice, generator)), generator)
                else:
                    frames = [choose(_frames(clips), generator) for clips in _two(patients, generator)]
                first, second = (self._scaled(_read(*frame)) for frame in frames)
                whose = torch.tensor([number[clip.group] for clip, _ in frames])
                if self.contrast and torch.rand((), generator=generator) < 0.5:
                    first, second, whose = first.flip(-1), second.flip(-1), whose + len(patients)
                return {"first": first, "second": second, "same": torch.tensor(float(same)), "whose": whose}

            return draw

        def loss(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            logits, features = network(batch["first"], batch["second"])
            of_pairs = functional.binary_cross_entropy_with_logits(logits, batch["same"])
            if not self.contrast:
                return of_pairs
            return of_pairs + self.contrast * contrastive(features, batch["whose"].T.flatten())

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

    def _begin_with_weights(self, network: ReIdentification) -> None:
        if self.architecture != "resnet50":
            raise echosdk.InputError(f"pearson-reid: start={self.start} is for resnet50, not {self.architecture!r}")
        channels = network.model.conv1.in_channels

        def widened(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            first = state["conv1.weight"][:, torch.arange(channels) % 3] * (3 / channels)
            return {**state, "conv1.weight": first}

        begin_with_weights(network.model, self.start, "pearson-reid", widened)

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _scaled(self, stills: torch.Tensor) -> torch.Tensor:
        """Scale stills `... c h w` to [-1, 1], on references, held-out and generated ones alike."""
        stills = stills.float()
        if self.normalisation == "training":
            return (stills - self._low) / (self._high - self._low) * 2 - 1
        low, high = (extreme(stills, (-3, -2, -1), keepdim=True) for extreme in (torch.amin, torch.amax))
        return (stills - low) / (high - low).clamp(min=SMALLEST_RANGE) * 2 - 1

    def _patients(self, data: echosdk.TrainingData, seed: int) -> dict[str, list[Clips]]:
        """Return the clips of each patient: to learn from, to validate on, and, where asked, to hold back."""
        patients = {"train": _by_patient(data.train), "val": _by_patient(data.val)}
        if self.patience:
            patients |= _carved(patients["train"], self.held_back, torch.Generator().manual_seed(seed))
        return patients

    def _references(self, items: torch.Tensor, mirrored: torch.Tensor | None = None) -> torch.Tensor:
        """Return the standardised features of references and, where asked for, of them mirrored."""
        if self.mirrored:
            items = torch.cat([items, items.flip(-1) if mirrored is None else mirrored])
        return standardise(self.embed(items))

    def _settle(self, tau: float) -> None:
        """Take a tau, bound to what it was calibrated with. Raises where it would reject too many innocents."""
        assert self._innocents is not None
        if not 0 < tau <= FARTHEST:
            raise echosdk.PrivacyError(
                f"pearson-reid: tau by {self.calibration!r} is {tau:g}, and a distance is between 0 and {FARTHEST}: "
                "copies would be kept, or nothing; held-out patients may be among the training references"
            )
        rejected = 100 * (self._innocents < tau).double().mean().item()
        if rejected > self.max_rejection:
            raise echosdk.PrivacyError(
                f"pearson-reid: tau by {self.calibration!r} would reject {rejected:.0f} % of held-out patients, more "
                f"than max_rejection = {self.max_rejection:g} %; train the network longer so that it tells copies from "
                "strangers, or ask less: percentile, copy_percentile, another calibration"
            )
        self._tau = tau
        self._bound = self._digest()

    def _digest(self) -> str:
        """Digest tau and what it depends on: the references' features, the scaling, the network."""
        assert self._train is not None
        digest = hashlib.blake2b(repr((self._tau, self._low, self._high, self.mirrored, self.normalisation)).encode())
        for tensor in (self._train, *self._network.parameters(), *self._network.buffers()):
            digest.update(tensor.detach().cpu().contiguous().numpy())
        return digest.hexdigest()

    @torch.no_grad()
    def _score(self, example: Any) -> dict[str, float]:
        """Recall and specificity of the pair head on validation patients, at logit 0."""
        drawn = [example(torch.Generator().manual_seed(seed)) for seed in range(PAIRS_TO_SCORE)]
        batch = {key: torch.stack([pair[key] for pair in drawn]) for key in drawn[0]}
        logits = self._network(batch["first"].to(self._device), batch["second"].to(self._device))[0].cpu()
        same = batch["same"] > 0.5
        return {
            "n": PAIRS_TO_SCORE,
            "recall": float((logits[same] > 0).float().mean()),
            "specificity": float((logits[~same] <= 0).float().mean()),
        }


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


def _extremes(clips: Clips) -> tuple[float, float]:
    """Return the smallest and the largest value of all clips, of which one at a time is in memory."""
    low, high = math.inf, -math.inf
    for clip in clips:
        frames = clip.read()
        low, high = min(low, float(frames.min())), max(high, float(frames.max()))
        del frames
    return low, high

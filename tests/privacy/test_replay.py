"""The replay attack: make every attempt again from what is public, and see where the gate said no.

A prior that repeats its training data is the worst case of one that was trained too long. What the gate rejected of it
are training patients: whoever learns which attempts were rejected has them.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from attrs import define, field, frozen
from safetensors.torch import load_file, save_file

import echosdk
from echosdk import Registry
from echosdk.bundle import Bundle, add_stage, strip
from echosdk.generation.generate import Options, generate
from echosdk.generation.pipeline import decode
from echosdk.generation.plan import Plan
from echosdk.generation.reading import read_samples
from echosdk.plugin_set import PluginSet
from echosdk.seeding import generator

VIDEOS, FRAMES, ATTEMPTS, REPEATS = 24, 2, 12, 0.5
SAME_LEVELS = 2.0  # a still that is decoded alone, and one that is decoded with others, differ by rounding


@define(slots=False)
class Overtrained:
    """Half of what it draws is a training still; the rest is new."""

    _stills: torch.Tensor = field(init=False)

    def to(self, device: str, dtype: torch.dtype) -> None: ...

    def sample(self, generators: Sequence[torch.Generator], conditions: Sequence[Any]) -> torch.Tensor:
        return torch.stack([self._draw(noise) for noise in generators])

    def _draw(self, noise: torch.Generator) -> torch.Tensor:
        repeats = bool(torch.rand((), generator=noise) < REPEATS)
        which = int(torch.randint(len(self._stills), (), generator=noise))
        new = torch.randn(self._stills.shape[1:], generator=noise)
        return self._stills[which] if repeats else new

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        raise NotImplementedError

    def save(self, public: Path, private: Path) -> None:
        save_file({"stills": self._stills}, public / "weights.safetensors")

    def load(self, public: Path, private: Path | None) -> None:
        self._stills = load_file(public / "weights.safetensors")["stills"]


@pytest.fixture(scope="module")
def with_overtrained(registry: Registry) -> Registry:
    @echosdk.hookimpl
    def echosdk_image_priors() -> Any:
        yield echosdk.Component(name="overtrained", build=Overtrained, summary="Repeats its training data.")

    module = ModuleType("overtrained")
    module.echosdk_image_priors = echosdk_image_priors  # type: ignore[attr-defined]
    return Registry((*registry.offers, *Registry.of(module).offers))


@frozen
class Released:
    """What is published, what an attacker may have besides, and what nobody is to have."""

    dataset: Path
    stripped: Path
    bundle: Bundle
    registry: Registry
    rejected: int


@pytest.fixture(scope="module")
def released(
    trained_tiny: Bundle, with_overtrained: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Released:
    folder = tmp_path_factory.mktemp("released")
    bundle = Bundle.open(str(shutil.copytree(trained_tiny.folder, folder / "bundle")))
    train, _, _ = bundle.references()
    prior = Overtrained()
    prior._stills = train.items.contiguous()
    static = with_overtrained.build("video_animator", "static", {}, "test")
    static._latent = tuple(train.items.shape[1:])
    for kind, component, use in (("image_prior", prior, "overtrained"), ("video_animator", static, "static")):
        encoder = bundle.manifest.stages[kind].encoder
        about = {"choice": {"use": use, "parameters": {}, "seed": 0}, "facts": {}}
        bundle = add_stage(bundle, kind, component, encoder, about)
    options = Options(
        plugin_set="default-tiny", bundle=str(bundle.folder), num_videos=VIDEOS, num_frames=FRAMES, format="npy",
        use=("image_prior=overtrained", "video_animator=static"), shard_size=VIDEOS, max_attempts=100,
    )  # fmt: skip
    manifest = generate(str(folder / "out"), options=options, registry=with_overtrained)
    assert manifest is not None
    strip(bundle, folder / "stripped")
    rejected = sum(rate["hits"] for rate in manifest["rejected"].values())
    return Released(folder / "out", folder / "stripped", bundle, with_overtrained, rejected)


@frozen
class Replayed:
    """How many published videos an attacker made again, and the stills that he knows were rejected before them."""

    made_again: int
    rejected: list[torch.Tensor]


def replay(released: Released, key: bytes) -> Replayed:
    """Attack with the stripped weights, the dataset and the code; `key` is what the noise is thought to be keyed with."""
    bundle = Bundle.open(str(released.stripped))
    assert bundle.stripped
    plan = Plan.of_public(json.loads((released.dataset / "dataset.json").read_text())["plan"])
    plugin_set = PluginSet.from_plain(plan.whole_plugin_set(), where="plan")
    encoder, prior = (plugin_set.build(released.registry, kind) for kind in ("encoder", "image_prior"))
    for kind, component in (("encoder", encoder), ("image_prior", prior)):
        bundle.load(kind, component, plugin_set.choices[kind].use)
    made_again, known = 0, []
    for sample, still in enumerate(published(released)):
        attempts = torch.cat(
            [prior.sample([generator(plan.seed, sample, i, "still", key=key)], [{}]) for i in range(ATTEMPTS)]
        )
        frames = decode(encoder, attempts).astype(float)
        same = np.abs(frames - still).mean((1, 2)) < SAME_LEVELS
        if same.any():
            made_again += 1
            known += list(attempts[: int(same.argmax())])
    return Replayed(made_again, known)


def published(released: Released) -> list[Any]:
    """Return the first frame of every published video."""
    samples = read_samples((released.dataset / "train-000000.tar").read_bytes())
    return [np.load(io.BytesIO(sample["npy"]))[0].astype(float) for sample in samples]


def patients(released: Released, stills: Sequence[torch.Tensor]) -> set[str]:
    """Return the training patients whose stills these are."""
    train, _, _ = released.bundle.references()
    return {
        group for still in stills for item, group in zip(train.items, train.groups, strict=True) if torch.equal(item, still)
    }


def test_who_replays_what_is_public_recovers_no_patient(released: Released) -> None:
    """A stripped bundle's own code would draw with no key at all: that is what he tries, and what he can guess."""
    for key in (b"", b"\0" * 32, bytes.fromhex(released.bundle.manifest.identity)):
        attacked = replay(released, key)
        assert (attacked.made_again, patients(released, attacked.rejected)) == (0, set())


def test_were_the_noise_public_he_would_recover_patients(released: Released) -> None:
    """So the attack has teeth: what it lacks is the key."""
    attacked = replay(released, released.bundle.noise_key)
    assert attacked.made_again == VIDEOS
    found = patients(released, attacked.rejected)
    assert len(found) >= 5
    assert released.rejected >= len(attacked.rejected) >= len(found)


def test_the_gate_let_none_of_what_was_repeated_through(released: Released) -> None:
    train, _, _ = released.bundle.references()
    plugin_set = released.bundle.plugin_set
    encoder = plugin_set.build(released.registry, "encoder")
    released.bundle.load("encoder", encoder, plugin_set.choices["encoder"].use)
    known = decode(encoder, train.items).astype(float)
    assert min(np.abs(known - still).mean((1, 2)).min() for still in published(released)) > SAME_LEVELS

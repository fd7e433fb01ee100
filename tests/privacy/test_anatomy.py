"""Whose anatomy a still shows: the reader, and what an audit counts by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from echosdk_phantom import Patient, PhantomSource

import echosdk.privacy.anatomy
from echosdk.errors import InputError
from echosdk.privacy.anatomy import Reader, check_anatomy, near_copies
from echosdk.privacy.drawn import Drawn

EVERYBODY = np.array([Patient.draw(0, number).scaled() for number in range(200)])


@pytest.fixture
def reader() -> Reader:
    """Reads half of the anatomy without error; what it says of the other half is noise."""

    class Network(torch.nn.Module):
        def forward(self, stills: torch.Tensor) -> torch.Tensor:
            read = stills.flatten(1).clone()
            read[:, 1::2] = 100 * torch.randn(read[:, 1::2].shape, generator=torch.Generator().manual_seed(0))
            return read

    explained = np.full(EVERYBODY.shape[1], 0.99)
    explained[1::2] = 0
    return Reader(Network(), explained)


def shown(anatomy: Any) -> torch.Tensor:
    """Return what the network is to see: as regression shrinks it."""
    return torch.from_numpy(0.99 * np.asarray(anatomy)).float()


def test_anatomy_is_scaled_to_variance_one() -> None:
    assert np.abs(EVERYBODY.mean(0)).max() < 0.3
    assert EVERYBODY.std(0) == pytest.approx(np.ones(EVERYBODY.shape[1]), abs=0.15)


def test_an_anatomy_is_nearest_to_its_own_patient_by_what_is_read_well(reader: Reader) -> None:
    away = reader.distances(shown(EVERYBODY[:20]), EVERYBODY[:20])
    assert (away.argmin(1) == np.arange(20)).all()
    assert np.diag(away).max() < 1e-6
    assert away[~np.eye(20, dtype=bool)].min() > 0.5


def test_the_network_learns_to_read_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echosdk.privacy.anatomy, "STEPS", 150)
    true = np.tile(EVERYBODY, (5, 1))[:, :3]
    wanted = torch.from_numpy(true).float()[..., None, None]
    seen = torch.randn(len(true), 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.1 + wanted
    before = torch.random.get_rng_state()
    read = Reader.train(seen, true)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert read.explained.min() > 0.8


def test_near_copies_are_counted_by_anatomy_and_the_missed_are_those_that_the_gate_keeps(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten stills six show training patients; the gate keeps two of these, and three of the four others."""
    source = PhantomSource(patients=40, frames=2, size=32)
    clips = list(source.clips("train"))
    monkeypatch.setattr(Reader, "train", lambda seen, true: reader)
    anatomy = {clip.id: source.anatomy(clip) for split in ("train", "test") for clip in source.clips(split)}
    monkeypatch.setattr(
        echosdk.privacy.anatomy, "_encoded",
        lambda some, *_: shown([source.anatomy(clip) for clip in some]),
    )  # fmt: skip
    strangers = shown([Patient.draw(1, number).scaled() for number in range(150)])
    stills = torch.cat([shown([anatomy[clip.id] for clip in clips[:6]]), strangers[:4]])
    keep = torch.tensor([True, True, False, False, False, False, True, True, True, False])
    drawn, missed, kept = near_copies(
        source, None, list(strangers), Drawn(stills=stills, keep=keep), 10, 0, lambda line: None
    )
    assert (drawn.value, drawn.n) == (pytest.approx(0.6, abs=0.11), 10)  # 1 % of strangers pass
    assert (missed.value, missed.n) == (pytest.approx(2 / 6, abs=0.15), round(10 * (drawn.value or 0)))
    assert kept.n == 5
    assert "of whose own frames the reader knows 100.0%" in missed.note


def test_too_few_strangers_say_nothing_and_other_sources_are_refused() -> None:
    source = PhantomSource(patients=8, frames=2, size=32)
    nothing = Drawn(stills=torch.zeros(1, 2), keep=torch.tensor([True]))
    (figure,) = near_copies(source, None, [torch.zeros(2)] * 99, nothing, 10, 0, lambda line: None)  # type: ignore[arg-type]
    assert (figure.n, figure.value) == (0, None)
    check_anatomy(source, "phantom", 300)
    with pytest.raises(InputError, match="--anatomy-patients: --data real does not know the true anatomy"):
        check_anatomy(object(), "real", 300)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there are no stills to look at with --stills 0"):
        check_anatomy(source, "phantom", 0)


def test_the_reader_tells_simulated_patients_apart(trained_tiny: Any, registry: Any) -> None:
    """Whole, on the phantom and an encoder: the reader's own figure says how many frames it knows."""
    encoder = trained_tiny.plugin_set.build(registry, "encoder")
    trained_tiny.load("encoder", encoder, "vae")
    source = PhantomSource(patients=16, frames=2, size=32)
    stills = torch.randn(5, *encoder.latent_shape, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(echosdk.privacy.anatomy, "STEPS", 5)
        drawn = Drawn(stills=stills, keep=torch.ones(5, dtype=torch.bool))
        figures = near_copies(source, encoder, list(torch.randn(100, *encoder.latent_shape)), drawn, 30, 0, print)
    assert [figure.name for figure in figures] == ["near-copies.drawn", "near-copies.missed", "near-copies.kept"]

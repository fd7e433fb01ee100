"""The privacy filter: distances, tau, and the faults of the published code that it must not repeat."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import echosdk_reid.filter as module
import numpy as np
import pytest
import torch
from echosdk_reid import PearsonReID
from echosdk_reid.calibration import copies
from echosdk_reid.distances import nearest, smallest_of_all_pairs, standardise
from echosdk_reid.network import ReIdentification, contrastive
from safetensors.torch import save_file
from torchvision.models import resnet50

import echosdk
from echosdk import References
from echosdk.training import Recipe

SHAPE = (4, 8, 8)


def features_are_the_items(percentile: float = 5.0, **parameters: Any) -> PearsonReID:
    """A filter whose network gives an item's first 16 values as its features, and nothing is scaled."""
    made = PearsonReID(features=16, percentile=percentile, **{"min_patients": 1, **parameters})
    parameter = torch.nn.Parameter(torch.zeros(1))
    made._network = SimpleNamespace(
        embed=lambda items: items.flatten(1)[:, :16], parameters=lambda: iter([parameter]), buffers=lambda: iter([])
    )
    return made


def with_network(architecture: Any = "small") -> PearsonReID:
    made = PearsonReID(architecture=architecture, layers=(1, 1), features=16, min_patients=1)
    torch.manual_seed(0)
    made._network = ReIdentification(made.architecture, made.layers, 4, 16).eval()
    made._low, made._high = -4.0, 4.0
    return made


def items(number: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, *SHAPE, generator=torch.Generator().manual_seed(seed))


def references(tensor: torch.Tensor) -> References:
    return References(items=tensor, groups=[str(i) for i in range(len(tensor))])


def numpys(ours: torch.Tensor, train: torch.Tensor) -> np.ndarray[Any, Any]:
    """Nearest distances as numpy has them, on the whole correlation matrix."""
    one, other = (x.flatten(1)[:, :16].double().numpy() for x in (ours, train))
    return 1 - np.corrcoef(np.concatenate([one, other]))[: len(one), len(one) :].max(1)


def test_distances_are_one_minus_numpys_correlation() -> None:
    train, holdout, stills = items(50), items(20, 1), items(30, 2)
    judge = features_are_the_items()
    judge.calibrate(references(train), references(holdout), torch.Generator())
    np.testing.assert_allclose(judge.judge(stills).distance, numpys(stills, train), atol=1e-6)


@pytest.mark.parametrize("percentile", [5.0, 40.0])
def test_tau_is_the_percentile_of_each_held_out_items_nearest_training_reference(percentile: float) -> None:
    """The published code takes it the other way round, train to held-out, which are of different sizes."""
    train, holdout = items(200), items(20, 1)
    judge = features_are_the_items(percentile, calibration="percentile")
    judge.calibrate(references(train), references(holdout), torch.Generator())
    tau = judge.judge(items(1)).tau
    assert tau == pytest.approx(np.quantile(numpys(holdout, train), percentile / 100), abs=1e-6)
    assert tau != pytest.approx(np.quantile(numpys(train, holdout), percentile / 100), abs=1e-3)


def test_the_false_rejection_of_innocents_is_what_was_asked_for() -> None:
    judge = features_are_the_items(10.0)
    judge.calibrate(references(items(300)), references(items(500, 1)), torch.Generator())
    rejected = 1 - judge.judge(items(2000, 2)).keep.double().mean()
    assert 0.06 < rejected < 0.14


@pytest.mark.parametrize("architecture", ["small", "resnet50"])
def test_a_verdict_does_not_depend_on_the_other_items(architecture: str) -> None:
    """The published code scales synthetic latents over the whole set."""
    judge = with_network(architecture)
    judge.calibrate(references(items(12)), references(items(6, 1)), torch.Generator())
    stills = items(4, 2)
    extreme = torch.cat([stills, 100 * items(4, 3)])
    alone = [judge.judge(still[None]) for still in stills]
    together = judge.judge(extreme)
    torch.testing.assert_close(together.distance[:4], torch.cat([v.distance for v in alone]), atol=1e-5, rtol=1e-3)
    assert together.keep[:4].tolist() == [bool(v.keep) for v in alone]


def test_copies_of_training_references_are_rejected() -> None:
    judge = with_network()
    train = items(12)
    judge.calibrate(references(train), references(items(6, 1)), torch.Generator())
    verdict = judge.judge(train)
    assert not verdict.keep.any()
    assert verdict.distance.abs().max() < 1e-9


def test_judging_keeps_its_hands_off_the_stills() -> None:
    judge = with_network()
    judge.calibrate(references(items(4)), references(items(4, 1)), torch.Generator())
    stills = items(3, 2)
    judge.judge(stills)
    assert torch.equal(stills, items(3, 2))


def test_no_stills_get_an_empty_verdict() -> None:
    judge = with_network()
    judge.calibrate(references(items(4)), references(items(4, 1)), torch.Generator())
    assert judge.judge(items(0)).keep.shape == (0,)


def test_it_refuses_to_judge_before_it_is_calibrated_and_to_calibrate_on_nothing() -> None:
    with pytest.raises(echosdk.PrivacyError, match="before it was calibrated"):
        with_network().judge(items(1))
    with pytest.raises(echosdk.PrivacyError, match="the bundle has none"):
        with_network().calibrate(references(items(3)), references(items(0)), torch.Generator())


def pairs_of(training_of: Any, data: Any) -> list[Any]:
    given = training_of(module, PearsonReID(architecture="small", layers=(1,), features=16), data)
    return [given["example"](torch.Generator().manual_seed(seed)) for seed in range(400)]


def test_pairs_are_of_one_patient_or_of_two_never_two_clips_of_one_patient_as_strangers(
    training_of: Any, data_of: Any
) -> None:
    def clip(patient: int) -> Any:
        return np.full((3, 4, 8, 8), patient, np.float32)

    clips = [(f"patient{i}", clip(i)) for i in range(3) for _ in range(4)]
    pairs = pairs_of(training_of, data_of(*clips))
    for pair in pairs:
        assert bool(pair["same"]) == torch.equal(pair["first"], pair["second"])
    assert 0.4 < np.mean([float(pair["same"]) for pair in pairs]) < 0.6


def test_a_pair_of_one_patient_is_of_two_different_frames(training_of: Any, data_of: Any) -> None:
    """In one video or in two; a frame paired with itself would teach to recognise copies only."""

    def clip(*frames: int) -> Any:
        return np.stack([np.full((4, 8, 8), value, np.float32) for value in frames])

    data = data_of(("a", clip(0, 1)), ("b", clip(10)), ("b", clip(11)), ("c", clip(20)))
    pairs = [pair for pair in pairs_of(training_of, data) if pair["same"]]
    drawn = {tuple(round(float(pair[key].mean() + 1) * 10) for key in ("first", "second")) for pair in pairs}
    assert drawn == {(0, 1), (1, 0), (10, 11), (11, 10)}


@pytest.mark.parametrize(
    ("clips", "counts"),
    [
        ([("a", 3), ("a", 3)], "train has 1 (1 with two frames), val has 1 (1 with two frames)"),
        ([("a", 1), ("b", 1)], "train has 2 (0 with two frames), val has 2 (0 with two frames)"),
    ],
)
def test_data_without_two_patients_or_two_frames_of_one_is_refused_before_training(
    clips: Any, counts: str, training_of: Any, data_of: Any, latents: Any
) -> None:
    data = data_of(*((patient, latents(frames)) for patient, frames in clips))
    with pytest.raises(echosdk.TrainingError) as error:
        training_of(module, PearsonReID(architecture="small", layers=(1,), features=16), data)
    assert str(error.value) == (
        f"pearson-reid: pairs need at least two patients in train and in val, and of one of them two frames; {counts}"
    )


def test_pairs_are_scored_where_the_network_is(training_of: Any, data_of: Any, latents: Any) -> None:
    """After a training on a GPU it is still there, and what is read from the store is not."""
    seen = []

    class Elsewhere(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            seen.extend([first.device.type, second.device.type])
            return torch.ones(len(first)), torch.ones(2 * len(first), 16)

    judge = PearsonReID(architecture="small", layers=(1,), features=16)
    given = training_of(module, judge, data_of(("a", latents(3)), ("b", latents(3, seed=1))))
    judge._network = Elsewhere()
    score = judge._score(given["example"])
    assert seen == ["meta", "meta"]
    assert (score["recall"], score["specificity"]) == (1.0, 0.0)


def test_latents_are_scaled_by_the_extremes_of_the_training_split(training_of: Any, data_of: Any) -> None:
    frames = np.linspace(-3, 5, 2 * 4 * 8 * 8, dtype=np.float32).reshape(2, 4, 8, 8)
    judge = PearsonReID(architecture="small", layers=(1,), features=16)
    training_of(module, judge, data_of(("a", frames), ("b", frames)))
    scaled = judge._scaled(torch.from_numpy(frames))
    assert (float(scaled.min()), float(scaled.max())) == (-1.0, 1.0)


def test_of_the_training_split_one_clip_at_a_time_is_in_memory() -> None:
    """EchoNet-Dynamic's latents are gigabytes."""
    alive: set[int] = set()
    most = []

    class Counted:
        def read(self) -> Any:
            frames = np.full((2, 4, 8, 8), len(most), np.float32)
            alive.add(len(most))
            weakref.finalize(frames, alive.discard, len(most))
            most.append(len(alive))
            return frames

    assert module._extremes([Counted()] * 5) == (0, 4)  # type: ignore[list-item]
    assert most == [1] * 5


def test_training_starts_from_torchvisions_weights_where_they_are_given(
    training_of: Any, data_of: Any, latents: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAIRS_TO_SCORE", 8)
    torch.manual_seed(1)
    published = resnet50(weights=None).state_dict()
    torch.save(published, tmp_path / "imagenet.pth")
    save_file(published, tmp_path / "imagenet.safetensors")
    for name in ("imagenet.pth", "imagenet.safetensors"):
        judge = PearsonReID(start=str(tmp_path / name))
        judge.check_training()
        given = training_of(module, judge, data_of(("a", latents(2)), ("b", latents(2, seed=1))))
        model = given["network"].model
        assert torch.equal(model.layer3[5].conv2.weight, published["layer3.5.conv2.weight"])
        assert model.fc.out_features == 128
        colours = published["conv1.weight"]
        torch.testing.assert_close(model.conv1.weight[:, 3], 0.75 * colours[:, 0])
        torch.testing.assert_close(model.conv1.weight[:, 2], 0.75 * colours[:, 2])


@pytest.mark.parametrize(
    ("held", "says"), [(None, "no such file"), (b"junk", "holds other weights"), ({"x": torch.zeros(1)}, "holds other weights")]
)
def test_weights_to_start_from_that_cannot_be_had_are_refused(held: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "imagenet.pth"
    if isinstance(held, bytes):
        path.write_bytes(held)
    elif held:
        torch.save(held, path)
    with pytest.raises(echosdk.InputError, match=says):
        PearsonReID(start=str(path)).check_training()
    with pytest.raises(echosdk.InputError, match="is for resnet50, not 'small'"):
        PearsonReID(architecture="small", start=str(path)).check_training()


def test_the_contrastive_loss_is_that_of_its_paper() -> None:
    """Equation 2 of Khosla et al. 2020, still by still, on numpy's correlation."""
    features, patients = items(7).flatten(1)[:, :16], torch.tensor([0, 1, 0, 2, 1, 0, 3])
    similar = np.corrcoef(features.double().numpy()) / 0.1
    losses = []
    for i in range(7):
        own = [j for j in range(7) if j != i and patients[j] == patients[i]]
        others = np.log(sum(np.exp(similar[i, j]) for j in range(7) if j != i))
        if own:
            losses.append(-np.mean([similar[i, j] - others for j in own]))
    assert len(losses) == 5
    assert float(contrastive(features, patients)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_stills_of_strangers_only_have_no_contrastive_loss() -> None:
    features = items(3).flatten(1)[:, :16].requires_grad_()
    loss = contrastive(features, torch.arange(3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_for_the_contrastive_loss_a_mirrored_patient_is_another(training_of: Any, data_of: Any) -> None:
    """Without it nothing is mirrored: the paper does not."""
    frame = np.zeros((4, 8, 8), np.float32)
    frame[..., :4] = np.arange(1, 5)[:, None, None]
    data = data_of(*[(f"p{i}", np.stack([frame + 10 * i] * 3)) for i in range(3)])
    for contrast in (0.0, 1.0):
        judge = PearsonReID(architecture="small", layers=(1,), features=16, contrast=contrast)
        example = training_of(module, judge, data)["example"]
        pairs = [example(torch.Generator().manual_seed(seed)) for seed in range(200)]
        for pair in pairs:
            mirrored = [bool(pair[name][0, 0, 0] < pair[name][0, 0, -1]) for name in ("first", "second")]
            assert [number >= 3 for number in pair["whose"].tolist()] == mirrored
            assert bool(pair["same"]) == (len(set(pair["whose"].tolist())) == 1)
        assert {number for pair in pairs for number in pair["whose"].tolist()} == set(range(6 if contrast else 3))


def test_contrast_brings_a_patients_frames_together_and_parts_strangers(data_of: Any, tmp_path: Path) -> None:
    clips = clips_of(8, 0.5)
    data = data_of(*[(f"p{i}", clips.items[9 * i : 9 * i + 9].numpy()) for i in range(8)])
    recipe = Recipe(steps=30, batch_size=16, learning_rate=3e-3)
    judge = PearsonReID(architecture="small", layers=(1,), features=16, contrast=1.0, recipe=recipe)
    torch.manual_seed(0)
    judge.fit(data, echosdk.Run(folder=tmp_path))
    features = standardise(judge.embed(clips.items))
    similar = (features @ features.T).view(8, 9, 8, 9)
    own = torch.stack([similar[i, :, i] for i in range(8)])
    others = torch.stack([similar[i, :, j] for i in range(8) for j in range(8) if i != j])
    assert own.quantile(0.05) > others.quantile(0.95)


def test_its_weights_and_normalisation_are_private(tmp_path: Path) -> None:
    public, private = tmp_path / "public", tmp_path / "private"
    public.mkdir()
    private.mkdir()
    with_network().save(public, private)
    assert not list(public.iterdir())
    assert {path.name for path in private.iterdir()} == {"network.safetensors", "normalisation.json"}
    with pytest.raises(echosdk.PrivacyError, match="stripped"):
        PearsonReID(architecture="small", layers=(1, 1), features=16).load(public, None)


def test_a_loaded_filter_judges_as_the_saved_one(tmp_path: Path) -> None:
    saved, loaded = with_network(), PearsonReID(architecture="small", layers=(1, 1), features=16)
    saved.save(tmp_path, tmp_path)
    loaded.load(tmp_path, tmp_path)
    torch.testing.assert_close(loaded.embed(items(3)), saved.embed(items(3)), atol=2e-3, rtol=0)
    assert (loaded._low, loaded._high) == (saved._low, saved._high)


def test_it_stops_early_on_training_patients_that_it_does_not_learn_from(training_of: Any, data_of: Any) -> None:
    clips = [(f"patient{i}", np.full((3, 4, 8, 8), i, np.float32)) for i in range(20)]
    judge = PearsonReID(architecture="small", layers=(1,), features=16, patience=7, look_every=3, held_back=0.25)
    given = training_of(module, judge, data_of(*clips))

    def seen(example: Any) -> set[float]:
        pairs = [example(torch.Generator().manual_seed(seed)) for seed in range(300)]
        return {float(pair[name].mean()) for pair in pairs for name in ("first", "second")}

    stopping = given["stopping"]
    assert (stopping.every, stopping.patience) == (3, 7)
    assert (len(seen(stopping.example)), len(seen(given["example"]))) == (5, 15)
    assert not seen(stopping.example) & seen(given["example"])


def test_without_patience_all_training_patients_are_learnt_from(training_of: Any, data_of: Any) -> None:
    given = training_of(module, PearsonReID(architecture="small", layers=(1,), features=16), data_of(*[(f"p{i}", np.full((3, 4, 8, 8), i, np.float32)) for i in range(4)]))
    assert given["stopping"] is None


def test_too_few_patients_to_hold_some_back_are_refused(training_of: Any, data_of: Any) -> None:
    judge = PearsonReID(architecture="small", layers=(1,), features=16, patience=1)
    with pytest.raises(echosdk.TrainingError) as error:
        training_of(module, judge, data_of(*[(f"p{i}", np.zeros((3, 4, 8, 8), np.float32)) for i in range(3)]))
    assert str(error.value) == (
        "pearson-reid: pairs need at least two patients in train and in val and in held back, and of one of them two "
        "frames; train has 1 (1 with two frames), val has 3 (3 with two frames), held back has 2 (2 with two frames)"
    )


def three(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(standardise(part.flatten(1)[:, :16]) for part in parts)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (1024, 8192)])
def test_distances_and_ranks_are_the_same_in_whatever_pieces(rows: int, columns: int) -> None:
    one, other = three(items(23, 1), items(31))
    everything = np.sort(numpys_block(items(23, 1), items(31)).ravel())
    np.testing.assert_allclose(
        nearest(one, other, rows, columns), numpys(items(23, 1), items(31)), atol=1e-12, rtol=0
    )
    for rank in (1, 2, 36, 400, 23 * 31):
        assert smallest_of_all_pairs(one, other, rank, rows, columns) == pytest.approx(everything[rank - 1], abs=1e-12)


def test_no_more_than_a_piece_of_the_matrix_is_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product is looked at: 100,000 stills against 224,000 references would be 180 GB at once."""
    largest = []
    multiply = torch.Tensor.__matmul__

    def watched(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        product = multiply(one, other)
        largest.append(product.numel())
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    one, other = three(items(300), items(200, 1))
    nearest(one, other, 16, 32)
    smallest_of_all_pairs(one, other, 5, 16, 32)
    assert max(largest) == 16 * 32


def numpys_block(ours: torch.Tensor, train: torch.Tensor) -> np.ndarray[Any, Any]:
    one, other = (x.flatten(1)[:, :16].double().numpy() for x in (ours, train))
    return 1 - np.corrcoef(np.concatenate([one, other]))[: len(one), len(one) :]


@pytest.mark.parametrize("patients", [19, 20, 99, 119])
def test_conformal_tau_is_the_rank_that_makes_the_rate_exact(patients: int) -> None:
    """k = ceil(alpha (n + 1)): the false rejection of innocents is then Beta(k, n + 1 - k)."""
    train, holdout = items(60), items(patients, 1)
    judge = features_are_the_items(5.0)
    judge.calibrate(references(train), references(holdout), torch.Generator())
    k = int(np.ceil(0.05 * (patients + 1)))
    assert judge.judge(items(1)).tau == pytest.approx(np.sort(numpys(holdout, train))[k - 1], abs=1e-6)


def test_the_published_direction_and_all_pairs_are_what_they_say() -> None:
    train, holdout = items(90), items(40, 1)
    taus = {}
    for calibration in ("published", "all-pairs"):
        judge = features_are_the_items(5.0, calibration=calibration, max_rejection=100.0)
        judge.calibrate(references(train), references(holdout), torch.Generator())
        taus[calibration] = judge.judge(items(1)).tau
    assert taus["published"] == pytest.approx(np.quantile(numpys(train, holdout), 0.05), abs=1e-6)
    pairs = np.sort(numpys_block(holdout, train).ravel())
    assert taus["all-pairs"] == pytest.approx(pairs[int(np.ceil(0.05 * pairs.size)) - 1], abs=1e-6)


def clips_of(patients: int, unlike: float, frames: int = 9, seed: int = 5) -> References:
    """Whole clips of patients; `unlike` is how much a frame differs from the patient's others."""
    still = items(patients, seed)[:, None]
    noise = items(patients * frames, seed + 1).view(patients, frames, *SHAPE)
    groups = [f"p{i}" for i in range(patients) for _ in range(frames)]
    return References(items=(still + unlike * noise).flatten(0, 1), groups=groups)


def test_tau_is_what_copies_are_nearer_than_where_that_is_more_than_innocents_need() -> None:
    """Held-out patients are enrolled as training clips are, and another frame of theirs is the copy."""
    train, whole = items(60), clips_of(99, 0.2)
    judge = features_are_the_items(5.0, copy_percentile=95.0, apart=2)
    judge.calibrate(references(train), References(items=whole.items[::9], groups=whole.groups[::9]), torch.Generator())
    of_innocents = judge.judge(items(1)).tau
    judge.calibrate_copies(whole, torch.Generator().manual_seed(3))
    assert judge.judge(items(1)).tau == of_innocents  # copies are nearer still: they need no more

    strict = features_are_the_items(5.0, copy_percentile=95.0, apart=2, max_rejection=100.0)
    strict.calibrate(references(train), References(items=whole.items[::9], groups=whole.groups[::9]), torch.Generator())
    unlike = clips_of(99, 0.8)
    strict.calibrate_copies(unlike, torch.Generator().manual_seed(3))
    tau = strict.judge(items(1)).tau
    assert tau > of_innocents
    chosen = copies(unlike.groups, 1, 2, torch.Generator().manual_seed(3))
    distances = np.sort([numpys(unlike.items[[copy]], unlike.items[enrolled])[0] for enrolled, copy in chosen])
    assert tau == pytest.approx(distances[94], abs=1e-6)  # ceil(0.95 * 100) = 95th


def test_a_copy_is_another_frame_far_enough_from_every_reference() -> None:
    groups = ("a",) * 20 + ("b",) * 3 + ("c",) * 20
    chosen = copies(groups, 2, 5, torch.Generator().manual_seed(0))
    assert [enrolled for enrolled, _ in chosen] == [[0, 19], [23, 42]]  # b's clip is too short
    drawn = {copies(groups, 2, 5, torch.Generator().manual_seed(seed))[0][1] for seed in range(200)}
    assert drawn == set(range(5, 15))
    crowded = copies(groups, 4, 6, torch.Generator().manual_seed(0))  # of 4 or 3 references no frame is 6 away
    assert [enrolled for enrolled, _ in crowded] == [[0, 19], [23, 42]]


def test_a_network_that_cannot_tell_copies_from_strangers_closes_the_gate() -> None:
    train, whole = items(60), clips_of(99, 30.0)
    judge = features_are_the_items(5.0, apart=2)
    judge.calibrate(references(train), References(items=whole.items[::9], groups=whole.groups[::9]), torch.Generator())
    with pytest.raises(echosdk.PrivacyError, match=r"would reject \d+ % of held-out patients, more than max_rejection = 50 %"):
        judge.calibrate_copies(whole, torch.Generator())


def test_too_few_copies_to_bound_are_refused_and_none_are_asked_for_at_zero() -> None:
    whole = clips_of(18, 0.1)  # 0.95 * 19 > 18
    judge = features_are_the_items(5.0, apart=2)
    judge.calibrate(references(items(60)), References(items=whole.items[::9], groups=whole.groups[::9]), torch.Generator())
    with pytest.raises(echosdk.PrivacyError, match="18 held-out patients with frames 2 apart are too few"):
        judge.calibrate_copies(whole, torch.Generator())
    judge = features_are_the_items(5.0, copy_percentile=0.0)
    judge.calibrate(references(items(60)), References(items=whole.items[::9], groups=whole.groups[::9]), torch.Generator())
    judge.calibrate_copies(whole, torch.Generator())


def test_too_few_patients_are_refused_however_many_frames_they_have() -> None:
    judge = features_are_the_items(min_patients=10)
    nine = References(items=items(90), groups=[str(i % 9) for i in range(90)])
    with pytest.raises(echosdk.PrivacyError) as error:
        judge.calibrate(references(items(50)), nine, torch.Generator())
    assert str(error.value).startswith("pearson-reid: 9 held-out patients are fewer than min_patients = 10")
    assert PearsonReID().min_patients == 200


@pytest.mark.parametrize("change", ["references", "scaling", "network", "tau"])
def test_tau_is_refused_with_anything_but_what_it_was_calibrated_with(change: str) -> None:
    judge = with_network()
    judge.calibrate(references(items(12)), references(items(6, 1)), torch.Generator())
    assert len(judge.judge(items(3)).keep) == 3
    if change == "references":
        assert judge._train is not None
        judge._train[0, 0] += 1e-9
    elif change == "scaling":
        judge._high += 1
    elif change == "tau":
        judge._tau /= 2
    else:
        with torch.no_grad():
            judge._network.model.bn1.running_mean += 1e-3
    with pytest.raises(echosdk.PrivacyError, match="are not those that tau was calibrated with"):
        judge.judge(items(3))


def test_mirrored_references_find_a_mirrored_copy() -> None:
    mirrored = items(50).flip(-1)
    for option, kept in ((False, True), (True, False)):
        judge = with_network()
        judge.mirrored = option
        judge.calibrate(references(items(50)), references(items(80, 1)), torch.Generator())
        assert bool(judge.judge(mirrored).keep.any()) is kept
    assert judge.judge(mirrored).distance.abs().max() < 1e-9


def test_mirror_images_that_the_bundle_keeps_take_the_place_of_mirrored_latents() -> None:
    """An encoder may give a mirrored image another latent than the mirrored one."""
    kept = References(items=items(50), groups=[str(i) for i in range(50)], mirrored=items(50, 7))
    judge = with_network()
    judge.mirrored = True
    judge.calibrate(kept, references(items(80, 1)), torch.Generator())
    assert not judge.judge(items(50, 7)).keep.any()
    assert judge.judge(items(50).flip(-1)).keep.any()


@pytest.mark.parametrize("tau", [0.0, -1e-9, 2.1, float("nan"), float("inf")])
def test_a_tau_outside_its_range_is_refused(tau: float) -> None:
    judge = with_network()
    judge.calibrate(references(items(12)), references(items(6, 1)), torch.Generator())
    with pytest.raises(echosdk.PrivacyError, match="and a distance is between 0 and 2"):
        judge._settle(tau)


def test_scaled_by_its_own_extremes_an_item_is_the_same_whatever_its_gain() -> None:
    """For weights that were learnt on videos scaled each by itself; on references and held-out items alike."""
    changed = 3 * items(20) + 7
    for option, copied in (("training", False), ("item", True)):
        judge = with_network()
        judge.normalisation = option
        judge.calibrate(references(items(20)), references(items(80, 1)), torch.Generator())
        distance = judge.judge(changed).distance
        assert bool((distance < 1e-6).all()) is copied
        alone = torch.cat([judge.judge(item[None]).distance for item in changed])
        torch.testing.assert_close(distance, alone, atol=1e-6, rtol=0)
    assert torch.isfinite(judge._scaled(torch.zeros(2, *SHAPE))).all()
    judge.normalisation = "training"
    with pytest.raises(echosdk.PrivacyError, match="are not those that tau was calibrated with"):
        judge.judge(items(3))

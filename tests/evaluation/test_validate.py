"""`validate` trains on real and on generated data alike, tests on the same patients, and gives a verdict."""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from attrs import define, evolve, field

import echosdk
from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.evaluation import downstream
from echosdk.evaluation.downstream import KIND, Arm
from echosdk.evaluation.rows import make_row
from echosdk.evaluation.validate import Wanted, _more_rows, validate
from echosdk.generation.generate import Options, generate
from echosdk.report.usefulness import usefulness_sentence, verdict_section

LABEL = "simulated_EF"
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves closing to Python


@define
class Reader:
    """Knows the true label, and errs by 2 and a little that its seed decides; by more where it has seen synthetic."""

    off_synthetic: float = 0.0
    useless: bool = False
    min_frames: ClassVar[int] = 1
    fps: ClassVar[float] = 16.0
    seen: ClassVar[list[dict[str, Any]]] = []
    _error: float = field(init=False, default=0.0)

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        ids = {split: [clip.id for clip in getattr(data, split)] for split in ("train", "val")}
        self.seen.append({"seed": run.seed, **ids, "labels": [clip.labels[LABEL] for clip in data.train]})
        synthetic = np.mean([each.startswith("synthetic") for each in ids["train"]])
        self._error = 2.0 + run.seed % 7 / 100 + self.off_synthetic * float(synthetic)
        return {}

    def save(self, public: Path, private: Path) -> None:
        (public / "error.json").write_text(json.dumps(self._error))

    def load(self, public: Path, private: Path | None) -> None:
        self._error = json.loads((public / "error.json").read_text())

    def predict(self, clip: echosdk.StoredClip) -> echosdk.Conditions:
        return {name: (45.0 if self.useless else float(value)) + self._error for name, value in clip.labels.items()}

    def score(self, test: Any) -> Mapping[str, float]:
        return {}


@pytest.fixture(scope="module")
def readers(registry: Registry) -> Registry:
    @echosdk.hookimpl
    def echosdk_downstream_validators() -> Any:
        yield echosdk.Component(name="reader", build=Reader, summary="A test's.")

    module = ModuleType("readers")
    module.echosdk_downstream_validators = echosdk_downstream_validators  # type: ignore[attr-defined]
    return Registry((*registry.offers, *Registry.of(module).offers))


def by_reader(off: float = 0.0, useless: bool = False, **more: Any) -> Wanted:
    use, set_ = (f"{KIND}=reader",), (f"{KIND}.off_synthetic={off}", f"{KIND}.useless={str(useless).lower()}")
    return Wanted(use=use, set_=set_, reconstruct=False, resamples=500, **more)


@pytest.fixture(scope="module")
def validated(made: Path, real: Any, trained_tiny: Bundle, registry: Registry, tmp_path_factory: Any) -> Any:
    """With the tiny regressor, and every row; and the folder that it worked in."""
    work = tmp_path_factory.mktemp("validate") / "work"
    wanted = Wanted(
        bundle=str(trained_tiny.folder), seeds=2, relabel=True, empirical=True, label_noise=5.0, augment=True, resamples=500
    )
    return validate([str(made)], real, "phantom", work, wanted, registry=registry), work, wanted


def test_the_rows_are_those_of_table_four_and_what_was_asked_for(validated):
    found, _, _ = validated
    assert [(row.trained_on, row.tested_on) for row in found.rows] == [
        ("real", "real"),
        ("nothing", "real"),
        ("reconstructed", "real"),
        ("synthetic", "real"),
        ("synthetic", "synthetic"),
        ("synthetic relabelled", "real"),
        ("synthetic, labels distributed as in real", "real"),
        ("real, labels with noise of 5", "real"),
        ("real and synthetic", "real"),
        ("10 % of real", "real"),
        ("10 % of real and synthetic", "real"),
    ]
    for row in found.rows:
        for figure in (row.r2, row.mae, row.rmse, row.bias):
            assert figure.low <= figure.value <= figure.high
            assert figure.n == (4 if row.tested_on == "synthetic" else 15)
        assert len(row.mae_by_seed) == row.seeds == 2
        assert row.mae.value == pytest.approx(np.mean(row.mae_by_seed))
    maes = {row.trained_on: row.mae.value for row in found.rows if row.tested_on == "real"}
    for row in found.rows:
        if row.tested_on == "synthetic" or row.trained_on == "real":
            assert row.minus is None
            continue
        other = "10 % of real" if row.trained_on == "10 % of real and synthetic" else "real"
        assert row.minus.against == other
        assert row.minus.value == pytest.approx(row.mae.value - maes[other])
        assert row.minus.low < row.minus.value < row.minus.high
    assert found.rows[3].minus.value == pytest.approx(found.comparison.difference)


def test_every_row_has_its_plots_and_the_validators_cut_offs(validated):
    found, _, _ = validated
    for row, agreement in zip(found.rows, found.agreements, strict=True):
        assert (row.trained_on, row.tested_on) == (agreement.trained_on, agreement.tested_on)
        assert agreement.bias.value == pytest.approx(row.bias.value)
        assert sum(count for *_, count in agreement.cells) == row.seeds * row.mae.n
        if row.tested_on == "real":
            assert [roc.cutoff for roc in agreement.roc] == ([] if row.trained_on == "nothing" else [35, 40, 50])


def test_cut_offs_may_be_asked_for_and_a_validator_without_any_has_no_curve(made, real, readers, tmp_path):
    none = validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers)
    assert all(not each.roc for each in none.agreements)
    some = validate([str(made)], real, "phantom", tmp_path, by_reader(cutoffs=(45.0,)), registry=readers)
    assert [[roc.cutoff for roc in each.roc] for each in some.agreements[:3]] == [[45], [], [45]]
    assert some.agreements[0].roc[0].area.value == 1  # it errs by the same for all


def test_labels_with_noise_and_labels_as_in_the_real_data_are_what_is_trained_on(made, real, readers, tmp_path):
    Reader.seen.clear()
    validate([str(made)], real, "phantom", tmp_path, by_reader(seeds=2, empirical=True, label_noise=5.0), registry=readers)
    on_real, on_made, empirical, noisy = (Reader.seen[i] for i in range(0, 8, 2))
    error = np.array(noisy["labels"]) - on_real["labels"]
    assert noisy["train"] == on_real["train"]
    assert 3 < error.std() < 7
    assert abs(error.mean()) < 2
    assert set(empirical["train"]) <= set(on_made["train"])
    assert len(empirical["labels"]) == len(on_made["labels"])
    wanted = np.quantile(on_real["labels"], (np.arange(10) + 0.5) / 10)
    own = np.array(on_made["labels"])
    nearest = [own[np.abs(own - value).argmin()] for value in wanted]
    assert sorted(empirical["labels"]) == pytest.approx(sorted(nearest))


def test_figures_are_the_validators_own(validated, real, registry, trained_tiny):
    """What the rows say of one training is what its `score` says of the same clips."""
    found, work, _ = validated
    (kept,) = (work / "models").glob("real-0-*")
    component = trained_tiny.plugin_set.build(registry, KIND)
    component.load(kept / "public", None)
    from echosdk.clips.store import open_store

    scored = component.score(open_store(work / "pixels" / "real-test"))
    assert scored["n"] == 15
    assert found.rows[0].mae_by_seed[0] == pytest.approx(scored["mae"])


def test_a_rerun_trains_and_predicts_nothing_and_says_the_same(validated, made, real, registry, monkeypatch):
    found, work, wanted = validated
    for method in ("fit", "predict"):
        monkeypatch.setattr(f"echosdk_ef.regressor.EFRegressor.{method}", lambda *_: pytest.fail("was done before"))
    assert validate([str(made)], real, "phantom", work, wanted, registry=registry).plain() == found.plain()


def test_real_videos_and_models_are_for_their_owner_alone_and_none_is_with_the_dataset(validated, made):
    found, work, _ = validated
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    assert {path.name for path in work.iterdir()} == {"pixels", "models", "stages", "predictions"}
    assert not list((work / "stages").iterdir())  # no checkpoint is left of what is done
    assert {path.suffix for path in made.iterdir()} <= {".tar", ".json", ".csv", ".md", ".html"}
    text = json.dumps(found.plain(), allow_nan=False)
    assert "phantom-" not in text
    assert str(made.parent) not in text


@pytest.mark.parametrize(("off", "verdict"), [(0.0, "substitute"), (3.0, "worse"), (0.5, "not shown")])
def test_the_verdict_is_what_the_models_are(off, verdict, made, real, readers, tmp_path):
    found = validate([str(made)], real, "phantom", tmp_path, by_reader(off), registry=readers)
    assert found.comparison.verdict == verdict
    assert found.comparison.difference == pytest.approx(off, abs=0.01)
    assert found.comparison.patients == 15
    assert not found.why_blind
    of_models = [row.mae.value for row in found.rows if row.trained_on != "nothing"]
    assert of_models == pytest.approx([2 + (off if i else 0) for i in range(3)], abs=0.1)


def test_nothing_says_the_median_of_the_real_training_labels_of_every_clip(made, real, readers, tmp_path):
    found = validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers)
    train, test = ([clip.labels[LABEL] for clip in real.clips(split)] for split in ("train", "test"))
    row = next(row for row in found.rows if row.trained_on == "nothing")
    value = round(np.median(train) / 0.7) * 0.7  # a hundredth of the range: it may be a patient's
    assert abs(value - np.median(train)) < 0.36
    assert row.note == f"{value:.4g} % for every clip, the median of real training labels, rounded"
    assert row.mae.value == pytest.approx(np.abs(value - np.array(test)).mean())
    assert row.minus.value == pytest.approx(row.mae.value - 2, abs=0.1)


def test_where_real_videos_taught_nothing_noise_is_no_substitute(made, real, readers, tmp_path):
    """Alike, and of no use: equally wrong models are under any margin."""
    found = validate([str(made)], real, "phantom", tmp_path, by_reader(useless=True), registry=readers)
    assert found.comparison.high < found.comparison.margin
    assert (found.comparison.verdict, found.comparison.blind) == ("not shown", True)
    assert found.why_blind.endswith("Such a trial cannot tell good videos from noise: train longer or on more, or test on more patients.")
    assert found.why_blind in re.sub("<[^>]*>", "", usefulness_sentence(found.plain()))
    assert "power" not in str(verdict_section(found.plain()))  # more patients of such a trial are not what it lacks


def test_every_arm_has_the_same_seeds_and_selects_on_its_own_kind(made, real, readers, tmp_path):
    Reader.seen.clear()
    validate([str(made)], real, "phantom", tmp_path, by_reader(seeds=3, relabel=True), registry=readers)
    arms = [Reader.seen[i : i + 3] for i in range(0, 9, 3)]
    assert [[each["seed"] for each in arm] for arm in arms] == [[each["seed"] for each in arms[0]]] * 3
    assert len({each["seed"] for each in arms[0]}) == 3
    for arm, mark, sizes in zip(
        arms, ("phantom-", "synthetic-", "synthetic-"), ((90, 15), (10, 4), (10, 4)), strict=True
    ):
        for each in arm:
            assert (len(each["train"]), len(each["val"])) == sizes
            assert all(name.startswith(mark) for name in (*each["train"], *each["val"]))
    for relabelled, asked in zip(arms[2], arms[1], strict=True):  # the reader that was trained on real reads 2 too much
        assert np.array(relabelled["labels"]) - asked["labels"] == pytest.approx(2 + asked["seed"] % 7 / 100)


def test_an_interrupted_comparison_goes_on_with_what_is_left(made, real, readers, tmp_path, monkeypatch):
    Reader.seen.clear()
    fit = Reader.fit

    def stops(self: Reader, data: Any, run: Any) -> Any:
        if len(Reader.seen) == 2:
            raise KeyboardInterrupt
        return fit(self, data, run)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Reader, "fit", stops)
        validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers)
    validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers)
    assert len(Reader.seen) == 6  # three seeds of two arms, each once


def test_other_real_data_with_the_same_names_is_read_again(made, real, readers, tmp_path):
    first = validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers)

    class Other:
        labels = real.labels

        def clips(self, split: Any) -> Any:
            for clip in real.clips(split):
                yield evolve(clip, labels={LABEL: clip.labels[LABEL] / 2})

        def fingerprint(self) -> str:
            return "other"

    second = validate([str(made)], Other(), "phantom", tmp_path, by_reader(), registry=readers)
    assert second.rows[0].mae.value == pytest.approx(first.rows[0].mae.value)  # the true labels are the new ones
    assert second.rows[2].mae.value == pytest.approx(first.rows[2].mae.value)


@pytest.fixture(scope="module")
def again(made: Path, trained_tiny: Bundle, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second dataset of the same plan but for its seed."""
    return other_dataset(tmp_path_factory.mktemp("again") / "again", trained_tiny, registry, seed=1)


def other_dataset(out: Path, bundle: Bundle, registry: Registry, **changed: Any) -> Path:
    plan: dict[str, Any] = {"splits": {"train": 10, "val": 4, "test": 4}, "num_frames": 12} | changed
    generate(str(out), options=Options(plugin_set="default-tiny", bundle=str(bundle.folder), **plan), registry=registry)
    return out


def test_several_datasets_enter_the_interval(made, again, real, readers, tmp_path):
    Reader.seen.clear()
    wanted = by_reader(empirical=True, augment=True)
    found = validate([str(made), str(again)], real, "phantom", tmp_path / "w", wanted, registry=readers)
    assert found.comparison.datasets == 2
    assert found.comparison.variance.df_synthetic == 1
    assert found.comparison.variance.datasets is not None
    assert [row.trained_on for row in found.rows] == [
        "real", "nothing", "synthetic 1", "synthetic 1", "synthetic 2", "synthetic 2",
        "synthetic 1, labels distributed as in real", "real and synthetic 1", "10 % of real", "10 % of real and synthetic 1",
    ]  # fmt: skip
    seeds = [{each["seed"] for each in Reader.seen[first : first + 3]} for first in range(0, 12, 3)]
    assert seeds[0] == seeds[1] == seeds[3]  # those of real, of the first dataset, and of a row besides
    assert len(seeds[2]) == 3
    assert not seeds[2] & seeds[0]  # of the second


def test_a_dataset_without_a_test_split_is_compared_without_that_row(real, readers, trained_tiny, registry, tmp_path):
    out = other_dataset(tmp_path / "untested", trained_tiny, registry, splits={"train": 3, "val": 2})
    found = validate([str(out)], real, "phantom", tmp_path / "w", by_reader(), registry=readers)
    assert [row.trained_on for row in found.rows] == ["real", "nothing", "synthetic"]
    assert [each.why for each in found.not_computed] == ["the dataset has no test split"]


def test_datasets_that_are_no_draws_of_one_plan_are_refused(made, again, real, readers, trained_tiny, registry, tmp_path):
    work = tmp_path / "work"
    unlike = other_dataset(tmp_path / "unlike", trained_tiny, registry, seed=2, splits={"train": 3, "val": 2})
    copied = tmp_path / "copied"
    shutil.copytree(made, copied)
    for others, says in (
        ([made, made], f"{made} and {made}: hold the same shards;"),
        ([made, again, copied], f"{copied} and {made}: hold the same shards;"),
        ([made, unlike], f"{unlike} and {made}: differ in counts; several datasets may differ in the seed alone:"),
    ):
        with pytest.raises(echosdk.InputError) as error:
            validate([str(each) for each in others], real, "phantom", work, by_reader(), registry=readers)
        assert str(error.value).startswith(says)
        assert "\n" not in str(error.value)
    assert not work.exists()


def test_the_margins_source_is_said_and_of_another_margin_that_it_has_none(made, real, readers, tmp_path):
    found = validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers)
    assert "He et al. 2023" in found.plain()["margin_from"]
    assert "0.96 points, 95 % interval 0.54 to 1.34" in found.plain()["margin_from"]
    other = validate([str(made)], real, "phantom", tmp_path, by_reader(margin=1.5), registry=readers)
    assert other.margin_from.startswith("The margin of 1.5 was chosen for this comparison,")
    for each in (found, other):
        assert each.margin_from in re.sub("<[^>]*>", "", str(verdict_section(each.plain())))


class TwoLabels:
    """The real clips with a second numeric label, by which nothing generated is conditioned, before the first."""

    def __init__(self, real: Any) -> None:
        self.labels = (evolve(real.labels[0], name="length"), *real.labels)
        self._real = real

    def clips(self, split: Any) -> Any:
        for clip in self._real.clips(split):
            yield evolve(clip, labels={"length": clip.labels[LABEL] / 2, **clip.labels})

    def fingerprint(self) -> str:
        return "two labels"


def test_the_validator_is_told_the_label_and_one_that_cannot_be_is_refused(
    made, real, readers, registry, tmp_path, monkeypatch
):
    source, work = TwoLabels(real), tmp_path / "work"
    for wanted, says in (
        (by_reader(label=LABEL), "reader has no parameter `label` that would say which of length, simulated_EF it reads"),
        (Wanted(label=LABEL, set_=(f"{KIND}.label=length",)), "ef-regressor is set to read length; add --set"),
    ):
        with pytest.raises(echosdk.InputError, match=re.escape(says)):
            validate([str(made)], source, "phantom", work, wanted, registry=readers)
        assert not work.exists()
    told = []

    def fit(self: Any, data: Any, run: Any) -> Any:
        told.append(self.label)
        raise KeyboardInterrupt

    monkeypatch.setattr("echosdk_ef.regressor.EFRegressor.fit", fit)
    with pytest.raises(KeyboardInterrupt):
        validate([str(made)], source, "phantom", work, Wanted(label=LABEL), registry=registry)
    assert told == [LABEL]


def test_the_label_is_in_the_names_of_what_is_trained_on_changed_labels(made, real, readers, tmp_path, monkeypatch):
    """Else noise on one label would be taken for noise on another."""
    arms: list[Arm] = []
    predict = downstream.Bench.predict

    def listed(self: Any, arm: Arm, *of: Any) -> Any:
        arms.append(arm)
        return predict(self, arm, *of)

    monkeypatch.setattr(downstream.Bench, "predict", listed)
    prints = []
    for unlike in ("", " of another"):
        monkeypatch.setattr("echosdk.evaluation.validate._more_rows", partial(more_rows_of, unlike))
        validate([str(made)], real, "phantom", tmp_path, by_reader(empirical=True, label_noise=5.0), registry=readers)
        prints.append({arm.name: arm.fingerprint for arm in arms})
        arms.clear()
    for name in prints[0]:
        assert (prints[0][name] == prints[1][name]) == (name in ("real", "synthetic")), name


def more_rows_of(unlike: str, study: Any, on_real: Any, real_read: Any, on_made: Any, real: Any) -> Any:
    """The rows besides, of a label with another name and the same values."""

    def renamed(clips: Any) -> Any:
        return [evolve(clip, labels={**clip.labels, LABEL + unlike: clip.labels[LABEL]}) for clip in clips]

    study = evolve(
        study,
        label=evolve(study.label, name=LABEL + unlike),
        test=evolve(study.test, clips=renamed(study.test.clips)),
    )
    on_made = evolve(on_made, train=renamed(on_made.train), val=renamed(on_made.val))
    return _more_rows(study, on_real, real_read, on_made, {split: renamed(clips) for split, clips in real.items()})


def test_a_row_of_repeated_videos_says_how_many_there_are(made, real, readers, tmp_path):
    Reader.seen.clear()
    found = validate([str(made)], real, "phantom", tmp_path, by_reader(empirical=True), registry=readers)
    row = next(row for row in found.rows if row.trained_on == "synthetic, labels distributed as in real")
    used = Reader.seen[-1]
    train, val = (len(set(used[split])) for split in ("train", "val"))
    assert train < 10  # some are there more than once
    assert row.note == f"{train} distinct videos fill the 10 places of train; {val} distinct videos fill the 4 places of val"
    assert f"{row.trained_on}: {row.note}." in re.sub("<[^>]*>", "", str(verdict_section(found.plain())))
    assert [each["note"] for each in found.plain()["rows"] if each["trained_on"] in ("real", "synthetic")] == [""] * 3


def test_an_interrupted_exam_goes_on_and_says_how_far_it_is(made, real, readers, tmp_path, monkeypatch):
    read: list[str] = []
    lines: list[str] = []
    predict = Reader.predict

    def stops(self: Reader, clip: Any) -> Any:
        read.append(clip.id)
        if len(read) == 8:
            raise KeyboardInterrupt
        return predict(self, clip)

    monkeypatch.setattr(Reader, "predict", stops)
    monkeypatch.setattr("echosdk.evaluation.downstream.PREDICTED_AT_ONCE", 5)
    with pytest.raises(KeyboardInterrupt):
        validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers, report=lines.append)
    assert "real, seed 0, tested on real: 5 of 15 clips" in lines
    (partial,) = (tmp_path / "predictions").iterdir()
    assert partial.suffix == ".partial"
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    first = read[:5]
    read.extend(read)  # past the eighth, so that it does not stop again
    found = validate([str(made)], real, "phantom", tmp_path, by_reader(), registry=readers)
    rest = read[16:26]
    assert len({*first, *rest}) == 15  # what is left of the first exam, and nothing again
    assert {path.suffix for path in (tmp_path / "predictions").iterdir()} == {".json"}
    assert found.rows[0].mae.value == pytest.approx(2, abs=0.1)


@define
class Selecting(Reader):
    """Offers a few constants, each a training video's label, and keeps the one that errs least on validation videos."""

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        offered = np.array([clip.labels[LABEL] for clip in data.train], float)
        wanted = np.array([clip.labels[LABEL] for clip in data.val], float)
        self._error = float(offered[np.abs(offered[:, None] - wanted).mean(1).argmin()])
        return {}

    def predict(self, clip: echosdk.StoredClip) -> echosdk.Conditions:
        return {LABEL: self._error}


def test_what_stays_of_a_synthetic_training_is_selected_on_synthetic_validation_videos(
    made, real, readers, tmp_path, monkeypatch
):
    """Other validation videos in the synthetic arm: another model stays; and that of the real arm is as it was."""
    for method in ("fit", "predict"):
        monkeypatch.setattr(Reader, method, getattr(Selecting, method))
    stores = downstream.generated_stores
    kept = []
    for only in (min, max):

        def fewer(*of: Any, only: Any = only) -> Any:
            found = stores(*of)
            return {**found, "val": [only(found["val"], key=lambda clip: clip.labels[LABEL])]}

        monkeypatch.setattr("echosdk.evaluation.validate.generated_stores", fewer)
        work = tmp_path / only.__name__
        kept.append(validate([str(made)], real, "phantom", work, by_reader(), registry=readers))
    low, high = kept
    assert low.rows[0] == high.rows[0]
    assert (low.rows[2].trained_on, low.rows[2].tested_on) == ("synthetic", "real")
    assert low.rows[2].bias.value < high.rows[2].bias.value - 5


def test_r2_mae_and_rmse_are_as_defined_and_patients_are_resampled_whole():
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 70, 40)
    read = true + rng.normal(1, 5, (2, 40))
    row = make_row("a", "b", read, true, np.arange(40), resamples=2000)
    error = read - true
    assert row.mae.value == pytest.approx(np.abs(error).mean())
    assert row.rmse.value == pytest.approx(np.sqrt((error**2).mean(1)).mean())
    assert row.r2.value == pytest.approx(np.mean([1 - (e**2).sum() / ((true - true.mean()) ** 2).sum() for e in error]))
    assert row.bias.value == pytest.approx(error.mean())
    twice = make_row("a", "b", read.repeat(3, 1), true.repeat(3), np.arange(40).repeat(3), resamples=2000)
    assert twice.mae.low == pytest.approx(row.mae.low)  # three copies of a patient tell no more than one
    assert twice.mae.n == 40
    rows = rng.integers(40, size=(4000, 40))
    plain = np.quantile(np.abs(error).mean(0)[rows].mean(1), (0.025, 0.975))
    assert (row.mae.low, row.mae.high) == pytest.approx(tuple(plain), rel=0.02)


REFUSED = {
    "no validation videos": (
        {"splits": {"train": 3}},
        {},
        "has no val videos; the synthetic arm trains on one and selects on the other: generate it with --splits "
        "train=N,val=N,test=N",
    ),
    "one seed": ({}, {"seeds": 1}, "--seeds: at least 2: with one, nobody knows how much trainings differ by chance"),
    "no margin": ({}, {"margin": 0.0}, "--margin 0.0: must be above 0, in the label's unit"),
    "no such label": (
        {},
        {"label": "age"},
        "--label age: is no numeric label that the real and the generated videos have in common; these are: simulated_EF",
    ),
    "noise under none": ({}, {"label_noise": -1.0}, "--label-noise -1.0: must be at least 0, in the label's unit"),
    "no fraction": ({}, {"fractions": (1.5,)}, "--fraction 1.5: must be above 0 and under 1"),
    "a cut-off out of range": (
        {},
        {"cutoffs": (95.0,)},
        "--cutoff 95: lies outside the range of simulated_EF, 10 to 80",
    ),
    "an unknown parameter": ({}, {"set_": (f"{KIND}.nothing=1",)}, "nothing"),
}


@pytest.mark.parametrize(("plan", "wanted", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compared_is_refused_before_any_work(
    plan, wanted, says, made, real, readers, registry, trained_tiny, tmp_path
):
    out = made
    if plan:
        out = tmp_path / "other"
        options = Options(plugin_set="default-tiny", bundle=str(trained_tiny.folder), num_frames=12, **plan)
        generate(str(out), options=options, registry=registry)
    with pytest.raises(echosdk.EchoError) as error:
        validate([str(out)], real, "phantom", tmp_path / "work", Wanted(**wanted), registry=readers)
    assert says in str(error.value)
    assert not (tmp_path / "work").exists()


def test_a_working_folder_inside_the_dataset_is_refused(made, real, readers):
    with pytest.raises(echosdk.InputError) as error:
        validate([str(made)], real, "phantom", made / "work", by_reader(), registry=readers)
    assert "lies inside the dataset" in str(error.value)
    assert not (made / "work").exists()


def test_the_command_ends_with_the_verdict(made, run_echosdk, tmp_path, monkeypatch):
    """The arms are tiny trainings on two patients: the verdict is chance's, unless the margin leaves it no choice."""
    source = "phantom?patients=16&frames=12&fps=16&size=32"
    words = ("validate", str(made), "--data", source, "--seeds", "2", "--work", str(tmp_path / "w"), "--device", "cpu")
    generous = run_echosdk(*words, "--margin", "1000")
    assert (generous.status, generous.out.partition("\n")[0]) == (1, "verdict: not shown"), generous.err
    assert "Even the model trained on real data is not shown to do better than one value for every clip by" in generous.out
    told_so = echosdk.evaluation.validate
    monkeypatch.setattr(told_so, "judge", lambda found, effect: evolve(found, verdict="substitute"))
    ended = run_echosdk(*words)
    assert (ended.status, ended.out.partition("\n")[0]) == (0, "verdict: substitute"), ended.err
    monkeypatch.setattr(told_so, "judge", lambda found, effect: evolve(found, verdict="not shown"))
    told = run_echosdk(*words)
    assert (told.status, told.out.partition("\n")[0]) == (1, "verdict: not shown"), told.err
    assert "margin 0.5 %" in told.out
    assert "power at this size, were there no difference:" in told.out
    assert "not computed: trained on reconstructed real videos: the bundle that the dataset was made from" in told.out
    again = json.loads(run_echosdk(*words, "--json").out)
    assert again["comparison"]["verdict"] in told.out
    assert again["comparison"]["patients"] == 2

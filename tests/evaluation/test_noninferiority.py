"""The verdict is right as often as it says: on simulated trials in which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from echosdk.evaluation.noninferiority import Variance, compare, judge, needed, patients_needed, power

MARGIN = 0.5


def trial(
    rng: np.random.Generator,
    difference: float,
    *,
    patients: int = 60,
    seeds: int = 4,
    datasets: int = 1,
    patient: float = 1.0,
    seed: float = 0.1,
    dataset: float = 0.0,
    clips: int = 1,
    crossed: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Absolute errors of models: a patient's own, shared by all; one for patient and arm; one for each training.

    As they are run, each dataset has seeds of its own; `crossed` gives all datasets the same. What a seed does to a training on
    real videos and to one on synthetic ones has nothing in common here, which is the hardest case.
    """
    shared = rng.normal(0, 2, patients)
    arm = rng.normal(0, patient / np.sqrt(2), (2, patients))
    of_seed = rng.normal(0, seed, (1 if crossed else datasets, seeds, 1))
    own = 4 + shared + arm[0] + rng.normal(0, seed, (seeds, 1)) + rng.normal(0, 0.3, (seeds, patients))
    theirs = (
        4 + difference + shared + arm[1]
        + rng.normal(0, dataset, (datasets, 1, 1)) + of_seed
        + rng.normal(0, 0.3, (datasets, seeds, patients))
    )  # fmt: skip
    whose = np.repeat(np.arange(patients), clips)
    return own[:, whose], theirs[..., whose], whose


def rate(verdict: str, difference: float, trials: int = 400, **of: float) -> float:
    rng = np.random.default_rng(0)
    found = [compare(*trial(rng, difference, **of), MARGIN, resamples=200, seed=i).verdict for i in range(trials)]
    return float(np.mean([each == verdict for each in found]))


SETTINGS = {
    "patients weigh most": {},
    "seeds weigh most": {"patient": 0.3, "seed": 0.25, "patients": 100},
    "two clips of a patient": {"clips": 2},
}


@pytest.mark.parametrize("of", SETTINGS.values(), ids=SETTINGS)
def test_at_the_margin_a_substitute_is_declared_as_rarely_as_it_says(of):
    assert rate("substitute", MARGIN, **of) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)


def test_equally_useless_models_are_as_rarely_a_substitute():
    """Both say one value for every clip, but for a little noise: without `judge` nearly every trial would be fooled."""
    rng, found = np.random.default_rng(0), []
    for i in range(400):
        nothing = np.abs(rng.uniform(-30, 30, 60))
        real, synthetic = (nothing + rng.normal(0, 0.5, (3, 60)) + rng.normal(0, 0.05, (3, 1)) for _ in range(2))
        alike = compare(real, synthetic[None], np.arange(60), MARGIN, resamples=200, seed=i)
        effect = compare(real, np.stack([nothing, nothing])[None], np.arange(60), MARGIN, resamples=200, seed=i)
        found.append((alike.verdict, judge(alike, effect.low)))
    assert np.mean([before == "substitute" for before, _ in found]) > 0.9
    assert np.mean([after.verdict == "substitute" for _, after in found]) <= 0.025
    assert all(after.blind for _, after in found)


FEW_DATASETS = {
    "as the design is run": {"datasets": 4, "dataset": 0.2, "patient": 0.5},
    "two datasets weigh most": {"datasets": 2, "dataset": 0.3, "patient": 0.1, "seed": 0.05},
}


@pytest.mark.parametrize("of", FEW_DATASETS.values(), ids=FEW_DATASETS)
def test_with_several_datasets_and_three_seeds_the_level_holds(of):
    """With Satterthwaite's degrees of freedom it is 5 % where two datasets weigh most."""
    assert rate("substitute", MARGIN, trials=1000, seeds=3, **of) <= 0.03


def test_seeds_that_datasets_share_would_be_taken_for_certainty():
    """The variance that is found falls short of the true one, unless each dataset is trained from its own seeds."""
    of = {"datasets": 4, "seeds": 3, "dataset": 0.05, "patient": 0.1, "seed": 0.25}
    rng = np.random.default_rng(5)
    for crossed, low, high in ((True, 0.3, 0.75), (False, 0.8, 1.25)):
        found = [compare(*trial(rng, 0.0, crossed=crossed, **of), MARGIN, resamples=100, seed=i) for i in range(200)]
        true = np.var([each.difference for each in found], ddof=1)
        assert low < np.mean([each.variance.total for each in found]) / true < high


def test_at_the_margin_worse_is_declared_as_rarely():
    assert rate("worse", MARGIN) <= 0.05


def test_leaving_the_seeds_out_would_declare_it_too_often():
    """The settings can tell: with the patients' variance alone the test would not hold its level."""
    rng, wrong = np.random.default_rng(0), 0
    for i in range(200):
        found = compare(*trial(rng, MARGIN, **SETTINGS["seeds weigh most"]), MARGIN, resamples=200, seed=i)
        wrong += found.difference + 1.96 * np.sqrt(found.variance.patients) < MARGIN
    assert wrong / 200 > 0.1


def test_a_harmless_difference_is_shown_as_often_as_the_power_says_and_a_harmful_one_is_seen():
    rng = np.random.default_rng(1)
    found = [compare(*trial(rng, 0.0), MARGIN, resamples=200, seed=i) for i in range(200)]
    shown = np.mean([each.verdict == "substitute" for each in found])
    assert shown == pytest.approx(np.mean([each.power for each in found]), abs=0.08)
    assert 0.6 < shown < 1
    assert rate("substitute", 0.0, trials=100, patients=300, seed=0.02) == 1
    assert rate("worse", 1.5, trials=100) > 0.95


def test_the_interval_covers_the_difference_as_often_as_it_says():
    rng = np.random.default_rng(2)
    found = [compare(*trial(rng, 0.3), MARGIN, resamples=200, seed=i) for i in range(400)]
    assert 0.93 <= np.mean([each.low <= 0.3 <= each.high for each in found]) <= 1.0


def test_two_one_sided_tests_show_equivalence_only_within_the_margin_on_both_sides():
    rng = np.random.default_rng(3)
    same = compare(*trial(rng, 0.0, patients=400, seed=0.01), MARGIN)
    better = compare(*trial(rng, -1.0, patients=400, seed=0.01), MARGIN)
    assert same.equivalent
    assert same.p_equivalent < 0.025
    assert better.verdict == "substitute"
    assert not better.equivalent
    assert better.p_noninferior < 1e-6 < better.p_equivalent


def test_both_p_values_are_those_of_scipys_paired_tests():
    rng = np.random.default_rng(6)
    errors = rng.normal(4, 1, (2, 60)) + np.array([[0.0], [0.1]])
    found = compare(np.repeat(errors[:1], 2, 0), np.repeat(errors[None, 1:], 2, 1), np.arange(60), MARGIN)
    under, over = (
        stats.ttest_1samp(errors[1] - errors[0], at, alternative=side).pvalue
        for at, side in ((MARGIN, "less"), (-MARGIN, "greater"))
    )
    assert found.p_noninferior == pytest.approx(under, rel=0.1)  # the bootstrap's variance is not exact
    assert found.p_equivalent == pytest.approx(max(under, over), rel=0.1)


@pytest.mark.parametrize("df", [3, 20])
def test_the_power_is_the_share_of_simulated_trials_that_show_it(df):
    """Of a normal difference whose variance was estimated with so many degrees of freedom."""
    of_patients = Variance(patients=0.04, real=0.0, synthetic=0.0, df_patients=df, df_real=1, df_synthetic=1)
    rng = np.random.default_rng(7)
    difference, error = rng.normal(0.1, 0.2, 40_000), 0.2 * np.sqrt(rng.chisquare(df, 40_000) / df)
    shown = (difference + stats.t.ppf(0.975, df) * error < MARGIN).mean()
    assert power(of_patients, MARGIN, 0.1) == pytest.approx(shown, abs=0.01)


def test_patients_alone_give_the_paired_t_test():
    """Where every training is the same, the verdict is a paired test's."""
    rng = np.random.default_rng(4)
    errors = rng.normal(4, 1, (2, 80))
    found = compare(np.repeat(errors[:1], 3, 0), np.repeat(errors[None, 1:], 3, 1), np.arange(80), MARGIN)
    theirs = stats.ttest_rel(errors[1], errors[0]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.02)
    assert found.df == pytest.approx(79)


def test_degrees_of_freedom_are_welchs_where_only_the_seeds_differ():
    a, b = np.array([1.0, 2, 3, 4.5]), np.array([2.0, 2.2, 2.1, 2.6])
    found = compare(np.repeat(a[:, None], 20, 1), np.repeat(b[None, :, None], 20, 2), np.arange(20), MARGIN)
    welch = stats.ttest_ind(b, a, equal_var=False)
    assert found.df == pytest.approx(welch.df)
    assert (found.low, found.high) == pytest.approx(tuple(welch.confidence_interval(0.95)))


def test_more_patients_or_seeds_are_asked_for_until_they_would_do():
    variance = Variance(patients=0.04, real=0.002, synthetic=0.002, df_patients=49, df_real=4, df_synthetic=4)
    enough = patients_needed(variance, MARGIN, 50)
    assert enough is not None
    assert power(variance, MARGIN, patients=enough / 50) >= 0.8 > power(variance, MARGIN, patients=(enough - 1) / 50)
    noisy = Variance(patients=0.04, real=0.2, synthetic=0.2, df_patients=49, df_real=2, df_synthetic=2)
    assert patients_needed(noisy, MARGIN, 50) is None
    assert patients_needed(noisy, MARGIN, 50, seeds=20) is not None


def test_more_seeds_of_the_same_datasets_do_not_buy_datasets():
    found = compare(*trial(np.random.default_rng(8), 0.0, datasets=4, dataset=2.0, patient=0.3), MARGIN)
    seeds, of_datasets = found.variance.synthetic, found.variance.datasets
    assert of_datasets is not None
    assert 0.8 < of_datasets / seeds < 1
    lasting = Variance(patients=0, real=0, synthetic=of_datasets, df_patients=59, df_real=3, df_synthetic=3, datasets=of_datasets)
    assert power(found.variance, MARGIN, patients=1e6, seeds=1e6) == pytest.approx(power(lasting, MARGIN), abs=0.01)
    sizes = needed(found)
    given = [size for size in sizes if size.datasets == 4]
    assert [size.seeds for size in given] == [4, 5, 10, 20, 50]
    assert not any(size.patients for size in given)
    more = [size for size in sizes if size.datasets > 4]
    assert [size.datasets for size in more] == [5, 10, 20, 50]
    assert more[-1].patients
    assert {size.datasets for size in needed(compare(*trial(np.random.default_rng(8), 0.0), MARGIN))} == {1}


def test_datasets_that_differ_no_more_than_seeds_do_are_limited_by_seeds_alone():
    seeds = Variance(patients=0.001, real=0.02, synthetic=0.02, df_patients=59, df_real=2, df_synthetic=3, datasets=0.0)
    assert power(seeds, MARGIN, seeds=100) > 0.99 > power(seeds, MARGIN)
    assert power(seeds, MARGIN, datasets=100) < 0.99


def test_one_seed_tells_nothing_of_training():
    with pytest.raises(ValueError, match="at least two seeds of each training"):
        compare(np.ones((1, 5)), np.ones((1, 1, 5)), np.arange(5), MARGIN)

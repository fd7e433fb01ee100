"""Distances of sets agree with closed forms, with other people's code and with a plain reading of their definitions."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from echosdk.evaluation.distances import (
    SET_MEASURES,
    coverage,
    density,
    diversity,
    frechet_distance,
    kernel_distance,
    measure_sets,
    precision,
    recall,
    with_interval,
)
from echosdk.evaluation.intervals import mean_interval
from echosdk.evaluation.pretrained import inception_score, measure_score, score_of_parts


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


def exactly(n: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    """Items whose sample mean and covariance are exactly those."""
    drawn = normal(n, len(mean), seed)
    drawn -= drawn.mean(0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_is_the_closed_form_of_commuting_covariances():
    """For diagonal covariances it is |m1 - m2|^2 + sum (s1 - s2)^2."""
    m1, m2, s1, s2 = np.array([0, 1, 2.0]), np.array([1, 1, 0.0]), np.array([1, 2, 3.0]), np.array([2, 0.5, 3])
    a, b = exactly(40, m1, np.diag(s1**2), 0), exactly(60, m2, np.diag(s2**2), 1)
    assert frechet_distance(a, b) == pytest.approx(((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum())


@pytest.mark.parametrize(("n", "m"), [(200, 150), (20, 30)], ids=["more items than features", "fewer"])
def test_the_frechet_distance_is_that_of_torchmetrics(n, m):
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = normal(n, 40, 0), normal(m, 40, 1, 1.5, 0.3) @ normal(40, 40, 2)
    as_they_are = torch.nn.Identity()
    as_they_are.num_features = 40
    theirs = FrechetInceptionDistance(feature=as_they_are)
    theirs.update(torch.from_numpy(a), real=True)
    theirs.update(torch.from_numpy(b), real=False)
    assert frechet_distance(a, b) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_the_kernel_distance_is_that_of_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = normal(50, 10, 0), normal(50, 10, 1, 1.3, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory
        theirs = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=50)
    theirs.update(torch.from_numpy(a), real=True)
    theirs.update(torch.from_numpy(b), real=False)
    assert kernel_distance(a, b) == pytest.approx(float(theirs.compute()[0]), rel=1e-9)


def test_neighbourhoods_are_as_their_papers_define_them():
    real, made = normal(30, 3, 0), normal(25, 3, 1, 1.2, 0.5)

    def radius(items: np.ndarray, i: int, k: int) -> float:
        return sorted(float(np.linalg.norm(items[i] - other)) for j, other in enumerate(items) if j != i)[k - 1]

    def within(x: np.ndarray, items: np.ndarray, k: int) -> int:
        return sum(np.linalg.norm(x - items[i]) <= radius(items, i, k) for i in range(len(items)))

    assert precision(real, made) == pytest.approx(np.mean([within(x, real, 3) > 0 for x in made]))
    assert recall(real, made) == pytest.approx(np.mean([within(x, made, 3) > 0 for x in real]))
    assert density(real, made) == pytest.approx(np.mean([within(x, real, 5) / 5 for x in made]))
    nearest = [min(np.linalg.norm(x - y) for y in made) for x in real]
    assert coverage(real, made) == pytest.approx(np.mean([d <= radius(real, i, 5) for i, d in enumerate(nearest)]))


def test_neighbourhoods_are_those_of_their_authors_package():
    """What prdc 0.2 (Naeem et al.) gives for these sets: three neighbours for the first two, five for the others.

    In an environment of its own, after `pip install prdc==0.2` and with the two sets below:

        for k in (3, 5):
            print(prdc.compute_prdc(real_features=real, fake_features=made, nearest_k=k))
    """
    real, made = normal(80, 5, 0), normal(60, 5, 1, 1.2, 0.5)
    found = [measure(real, made) for measure in (precision, recall, density, coverage)]
    assert found == pytest.approx([47 / 60, 0.775, 0.82, 0.7875])


def test_a_set_that_shows_one_thing_has_no_recall_and_no_diversity():
    real = normal(60, 4, 0)
    collapsed = np.repeat(real[:1], 30, 0) + normal(30, 4, 1, 1e-3)
    assert precision(real, collapsed) == 1
    assert recall(real, collapsed) < 0.1
    assert coverage(real, collapsed) < 0.3
    assert diversity(real, collapsed) < 0.01
    assert diversity(real, normal(60, 4, 2)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("measure", SET_MEASURES, ids=lambda measure: measure.name)
def test_the_interval_covers_what_is_expected_at_that_size(measure):
    """Of 150 pairs of sets, 0.89 to 0.99 for the seven measures; wanted is 0.95."""
    drawn = [(normal(60, 3, 2 * i), normal(60, 3, 2 * i + 1, 1.2, 0.4)) for i in range(150)]
    found = [with_interval(measure, *sets, seed=i, resamples=40) for i, sets in enumerate(drawn)]
    expected = np.mean([value for value, _low, _high in found])
    assert np.mean([low <= expected <= high for _value, low, high in found]) >= 0.88
    reach = np.mean([high - low for _value, low, high in found]) / 2
    assert reach <= 1.4 * 1.96 * np.std([value for value, _low, _high in found])  # nor does it say less than it knows


def test_the_interval_of_an_inception_score_covers_what_is_expected_at_that_size():
    drawn = [torch.from_numpy(normal(60, 6, i, 2.0)).softmax(1).numpy() for i in range(100)]
    found = [measure_score(classes, classes, title="t", against="train", seed=i)[0] for i, classes in enumerate(drawn)]
    expected = np.mean([each.value for each in found])
    assert np.mean([each.low <= expected <= each.high for each in found]) >= 0.88


def test_what_was_made_of_some_real_items_is_compared_with_the_others():
    real = normal(60, 4, 0)
    measure = partial(measure_sets, real, real[:30], features="f", against="held-out")
    apart = {each.name: each for each in measure(sources=30)}
    assert apart["Fréchet distance (f)"].value == pytest.approx(frechet_distance(real[30:], real[:30]))
    assert apart["precision (f)"].value == precision(real[30:], real[:30]) < 1
    flattered = {each.name: each for each in measure()}
    assert flattered["Fréchet distance (f)"].value < apart["Fréchet distance (f)"].value
    assert flattered["Fréchet distance (f)"].floor == apart["Fréchet distance (f)"].floor
    with pytest.raises(ValueError, match="30 items want at least 60 real ones"):
        measure(sources=31)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(1, 2, 80), seed=i, resamples=400) for i in range(300)]
    assert 0.91 <= np.mean([low <= 1 <= high for low, high in intervals]) <= 0.98


def test_a_set_of_the_real_distribution_lies_at_the_floor_and_another_above_it():
    real = normal(200, 5, 0)
    measure = partial(measure_sets, real, features="numbers", against="held-out")
    same = {each.name: each for each in measure(normal(60, 5, 1))}
    other = {each.name: each for each in measure(normal(60, 5, 2, 1.5, 0.5))}
    assert all(each.n == 60 and each.floor is not None and each.floor.n == 60 for each in same.values())
    assert all(each.low <= each.value <= each.high for each in (*same.values(), *other.values()))
    name = "Fréchet distance (numbers)"
    assert same[name].floor.low <= same[name].value <= 2 * same[name].floor.high
    assert other[name].low > other[name].floor.high
    assert other["kernel distance (numbers)"].low > 0 > same["kernel distance (numbers)"].low


def test_no_measure_of_sets_bears_the_name_of_inception():
    assert not any(word in each.name for each in SET_MEASURES for word in ("FID", "Inception", "KID"))


def test_too_few_real_items_for_a_floor_are_refused():
    with pytest.raises(ValueError, match="20 items want at least 40 real ones, not 30, and 14 at least"):
        measure_sets(normal(30, 3, 0), normal(20, 3, 1), features="", against="")


def test_the_inception_score_is_exp_of_the_mean_divergence():
    """Of k classes, each as often and each certain, it is k; where all images are alike, 1; and as torchmetrics has it."""
    from torchmetrics.image.inception import InceptionScore

    assert inception_score(np.eye(5)[np.arange(20) % 5]) == pytest.approx(5)
    assert inception_score(np.full((7, 4), 0.25)) == pytest.approx(1)
    logits = torch.from_numpy(normal(40, 6, 0, 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory, and of a spread over one part
        theirs = InceptionScore(feature=torch.nn.Identity(), splits=1)
        theirs.update(logits)
        score = float(theirs.compute()[0])
    assert inception_score(logits.softmax(1).numpy()) == pytest.approx(score)


def test_the_inception_score_by_tenths_is_the_mean_of_ten_disjoint_parts():
    logits = normal(103, 6, 0, 2.0)
    classes = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.random.default_rng(3).permutation(103)
    parts = [classes[order[start:end]] for start, end in zip([0, 11, 22, 33, *range(43, 103, 10)], [11, 22, 33, *range(43, 104, 10)], strict=True)]
    plain = [np.exp(np.mean([stats.entropy(row, part.mean(0)) for row in part])) for part in parts]
    assert score_of_parts(classes, 3) == pytest.approx(plain)
    whole, tenths = measure_score(classes, classes, title="t", against="train", seed=3)
    assert (whole.name, tenths.name) == ("IS (t)", "IS, mean of 10 parts (t)")
    assert tenths.value == pytest.approx(np.mean(plain))
    assert (tenths.low, tenths.high) == pytest.approx(stats.t.interval(0.95, 9, np.mean(plain), stats.sem(plain)))
    assert f"{np.std(plain, ddof=1):.3g}" in tenths.interval
    assert tenths.floor is not None
    assert tenths.floor.value == pytest.approx(tenths.value, rel=0.1)
    assert len(measure_score(classes[:19], classes[:19], title="t", against="train")) == 1  # two images a part at least


def test_the_interval_of_a_mean_is_that_of_scipys_bootstrap():
    values = np.random.default_rng(0).exponential(2, 40)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    assert mean_interval(values) == pytest.approx(tuple(theirs), rel=0.02)

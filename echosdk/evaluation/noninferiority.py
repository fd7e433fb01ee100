"""Is a model trained on synthetic data worse than one trained on real data, and by how much?

Both are tested on the same patients, so patients are resampled together; each training from another seed, and each
generated dataset, is one draw of many that could have been. All three enter the interval of the difference

    d = MAE(synthetic) - MAE(real),    Var(d) = V_patients + V_real + V_synthetic.

V_patients is the variance of d under a bootstrap of patients, jointly over all models. V_real is the variance of a
model's MAE over seeds, divided by their number. V_synthetic is the same, or, where there are several datasets, the
variance of their means divided by their number. That holds the seeds' too, if no two datasets are trained from the same
seeds: what a seed does to all of them alike would cancel. The interval is Student's. What models and patients have
together is counted in more than one term, which makes it a little wider.

The degrees of freedom are Satterthwaite's (1946) for one dataset. Where a part with few of them weighs most, that is
too many whenever this part is underestimated, and few datasets are such a part. So with several the quantile is the
mean of the parts' own, each weighted with its variance (Cochran 1964), which errs to the other side. In simulated
trials at the margin with 3 seeds and 60 patients, 2,000 of each kind, *substitute* (nominally 2.5 %) was declared in
2.3 to 2.6 % with one dataset, and in 0.9 to 2.4 % with 2 or 4. With one dataset whose 3 trainings vary by far more than
all else does it is 4 % in theory: then take more seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from attrs import evolve, field, frozen
from attrs.validators import gt
from numpy.typing import NDArray
from scipy import special

from echosdk.evaluation.intervals import CHUNK, RESAMPLES

Array = NDArray[Any]
Verdict = Literal["substitute", "worse", "not shown"]

LEVEL = 0.025
"""Of each of the two one-sided tests."""
POWER = 0.8
MOST_PATIENTS = 1_000_000
SEEDS_TO_TRY = (3, 5, 10, 20, 50)
DATASETS_TO_TRY = (3, 5, 10, 20, 50)


@frozen(kw_only=True)
class Variance:
    """What the difference's variance is made of, and with how many degrees of freedom each part was found.

    `datasets` is of `synthetic` what more seeds would not lessen; None where one dataset was given: nobody knows.
    """

    patients: float
    real: float
    synthetic: float
    df_patients: float
    df_real: float
    df_synthetic: float
    datasets: float | None = None

    @property
    def total(self) -> float:
        return self.patients + self.real + self.synthetic

    @property
    def df(self) -> float:
        """Student's degrees of freedom for the total: Satterthwaite's, or with several datasets Cochran's."""
        parts = (
            (self.patients, self.df_patients),
            (self.real, self.df_real),
            (self.synthetic, self.df_synthetic),
        )
        if not self.total:
            return self.df_patients
        if self.datasets is None:
            return self.total**2 / sum(part**2 / df for part, df in parts)
        quantile = sum(part * _quantile(df) for part, df in parts) / self.total
        return float(special.stdtridf(1 - LEVEL, quantile))


@frozen(kw_only=True)
class Needed:
    """How many test patients would show non-inferiority with so many seeds of so many datasets, in 80 % of trials.

    None where no number of patients would.
    """

    seeds: int
    patients: int | None
    datasets: int = 1


@frozen(kw_only=True)
class Comparison:
    """The verdict, and what it rests on. `low` and `high` are the two-sided 95 % interval of the difference.

    `p_noninferior` is of the test that the difference is the margin or more; `p_equivalent` is the larger of the two
    one-sided tests' (TOST). `power` is the chance to show non-inferiority in a trial of this size, were there no
    difference at all. `blind` says that the model trained on real data is not shown to know anything (see `judge`).
    """

    verdict: Verdict
    margin: float = field(validator=gt(0))
    difference: float
    low: float
    high: float
    df: float
    standard_error: float
    p_noninferior: float
    p_equivalent: float
    equivalent: bool
    patients: int
    seeds: int
    datasets: int
    variance: Variance
    power: float
    blind: bool = False


BLIND = (
    "Even the model trained on real data is not shown to do better than one value for every clip by more than the "
    "margin. Such a trial cannot tell good videos from noise: train longer or on more, or test on more patients."
)


def judge(found: Comparison, effect: float) -> Comparison:
    """Take *substitute* back where the model trained on real data is not shown to know anything.

    `effect` is by how much more at least (2.5 % limit) one value for every clip errs than that model. If it is not over
    the margin, videos of noise would be as good: the trial could not have told (assay sensitivity; ICH E10, 1.5).
    """
    blind = not effect > found.margin
    verdict: Verdict = "not shown" if blind and found.verdict == "substitute" else found.verdict
    return evolve(found, blind=blind, verdict=verdict)


def compare(
    real: Array, synthetic: Array, patients: Array, margin: float, *, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare absolute errors on the same n clips: `real` `s n` of s seeds, `synthetic` `g s n` of g datasets.

    `patients` `n` says whose clip each is. No two datasets may be trained from the same seeds. Raises `ValueError` for
    fewer than two seeds of either, without which the variance of a training is unknown, and for fewer than two
    patients.
    """
    groups, place = np.unique(patients, return_inverse=True)
    if len(real) < 2 or synthetic.shape[1] < 2 or len(groups) < 2:
        raise ValueError("a comparison wants at least two seeds of each training, and two test patients")
    datasets, seeds, _ = synthetic.shape
    sums, counts = per_patient(synthetic.mean((0, 1)) - real.mean(0), place), np.bincount(place)
    difference = float(sums.sum() / counts.sum())
    resampled = np.concatenate([w @ sums / (w @ counts) for w in patient_weights(len(groups), resamples, seed)])
    own = real.mean(1)
    theirs = synthetic.mean(2)
    several = datasets > 1
    units = theirs.mean(1) if several else theirs[0]
    of_units = float(units.var(ddof=1)) / len(units)
    of_seeds = float(theirs.var(1, ddof=1).mean()) / (seeds * datasets)
    variance = Variance(
        patients=float(resampled.var(ddof=1)) * len(groups) / (len(groups) - 1),
        real=float(own.var(ddof=1)) / len(own),
        synthetic=of_units,
        df_patients=len(groups) - 1,
        df_real=len(own) - 1,
        df_synthetic=len(units) - 1,
        datasets=max(0.0, of_units - of_seeds) if several else None,
    )
    error, df = float(np.sqrt(variance.total)), variance.df
    reach = _quantile(df) * error
    p_noninferior = _p(difference - margin, error, df)
    p_equivalent = max(p_noninferior, _p(-difference - margin, error, df))
    low, high = difference - reach, difference + reach
    return Comparison(
        verdict="substitute" if high < margin else "worse" if low > margin else "not shown",
        margin=margin,
        difference=difference,
        low=low,
        high=high,
        df=df,
        standard_error=error,
        p_noninferior=p_noninferior,
        p_equivalent=p_equivalent,
        equivalent=p_equivalent < LEVEL,
        patients=len(groups),
        seeds=seeds,
        datasets=datasets,
        variance=variance,
        power=power(variance, margin),
    )


def power(
    variance: Variance,
    margin: float,
    difference: float = 0.0,
    *,
    patients: float = 1.0,
    seeds: float = 1.0,
    datasets: float = 1.0,
) -> float:
    """Return the chance to show non-inferiority if the difference is so, in a trial so many times as large.

    `patients`, `seeds` and `datasets` are factors on the numbers with which the variance was found. By the non-central
    distribution of Student's t.
    """
    larger = _scaled(variance, patients, seeds, datasets)
    if not larger.total:
        return 1.0 if difference < margin else 0.0
    return float(special.nctdtr(larger.df, (difference - margin) / np.sqrt(larger.total), -_quantile(larger.df)))


def needed(found: Comparison) -> tuple[Needed, ...]:
    """Return the sizes of trial that would have 80 % power, were there no difference at all.

    With more seeds; and, where several datasets were given, with more datasets, and the fewest seeds that will do.
    """
    seeds = (found.seeds, *(tried for tried in SEEDS_TO_TRY if tried > found.seeds))
    sizes = [_needed(found, each, found.datasets) for each in seeds]
    if found.datasets > 1:
        for datasets in (tried for tried in DATASETS_TO_TRY if tried > found.datasets):
            tried = [_needed(found, each, datasets) for each in seeds]
            sizes.append(next((each for each in tried if each.patients), tried[-1]))
    return tuple(sizes)


def _needed(found: Comparison, seeds: int, datasets: int) -> Needed:
    factors = {"seeds": seeds / found.seeds, "datasets": datasets / found.datasets}
    patients = patients_needed(found.variance, found.margin, found.patients, **factors)
    return Needed(seeds=seeds, datasets=datasets, patients=patients)


def patients_needed(
    variance: Variance, margin: float, patients: int, seeds: float = 1.0, datasets: float = 1.0
) -> int | None:
    """Return the fewest test patients with 80 % power at no difference; `seeds` and `datasets` are factors."""

    def enough(tried: int) -> bool:
        return power(variance, margin, patients=tried / patients, seeds=seeds, datasets=datasets) >= POWER

    low, high = 2, MOST_PATIENTS
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return high


def per_patient(values: Array, place: Array) -> Array:
    """Sum values `... n` of clips to patients `... p`; `place` is each clip's patient."""
    sums = np.zeros((*values.shape[:-1], int(place.max()) + 1))
    for clip, patient in enumerate(place):
        sums[..., patient] += values[..., clip]
    return sums


def patient_weights(patients: int, resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each patient is drawn in each resample, `b p`, some at a time."""
    rng = np.random.default_rng(seed)
    for first in range(0, resamples, CHUNK):
        yield rng.multinomial(patients, np.full(patients, 1 / patients), size=min(CHUNK, resamples - first))


def _scaled(variance: Variance, patients: float, seeds: float, datasets: float) -> Variance:
    def freedom(df: float, factor: float) -> float:
        return max(1.0, (df + 1) * factor - 1)

    several = variance.datasets is not None
    lasting = variance.datasets or 0.0
    return Variance(
        patients=variance.patients / patients,
        real=variance.real / seeds,
        synthetic=(lasting + (variance.synthetic - lasting) / seeds) / datasets,
        df_patients=freedom(variance.df_patients, patients),
        df_real=freedom(variance.df_real, seeds),
        df_synthetic=freedom(variance.df_synthetic, datasets if several else seeds),
        datasets=lasting / datasets if several else None,
    )


def _quantile(df: float) -> float:
    return float(special.stdtrit(df, 1 - LEVEL))


def _p(above: float, error: float, df: float) -> float:
    """Return the chance of so small an estimate, were the truth at the margin."""
    if not error:
        return float(above >= 0)
    return float(special.stdtr(df, above / error))

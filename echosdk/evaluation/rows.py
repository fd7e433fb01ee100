"""A row of the paper's table 4: R2, MAE and RMSE of several trainings on one test split."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from echosdk.evaluation.intervals import RESAMPLES, middle
from echosdk.evaluation.measurement import Measured
from echosdk.evaluation.noninferiority import patient_weights, per_patient

PATIENTS = "bootstrap of patients, jointly over seeds"
RESIDUE = 1e-9
"""What rounding may leave of a spread that is none, as a share of what it is the difference of."""


@frozen(kw_only=True)
class Row:
    """One row of table 4: the mean over seeds of R2, MAE and RMSE, and each training's MAE.

    The intervals are of patients alone; how much trainings differ is `mae_by_seed`. `minus` is the MAE minus that of
    `minus.against`, on the same clips, and its interval holds the trainings' variance too; it is no verdict. `note`
    says what its name does not of what was trained on.
    """

    trained_on: str
    tested_on: str
    seeds: int
    r2: Measured
    mae: Measured
    rmse: Measured
    bias: Measured
    mae_by_seed: tuple[float, ...]
    minus: Measured | None = None
    note: str = ""


def make_row(
    trained_on: str,
    tested_on: str,
    read: NDArray[Any],
    true: NDArray[Any],
    patients: NDArray[Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Row:
    """Return R2, MAE, RMSE and bias of readings `s n` of n clips, meaned over seeds, with patients resampled."""
    groups, place = np.unique(patients, return_inverse=True)
    error = read - true
    sums = {
        "count": per_patient(np.ones_like(true), place),
        "label": per_patient(true - true.mean(), place),
        "label2": per_patient((true - true.mean()) ** 2, place),
        "error": per_patient(error, place),
        "absolute": per_patient(np.abs(error), place),
        "squared": per_patient(error**2, place),
    }

    def figures(weights: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return each figure for each row of patients' weights `b p`."""
        total = {name: weights @ values.T for name, values in sums.items()}  # b or b s
        count, spread = total["count"], total["label2"] - total["label"] ** 2 / total["count"]
        spread = np.where(spread > RESIDUE * total["label2"], spread, np.nan)  # a resample of one label has no R2
        return {
            "R2": 1 - total["squared"].mean(1) / spread,
            "MAE": total["absolute"].mean(1) / count,
            "RMSE": np.sqrt(total["squared"] / count[:, None]).mean(1),
            "bias": total["error"].mean(1) / count,
        }

    point = figures(np.ones((1, len(groups))))
    drawn = [figures(weights) for weights in patient_weights(len(groups), resamples, seed)]
    directions: dict[str, Any] = {"R2": "higher", "MAE": "lower", "RMSE": "lower", "bias": "zero"}
    found: dict[str, Any] = {}
    for name, direction in directions.items():
        low = high = np.array(np.nan)  # of one patient nobody knows
        if len(groups) > 1:
            low, high = middle(np.concatenate([part[name] for part in drawn]))
        found[name.lower()] = Measured(
            name=name,
            direction=direction,
            n=len(groups),
            value=float(point[name][0]),
            low=float(low),
            high=float(high),
            interval=PATIENTS,
            against=tested_on,
        )
    by_seed = tuple(float(value) for value in np.abs(error).mean(1))
    return Row(trained_on=trained_on, tested_on=tested_on, seeds=len(read), mae_by_seed=by_seed, **found)

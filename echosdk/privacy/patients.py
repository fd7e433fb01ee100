"""How many patients a filter's references are of, and when they are too few for any filter to judge by."""

from __future__ import annotations

from echosdk.errors import PrivacyError
from echosdk.interfaces import References

LEAST_PATIENTS = 2


def refuse_too_few_patients(train: References, holdout: References, where: str) -> None:
    """Raise `PrivacyError` unless training and held-out references are each of two patients at least.

    What is made from one patient shows that one, however far from the references it lies; and how near two patients
    come is not to be learnt from one that is held out. A filter may ask for more.
    """
    seen, unseen = len(set(train.groups)), len(set(holdout.groups))
    if min(seen, unseen) < LEAST_PATIENTS:
        raise PrivacyError(
            f"bundle {where}: too few patients: its references are of {seen} in training and {unseen} held out, and no "
            f"filter can judge by fewer than {LEAST_PATIENTS} of each; what is made from one patient shows that one. "
            "Train on more patients"
        )

"""What a data source holds, as far as that is known without reading a frame."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

from echosdk.interfaces import SPLITS, DataSource, Label


def summarise(source: DataSource) -> dict[str, Any]:
    """Return labels, counts, frame rates and the labels' values, as plain values."""
    splits: dict[str, Any] = {}
    values: dict[str, list[Any]] = {label.name: [] for label in source.labels}
    patients: dict[str, set[str]] = {}
    for split in SPLITS:
        clips = list(source.clips(split))
        rates = [clip.fps for clip in clips]
        splits[split] = {
            "clips": len(clips),
            "patients": len({clip.group for clip in clips}),
            "fps": [min(rates), max(rates)] if rates else None,
        }
        for clip in clips:
            patients.setdefault(clip.group, set()).add(split)
            for name, seen in values.items():
                seen.append(clip.labels.get(name))
    return {
        "labels": [attrs.asdict(label) for label in source.labels],
        "splits": splits,
        "seen": {label.name: _seen(values[label.name], isinstance(label, Label)) for label in source.labels},
        "patients_in_two_splits": sum(len(of) > 1 for of in patients.values()),
        "fingerprint": source.fingerprint(),
    }


def _seen(values: list[Any], numeric: bool) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    missing = {"missing": len(values) - len(there)}
    if not there:
        return missing
    return {"range": [min(there), max(there)], **missing} if numeric else {"counts": dict(Counter(there)), **missing}

"""What may be compared: which datasets, which label, and whether the validator reads it: asked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from echosdk.abilities import CutOffs
from echosdk.errors import DatasetError, InputError
from echosdk.evaluation.downstream import KIND
from echosdk.generation.plan import Plan
from echosdk.interfaces import SPLITS, DataSource, Label
from echosdk.plugin_set import PluginSet
from echosdk.registry import Registry, parameters_of

Manifest = Mapping[str, Any]
MAY_DIFFER = ("seed", "bundle")
"""Of plans. `bundle` is only its name: what is in it is `bundle_digest`."""


def check_datasets(outs: Sequence[str], plans: Sequence[Plan], manifests: Sequence[Manifest]) -> None:
    """Raise where a dataset lacks a split, or where several are not different draws of one plan."""
    for out, plan in zip(outs, plans, strict=True):
        _check_splits(out, plan)
    for number, (out, plan) in enumerate(zip(outs, plans, strict=True)):
        for other, its_plan, its_manifest in zip(outs[:number], plans, manifests, strict=False):
            if set(shards_of(manifests[number])) & set(shards_of(its_manifest)):
                raise InputError(
                    f"{out} and {other}: hold the same shards; several datasets are to show how much they differ: "
                    "give each once"
                )
            different = plan.different(its_plan.public())
            if unlike := [name for name in different if name not in MAY_DIFFER]:
                raise InputError(
                    f"{out} and {other}: differ in {', '.join(unlike)}; several datasets may differ in the seed alone: "
                    "generate them alike, or compare each by itself"
                )
            if "seed" not in different:
                raise InputError(
                    f"{out} and {other}: were made from the same seed ({plan.seed}); generate one with another --seed"
                )


def shards_of(manifest: Manifest) -> list[str]:
    """Return the digests of a dataset's shards."""
    return [entry["sha256"] for entry in manifest["shards"]]


def which_label(source: DataSource, manifest: Manifest, wanted: str | None) -> Label:
    """Return the numeric label that real and generated videos have in common, or the one that is asked for."""
    made = {entry["name"] for entry in manifest["labels"]}
    common = [label for label in source.labels if isinstance(label, Label) and label.name in made]
    found = [label for label in common if wanted in (None, "", label.name)]
    if not found:
        names = ", ".join(label.name for label in common) or "none"
        what = f"--label {wanted}: is" if wanted else "there is"
        raise InputError(
            f"{what} no numeric label that the real and the generated videos have in common; these are: {names}"
        )
    return found[0]


def reading(label: Label, plugin_set: PluginSet, registry: Registry, source: DataSource) -> PluginSet:
    """Return the plugin set whose validator reads a label: its parameter `label` says so.

    One without it cannot be told, and is only good where there is one numeric label. Raises `InputError` otherwise.
    """
    choice = plugin_set.choices[KIND]
    if "label" not in parameters_of(registry.component(KIND, choice.use)):
        several = [each.name for each in source.labels if isinstance(each, Label)]
        if len(several) > 1:
            raise InputError(
                f"--label {label.name}: {choice.use} has no parameter `label` that would say which of "
                f"{', '.join(several)} it reads; choose another validator: --use {KIND}=NAME"
            )
        return plugin_set
    own = choice.parameters.get("label")
    if own and own != label.name:
        raise InputError(
            f"--label {label.name}: {choice.use} is set to read {own}; add --set {KIND}.label={label.name}"
        )
    told = evolve(choice, parameters={**choice.parameters, "label": label.name})
    return evolve(plugin_set, choices={**plugin_set.choices, KIND: told})


def cutoffs_of(validator: object, label: Label, wanted: tuple[float, ...] | None) -> tuple[float, ...]:
    """Return the cut-offs that are asked for, else those of the validator that lie in the label's range."""
    if wanted is None:
        own = validator.cutoffs if isinstance(validator, CutOffs) else ()
        return tuple(float(cutoff) for cutoff in own if label.low < cutoff < label.high)
    if outside := [cutoff for cutoff in wanted if not label.low < cutoff < label.high]:
        raise InputError(
            f"--cutoff {outside[0]:g}: lies outside the range of {label.name}, {label.low:g} to {label.high:g}"
        )
    return wanted


def _check_splits(out: str, plan: Plan) -> None:
    lacking = [split for split in ("train", "val") if not plan.counts.get(split)]
    if lacking:
        example = ",".join(f"{split}=N" for split in SPLITS)
        raise DatasetError(
            f"{out}: has no {' and no '.join(lacking)} videos; the synthetic arm trains on one and selects on the "
            f"other: generate it with --splits {example}"
        )

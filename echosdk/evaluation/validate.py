"""Is the dataset a valid substitute? Train on it and on real data, test both on the same real patients (table 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from echosdk.clips.store import store_fingerprint
from echosdk.errors import BundleError, DataError, InputError
from echosdk.evaluation.agreement import STEPS, Agreement, make_agreement
from echosdk.evaluation.comparable import check_datasets, cutoffs_of, reading, shards_of, which_label
from echosdk.evaluation.downstream import (
    KIND,
    Arm,
    Bench,
    Clips,
    Exam,
    distributed_as,
    generated_stores,
    real_stores,
    reconstructed_stores,
    relabelled,
    share_of_patients,
    with_noise,
)
from echosdk.evaluation.evaluate import bundle_of
from echosdk.evaluation.intervals import RESAMPLES
from echosdk.evaluation.measurement import Measured, NotComputed, finite
from echosdk.evaluation.noninferiority import BLIND, Comparison, Needed, compare, judge, needed
from echosdk.evaluation.rows import Row, make_row
from echosdk.generation.dataset import dataset_around, read_manifest
from echosdk.generation.files import Folder
from echosdk.generation.plan import Plan
from echosdk.generation.reading import check_complete
from echosdk.integrity import private_folder
from echosdk.interfaces import DataSource, Label
from echosdk.plugin_set import PluginSet, resolve
from echosdk.registry import Registry
from echosdk.training.data import check_source

MARGIN = 0.5
"""In the label's unit."""
MARGIN_FROM = (
    f"The margin of {MARGIN} is the default: in a blinded comparison of AI and sonographers (He et al. 2023) the "
    "difference was 0.96 points, 95 % interval 0.54 to 1.34, and the margin is under all of that; "
    "for another task choose it anew."
)
OWN_MARGIN = (
    f"The margin of {{:g}} was chosen for this comparison, in place of the default of {MARGIN} and its source; whoever "
    "chose it has to say why."
)
FRACTIONS = (0.1,)
NOTHING = "nothing"
"""What a row is called whose readings are one value."""


@frozen(kw_only=True)
class Validation:
    """What `echosdk validate` found. Only `comparison` is a verdict; the other rows are there to understand it.

    `agreements` are of `rows`, in their order.
    """

    datasets: tuple[str, ...]
    data: str
    validator: str
    label: str
    unit: str
    low: float
    high: float
    comparison: Comparison
    needed: tuple[Needed, ...]
    rows: tuple[Row, ...]
    agreements: tuple[Agreement, ...]
    not_computed: tuple[NotComputed, ...]

    @property
    def margin_from(self) -> str:
        """Where the margin is from, in a sentence."""
        margin = self.comparison.margin
        return MARGIN_FROM if margin == MARGIN else OWN_MARGIN.format(margin)

    @property
    def why_blind(self) -> str:
        """Why the trial cannot tell good videos from noise, in a sentence; empty where it can."""
        return BLIND if self.comparison.blind else ""

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**finite(attrs.asdict(self)), "margin_from": self.margin_from, "why_blind": self.why_blind}


@frozen(kw_only=True)
class Wanted:
    """How to compare. `bundle` is whose encoder makes the reconstructions; None takes the dataset's own.

    `relabel`, `empirical`, `label_noise` (a standard deviation in the label's unit; at 0 there is no such row) and
    `augment` (with `fractions` of the real patients) add rows. `cutoffs` are values of the label; None takes the
    validator's own.
    """

    bundle: str | None = None
    plugin_set: str | None = None
    use: tuple[str, ...] = ()
    set_: tuple[str, ...] = ()
    label: str | None = None
    seeds: int = 3
    seed: int = 0
    margin: float = MARGIN
    reconstruct: bool = True
    relabel: bool = False
    empirical: bool = False
    label_noise: float = 0.0
    augment: bool = False
    fractions: tuple[float, ...] = FRACTIONS
    cutoffs: tuple[float, ...] | None = None
    device: str = "cpu"
    dtype: str = "float32"
    resamples: int = RESAMPLES


def validate(
    outs: Sequence[str],
    source: DataSource,
    source_name: str,
    work: Path,
    wanted: Wanted,
    *,
    registry: Registry | None = None,
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Validation:
    """Train the downstream validator on real and on generated data, and compare them on the real test split.

    Several datasets may be given whose plans differ in the seed alone: then how much they differ enters the interval,
    and each is trained on from seeds of its own. The rows that are asked for besides use the first. Everything is kept
    in `work`, and a rerun goes on. Raises before any training where something does not fit.
    """
    registry = registry or Registry.discover()
    if wanted.seeds < 2:
        raise InputError("--seeds: at least 2: with one, nobody knows how much trainings differ by chance")
    if not wanted.margin > 0:
        raise InputError(f"--margin {wanted.margin}: must be above 0, in the label's unit")
    if wanted.label_noise < 0:
        raise InputError(f"--label-noise {wanted.label_noise}: must be at least 0, in the label's unit")
    if outside := [share for share in wanted.fractions if not 0 < share < 1]:
        raise InputError(f"--fraction {outside[0]}: must be above 0 and under 1")
    folders = [Folder.at(out) for out in outs]
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        check_complete(folder, manifest)
    plans = [Plan.of_public(manifest["plan"]) for manifest in manifests]
    check_datasets(outs, plans, manifests)
    if inside := dataset_around(work):
        raise InputError(
            f"--work {work}: lies inside the dataset {inside}; real videos go there: choose another place"
        )
    if check_source(source)["test"] < 2:
        raise DataError(f"{source_name}: its test split has fewer than two clips; a verdict needs real test patients")
    asked = PluginSet.from_plain(plans[0].plugin_set, where="plan")
    if wanted.plugin_set is not None:
        asked = PluginSet.find(wanted.plugin_set, registry)
    plugin_set = resolve(registry, asked, use=wanted.use, set_=wanted.set_)
    label = which_label(source, manifests[0], wanted.label or plugin_set.choices[KIND].parameters.get("label"))
    plugin_set = reading(label, plugin_set, registry, source)
    cutoffs = cutoffs_of(plugin_set.build(registry, KIND), label, wanted.cutoffs)
    private_folder(work)

    real = real_stores(source, plans[0].fps, work, report)
    if len({clip.group for clip in real["test"]}) < 2:
        raise DataError(f"{source_name}: its test split is of one patient; a verdict needs more")
    made = [
        generated_stores(folder, manifest, work, number)
        for number, (folder, manifest) in enumerate(zip(folders, manifests, strict=True))
    ]
    for out, stores in zip(outs, made, strict=True):
        if stores["train"].shape != real["train"].shape:
            raise DataError(f"{out}: frames are {stores['train'].shape}, the real ones {real['train'].shape}")
    bench = Bench(
        plugin_set=plugin_set,
        registry=registry,
        labels=source.labels,
        fps=plans[0].fps,
        shape=real["train"].shape,
        work=work,
        seed=wanted.seed,
        device=wanted.device,
        dtype=wanted.dtype,
        progress=progress,
        report=report,
    )
    source_print = source.fingerprint()
    test = Exam(name="real", clips=real["test"], fingerprint=store_fingerprint("r", source_print))
    study = _Study(bench=bench, label=label, wanted=wanted, test=test, cutoffs=cutoffs)
    on_real = Arm(name="real", train=real["train"], val=real["val"], fingerprint=store_fingerprint("r", source_print))
    names = ["synthetic"] if len(made) == 1 else [f"synthetic {number + 1}" for number in range(len(made))]
    on_made = [
        Arm(
            name=name,
            train=stores["train"],
            val=stores["val"],
            fingerprint=store_fingerprint("m", *shards_of(manifest)),
            dataset=number,
        )
        for number, (name, stores, manifest) in enumerate(zip(names, made, manifests, strict=True))
    ]
    missing: list[NotComputed] = []
    real_read = study.read(on_real)
    nothing, about = _one_value(real, label)
    knowing_nothing = attrs.evolve(study, cutoffs=()).row(NOTHING, test, nothing, minus=("real", real_read), note=about)
    rows = [study.row(on_real.name, test, real_read), knowing_nothing]
    if wanted.reconstruct:
        arm = _reconstructed(bench, real, plans[0], wanted, source_print, missing)
        rows += [study.row(arm.name, test, study.read(arm), minus=("real", real_read))] if arm else []
    made_read = [study.read(arm) for arm in on_made]
    for arm, stores, read in zip(on_made, made, made_read, strict=True):
        rows.append(study.row(arm.name, test, read, minus=("real", real_read)))
        if "test" in stores:
            own = Exam(name="synthetic", clips=stores["test"], fingerprint=store_fingerprint("t", arm.fingerprint))
            rows.append(study.row(arm.name, own, study.read(arm, own)))
        else:
            missing.append(NotComputed(name=f"{arm.name}, tested on synthetic", why="the dataset has no test split"))
    rows += _more_rows(study, on_real, real_read, on_made[0], real)
    true = _labels_of(real["test"], label.name)
    comparison = compare(
        np.abs(real_read - true),
        np.abs(np.stack(made_read) - true),
        np.array([clip.group for clip in real["test"]]),
        wanted.margin,
        resamples=wanted.resamples,
        seed=wanted.seed,
    )
    assert knowing_nothing[0].minus is not None
    comparison = judge(comparison, effect=knowing_nothing[0].minus.low)
    return Validation(
        datasets=tuple(out.rstrip("/").rpartition("/")[2] for out in outs),
        data=source_name.partition(":")[0].partition("?")[0],
        validator=plugin_set.choices[KIND].use,
        label=label.name,
        unit=label.unit,
        low=label.low,
        high=label.high,
        comparison=comparison,
        needed=() if comparison.blind else needed(comparison),  # they are of the difference alone
        rows=tuple(row for row, _ in rows),
        agreements=tuple(agreement for _, agreement in rows),
        not_computed=tuple(missing),
    )


@frozen(kw_only=True)
class _Study:
    bench: Bench
    label: Label
    wanted: Wanted
    test: Exam
    cutoffs: tuple[float, ...]

    def read(self, arm: Arm, exam: Exam | None = None) -> NDArray[Any]:
        """Return what each seed's training made of a test, `s n`; of the real test split where none is given."""
        found = []
        for number in range(self.wanted.seeds):
            self.bench.report(
                f"{arm.name}, seed {number} (of {self.wanted.seeds}), tested on {(exam or self.test).name}"
            )
            found.append(self.bench.predict(arm, number, exam or self.test, self.label.name))
        return np.stack(found)

    def row(
        self, name: str, exam: Exam, read: NDArray[Any], minus: tuple[str, NDArray[Any]] | None = None, note: str = ""
    ) -> tuple[Row, Agreement]:
        """Return a row and how its readings agree; `minus` are a row's name and its readings of the same clips."""
        true, groups = _labels_of(exam.clips, self.label.name), np.array([clip.group for clip in exam.clips])
        how: Any = {"resamples": self.wanted.resamples, "seed": self.wanted.seed}
        row = attrs.evolve(make_row(name, exam.name, read, true, groups, **how), note=note)
        if minus:
            row = attrs.evolve(row, minus=_difference(minus, read, true, groups, self.wanted.margin, how))
        return row, make_agreement(name, exam.name, read, true, groups, self.label, self.cutoffs, **how)


def _difference(
    minus: tuple[str, NDArray[Any]],
    read: NDArray[Any],
    true: NDArray[Any],
    groups: NDArray[Any],
    margin: float,
    how: Any,
) -> Measured:
    name, others = minus
    found = compare(np.abs(others - true), np.abs(read - true)[None], groups, margin, **how)
    return Measured(
        name="MAE minus MAE",
        direction="lower",
        n=found.patients,
        value=found.difference,
        low=found.low,
        high=found.high,
        interval="patients and trainings, Satterthwaite",
        against=name,
    )


def _more_rows(
    study: _Study, on_real: Arm, real_read: NDArray[Any], on_made: Arm, real: Mapping[Any, Any]
) -> list[tuple[Row, Agreement]]:
    """Return the rows that are asked for besides. None has a verdict: relabelling distils the real model.

    Those with synthetic videos have them from `on_made`, by whose name they are called.
    """
    rows, wanted, label, against = [], study.wanted, study.label.name, ("real", real_read)

    def arm(name: str, train: Clips, val: Clips, *about: Any) -> Arm:
        made_of = store_fingerprint(name, on_real.fingerprint, on_made.fingerprint, wanted.seed, label, *about)
        return Arm(name=name, train=train, val=val, fingerprint=made_of)

    if wanted.relabel:
        read = []
        for number in range(wanted.seeds):
            again = {}
            for split, clips in (("train", on_made.train), ("val", on_made.val)):
                exam = Exam(name=f"synthetic-{split}", clips=clips, fingerprint=on_made.fingerprint)
                again[split] = relabelled(clips, label, study.bench.predict(on_real, number, exam, label))
            relabelling = arm(f"{on_made.name} relabelled", again["train"], again["val"], number)
            read.append(study.bench.predict(relabelling, number, study.test, label))
        rows.append(study.row(relabelling.name, study.test, np.stack(read), minus=against))
    if wanted.empirical:
        train, val = (
            distributed_as(getattr(on_made, split), real[split], label, wanted.seed) for split in ("train", "val")
        )
        empirical = arm(f"{on_made.name}, labels distributed as in real", train, val)
        note = _distinct(train=train, val=val)
        rows.append(study.row(empirical.name, study.test, study.read(empirical), minus=against, note=note))
    if wanted.label_noise:
        noise = wanted.label_noise
        train, val = (with_noise(real[split], label, noise, wanted.seed) for split in ("train", "val"))
        noisy = arm(f"real, labels with noise of {noise:g}", train, val, noise)
        rows.append(study.row(noisy.name, study.test, study.read(noisy), minus=against))
    if wanted.augment:
        plus = [*on_made.train]
        both = arm(f"real and {on_made.name}", [*real["train"], *plus], real["val"])
        rows.append(study.row(both.name, study.test, study.read(both), minus=against))
        for share in wanted.fractions:
            some, part = share_of_patients(real["train"], share, wanted.seed), f"{100 * share:g} % of real"
            alone = arm(part, some, real["val"])
            alone_read = study.read(alone)
            rows.append(study.row(alone.name, study.test, alone_read, minus=against))
            both = arm(f"{part} and {on_made.name}", [*some, *plus], real["val"])
            rows.append(study.row(both.name, study.test, study.read(both), minus=(part, alone_read)))
    return rows


def _distinct(**clips: Clips) -> str:
    """Say how many videos are behind clips that may be there more than once."""
    return "; ".join(
        f"{len({clip.id for clip in each})} distinct videos fill the {len(each)} places of {split}"
        for split, each in clips.items()
    )


def _reconstructed(
    bench: Bench, real: Mapping[Any, Any], plan: Plan, wanted: Wanted, source: str, missing: list[NotComputed]
) -> Arm | None:
    name = "reconstructed"
    bundle = bundle_of(wanted.bundle, plan, bench.registry)
    if bundle is None:
        why = "the bundle that the dataset was made from is not here"
        missing.append(NotComputed(name=f"trained on {name} real videos", why=why, remedy="--bundle PATH"))
        return None
    stage = bundle.manifest.stages.get("encoder")
    if stage is None:
        raise BundleError(f"bundle {bundle.where}: has no trained encoder, which the reconstructions need")
    encoder = bundle.plugin_set.build(bench.registry, "encoder")
    bundle.load("encoder", encoder, bundle.plugin_set.choices["encoder"].use)
    bench.report("data: passing the real training and validation videos through the encoder and back")
    stores = reconstructed_stores(real, encoder, stage.public, source, bench.fps, bench.work, bench.device)
    about = store_fingerprint(name, source, stage.public)
    return Arm(name=name, train=stores["train"], val=stores["val"], fingerprint=about)


def _one_value(real: Mapping[Any, Clips], label: Label) -> tuple[NDArray[Any], str]:
    """Return what whoever knows nothing says of the test clips, `2 n` as of two trainings that agree, and in words.

    The median is rounded to a hundredth of the label's range, as it may be one patient's.
    """
    step = (label.high - label.low) / STEPS
    value = round(float(np.median(_labels_of(real["train"], label.name))) / step) * step
    about = f"{value:.4g}{label.unit and ' ' + label.unit} for every clip, the median of real training labels, rounded"
    return np.full((2, len(real["test"])), value), about


def _labels_of(clips: Clips, label: str) -> NDArray[Any]:
    return np.array([clip.labels[label] for clip in clips], float)

"""The paper's protocol from end to end: train, generate, audit, evaluate, validate, report.

`OUT` holds what people may read: the dataset, each step's result, the report. All else (bundle, caches, models, what
was done with which choices) is in `OUT.work`, which is private. Filtering is a part of `generate`: a rejected still is
drawn again before it is animated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs import define, field

from echosdk.bundle import MANIFEST as BUNDLE_MANIFEST
from echosdk.bundle import Bundle
from echosdk.devices import pick_device, threads
from echosdk.errors import InputError, PlanError
from echosdk.evaluation.evaluate import evaluate
from echosdk.evaluation.measurement import finite
from echosdk.evaluation.validate import Wanted, validate
from echosdk.generation.dataset import MANIFEST as DATASET_MANIFEST
from echosdk.generation.dataset import dataset_around
from echosdk.generation.files import Folder
from echosdk.generation.generate import Options, generate
from echosdk.integrity import file_digest, private_folder, write_whole
from echosdk.interfaces import DataSource
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.privacy.audit import Audit, audit, check_asked, refuse_other_data
from echosdk.protocol_choices import Choices, Outcome, different
from echosdk.registry import Registry
from echosdk.report.scorecard import make_card, render_card_page, write_private_edition
from echosdk.training.data import check_source
from echosdk.training.stages import Training, train_bundle

STEPS = ("train", "generate", "audit", "evaluate", "validate", "report")
RESULTS = ("audit", "evaluate", "validate")
LASTING = ("train", "generate")
"""What is never made anew in the same place with other choices: it may have been shared."""


@define(slots=False)  # for the cached properties
class Protocol:
    """One run of it: the choices, and where it happens."""

    choices: Choices
    out: Path
    work: Path
    private_audit: Path | None = None
    workers: int | None = None
    registry: Registry = field(factory=Registry.discover)
    progress: bool = False
    say: Callable[[str], None] = lambda line: None

    @cached_property
    def source(self) -> DataSource:
        source: DataSource = open_source(self.registry, self.choices.sources[0])
        return source

    @cached_property
    def more(self) -> tuple[tuple[DataSource, str], ...]:
        """The sources that are trained on besides, and their names."""
        return tuple((open_source(self.registry, name), name) for name in self.choices.sources[1:])

    @cached_property
    def start(self) -> Bundle | None:
        """The bundle from whose weights a training starts."""
        return Bundle.open(self.choices.train.start, self.registry) if self.choices.train.start else None

    @cached_property
    def plugin_set(self) -> PluginSet:
        asked = PluginSet.find(self.choices.plugin_set, self.registry)
        return resolve(self.registry, asked, use=self.choices.use, set_=self.choices.set_)

    @cached_property
    def device(self) -> str:
        return pick_device(self.choices.device)

    @property
    def bundle_name(self) -> str:
        return self.choices.bundle or str(self.work / "bundle")

    @property
    def bundle(self) -> Bundle:
        return Bundle.open(self.bundle_name, self.registry)

    @property
    def dataset(self) -> Path:
        return self.out / "dataset"

    @property
    def datasets(self) -> list[Path]:
        """The dataset, and those that are made only to know how much datasets differ."""
        more = range(2, self.choices.generate.datasets + 1)
        return [self.dataset, *(self.work / f"dataset-{number}" for number in more)]

    @property
    def options(self) -> Options:
        chosen = attrs.asdict(self.choices.generate, recurse=False)
        del chosen["datasets"]
        own = chosen["splits"] is None and chosen["like"] is None
        counted = {split: n for split, n in check_source(self.source).items() if n} if own else None
        labels = chosen["labels"] or ("uniform" if chosen["like"] is None else "empirical")
        return Options(
            **{**chosen, "splits": chosen["splits"] or counted, "labels": labels},
            plugin_set=self.choices.plugin_set,
            bundle=self.bundle_name,
            use=self.choices.use,
            set_=self.choices.set_,
            seed=self.choices.seed,
            device=self.device,
        )

    @property
    def audit(self) -> Audit:
        asked = self.choices.audit.words() | {"seed": self.choices.seed, "device": self.device}
        return Audit(out=str(self.dataset), source=self.choices.sources[0], bundle=self.bundle_name, **asked)

    @property
    def wanted(self) -> Wanted:
        chosen = attrs.asdict(self.choices.validate, recurse=False)
        return Wanted(**chosen, bundle=self.bundle_name, seed=self.choices.seed, device=self.device)

    @property
    def result_files(self) -> dict[str, Path]:
        return {name: self.out / f"{name}.json" for name in RESULTS}

    def record(self, step: str) -> dict[str, Any] | None:
        """Return what is known of a step that was done: `rests_on` and `seconds`."""
        path = self.work / "steps" / f"{step}.json"
        known: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
        return known


def run_protocol(protocol: Protocol, steps: Sequence[str] = STEPS) -> Outcome:
    """Do the steps in their order; one that is done is not done again.

    Raises `PlanError` where the bundle or the dataset that is there was made with other choices; what only reads them
    is done again, which is said.
    """
    check_protocol(protocol, steps)
    chosen = [step for step in STEPS if step in steps]
    for step in chosen:
        protocol.say(f"protocol: {step}, step {STEPS.index(step) + 1} of {len(STEPS)}")
        rests_on, known = rests(protocol, step), protocol.record(step)
        there = known is not None and is_there(protocol, step, known)
        if there and known is not None and known["rests_on"] == rests_on:
            protocol.say(f"protocol: {step} was done before, in {known['seconds']:.0f} s")
            continue
        if there and known is not None:
            _differs(protocol, step, known["rests_on"], rests_on)
        private_folder(protocol.work)
        seconds = _do(protocol, step, rests_on)
        # What it was done with; of a training, the bundle is what it made
        record = {"rests_on": rests_on, "seconds": round(seconds, 1), "made": _made(protocol, step)}
        write_whole(protocol.work / "steps" / f"{step}.json", json.dumps(record, indent=1).encode(), mode=0o600)
        protocol.say(f"protocol: {step} done in {seconds:.0f} s")
    results = current_results(protocol)
    wanted = set(chosen) | (set(RESULTS) if "report" in chosen else set())
    said = results["audit"] if "audit" in wanted else None
    compared = results["validate"] if "validate" in wanted else None
    return Outcome(
        policy_met=None if said is None else bool(said["ok"]),
        verdict=None if compared is None else str(compared["comparison"]["verdict"]),
        report=protocol.out / "report.html" if "report" in chosen else None,
    )


def _do(protocol: Protocol, step: str, rests_on: Mapping[str, Any]) -> float:
    """Do a step, and return its seconds, with those of runs that were interrupted."""
    running = private_folder(protocol.work / "steps") / f"{step}.running.json"
    before = json.loads(running.read_text()) if running.is_file() else {}
    seconds = before["seconds"] if before.get("rests_on") == rests_on else 0.0
    begun = time.monotonic()
    try:
        _DO[step](protocol)
    except BaseException:
        record = {"rests_on": rests_on, "seconds": round(seconds + time.monotonic() - begun, 1)}
        write_whole(running, json.dumps(record).encode(), mode=0o600)
        raise
    running.unlink(missing_ok=True)
    return float(seconds + time.monotonic() - begun)


def rests(protocol: Protocol, step: str) -> dict[str, Any]:
    """Return what a step's result depends on, as plain values: its choices, and what steps before it made."""
    choices, data = protocol.choices, protocol.source.fingerprint()
    if step == "train":
        if choices.bundle is not None:
            return {"bundle": protocol.bundle.digest}
        chosen = choices.train
        how: dict[str, Any] = {"seed": choices.seed, "dtype": chosen.dtype, "references": chosen.references}
        if protocol.more:
            how["more"] = [source.fingerprint() for source, _ in protocol.more]
        if protocol.start is not None:
            how["start"] = protocol.start.digest
        return _plain({"data": data, "plugin_set": protocol.plugin_set.to_plain(), **how})
    if not has_bundle(protocol):
        raise InputError(f"{step}: wants a bundle, which the step train makes; run that first: --step train")
    bundle = protocol.bundle.digest
    if step == "generate":
        options = attrs.asdict(protocol.options)
        options["device"] = options["device"].partition(":")[0]
        del options["bundle"]  # wherever it lies, its digest is here
        return _plain({"bundle": bundle, "datasets": choices.generate.datasets, **options})
    if not (protocol.dataset / DATASET_MANIFEST).is_file():
        raise InputError(f"{step}: wants a dataset, which the step generate makes; run that first: --step generate")
    dataset = file_digest(protocol.dataset / DATASET_MANIFEST)
    if step == "report":
        results = {name: file_digest(path) for name, path in protocol.result_files.items() if path.is_file()}
        private = str(protocol.private_audit) if protocol.private_audit else None
        return {"dataset": dataset, "results": results, "private_audit": private}
    common = {"bundle": bundle, "data": data, "dataset": dataset, "seed": choices.seed}
    if step == "validate":
        common["datasets"] = [file_digest(each / DATASET_MANIFEST) for each in protocol.datasets]
    asked = attrs.asdict(getattr(choices, step))
    policy = asked.get("policy")
    if policy and "://" not in policy and Path(policy).is_file():
        asked["policy"] = file_digest(Path(policy))
    return _plain({**common, **asked})


def current_results(protocol: Protocol) -> dict[str, dict[str, Any] | None]:
    """Return the steps' results, without those that are of another dataset than the one that is there."""
    found: dict[str, dict[str, Any] | None] = dict.fromkeys(RESULTS)
    manifest = protocol.dataset / DATASET_MANIFEST
    for name, path in protocol.result_files.items():
        known = protocol.record(name)
        if path.is_file() and known and manifest.is_file() and known["rests_on"]["dataset"] == file_digest(manifest):
            found[name] = json.loads(path.read_text())
    return found


def _train(protocol: Protocol) -> None:
    choices = protocol.choices
    if choices.bundle is not None:
        protocol.say(f"train: the bundle {choices.bundle} is taken as it is")
        return
    training = Training(
        plugin_set=protocol.plugin_set,
        registry=protocol.registry,
        source=protocol.source,
        source_name=choices.sources[0],
        more=protocol.more,
        start=protocol.start,
        skip_bad=choices.train.skip_bad,
        out=protocol.work / "bundle",
        work=protocol.work / "train",
        seed=choices.seed,
        references_a_clip=choices.train.references,
        device=protocol.device,
        dtype=choices.train.dtype,
        progress=protocol.progress,
        switches=choices.train.switches,
        report=protocol.say,
    )
    with threads(choices.train.threads or torch.get_num_threads()):
        train_bundle(training)


def _generate(protocol: Protocol) -> None:
    for number, place in enumerate(protocol.datasets):
        made = generate(
            str(place),
            options=attrs.evolve(protocol.options, seed=protocol.choices.seed + number),
            workers=protocol.workers,
            private_audit=protocol.private_audit if number == 0 else None,
            registry=protocol.registry,
            report=protocol.say,
            progress=protocol.progress,
        )
        if made is None:
            raise InputError(f"{place}: not whole yet: other processes make some of its shards; run this again later")


def _audit(protocol: Protocol) -> None:
    _write(protocol.result_files["audit"], audit(protocol.audit, protocol.registry, protocol.say))


def _evaluate(protocol: Protocol) -> None:
    found = evaluate(
        str(protocol.dataset),
        protocol.source,
        protocol.choices.sources[0],
        bundle=protocol.bundle_name,
        **attrs.asdict(protocol.choices.evaluate),
        seed=protocol.choices.seed,
        device=protocol.device,
        registry=protocol.registry,
        report=protocol.say,
    )
    _write(protocol.result_files["evaluate"], found.plain())


def _validate(protocol: Protocol) -> None:
    found = validate(
        [str(place) for place in protocol.datasets],
        protocol.source,
        protocol.choices.sources[0],
        protocol.work / "validate",
        protocol.wanted,
        registry=protocol.registry,
        progress=protocol.progress,
        report=protocol.say,
    )
    _write(protocol.result_files["validate"], found.plain())


def _report(protocol: Protocol) -> None:
    known = {step: protocol.record(step) for step in STEPS[:-1]}
    seconds = {step: each["seconds"] for step, each in known.items() if each}
    card = make_card(Folder.at(str(protocol.dataset)), **current_results(protocol), seconds=seconds)
    _write(protocol.out / "report.json", card)
    page = render_card_page(card, Folder.at(str(protocol.dataset)))
    write_whole(protocol.out / "report.html", page.encode())
    if protocol.private_audit is not None:
        write_private_edition(card, Folder.at(str(protocol.dataset)), protocol.private_audit)


_DO: dict[str, Callable[[Protocol], None]] = {
    "train": _train,
    "generate": _generate,
    "audit": _audit,
    "evaluate": _evaluate,
    "validate": _validate,
    "report": _report,
}


def _check_places(protocol: Protocol) -> None:
    second = protocol.choices.audit.second_network
    places = {"--work": protocol.work, "--private-audit": protocol.private_audit, "audit.second_network": second}
    for name, path in {"--out": protocol.out, **places}.items():
        if path is not None and (dataset := dataset_around(Path(path))):
            raise InputError(f"{name} {path}: lies inside the dataset {dataset}, which people may read; choose another")
    for name, path in places.items():
        if path is not None and Path(path).resolve().is_relative_to(protocol.out.resolve()):
            raise InputError(f"{name} {path}: lies inside {protocol.out}, which people may read; choose another place")


def check_protocol(protocol: Protocol, steps: Sequence[str]) -> None:
    """Raise for places where people may read, and for an audit that would be refused in hours."""
    _check_places(protocol)
    if "audit" in steps:
        check_asked(protocol.audit, protocol.source)
        if protocol.choices.bundle is not None:
            refuse_other_data(protocol.bundle, protocol.source, protocol.choices.sources[0])


def has_bundle(protocol: Protocol) -> bool:
    return protocol.choices.bundle is not None or protocol.record("train") is not None


def is_there(protocol: Protocol, step: str, known: Mapping[str, Any]) -> bool:
    """Say whether what a step made is still there as it was made."""
    return known["made"] is not None and _made(protocol, step) == known["made"]


def _made(protocol: Protocol, step: str) -> Any:
    """Return a digest of what a step made; None where it is not there."""
    if step == "train":
        folder = protocol.work / "bundle"
        if protocol.choices.bundle is not None:
            return "taken"
        return protocol.bundle.digest if (folder / BUNDLE_MANIFEST).is_file() else None
    files = {
        "generate": [place / DATASET_MANIFEST for place in protocol.datasets],
        "report": [protocol.out / "report.json", protocol.out / "report.html"],
    }.get(step) or [protocol.result_files[step]]
    if step == "report" and protocol.private_audit is not None:
        files.append(protocol.private_audit / "report.html")
    return [file_digest(path) for path in files] if all(path.is_file() for path in files) else None


def _differs(protocol: Protocol, step: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say in what, or refuse."""
    names = ", ".join(different(before, now))
    if step in LASTING:
        place = protocol.dataset if step == "generate" else protocol.work / "bundle"
        raise PlanError(
            f"{protocol.out}: the step {step} was done with other {names}; choose another --out, or remove {place}"
        )
    protocol.say(f"protocol: {step} was done with other {names}; it is done again")


def _write(path: Path, plain: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(finite(plain), indent=1) + "\n").encode())


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain

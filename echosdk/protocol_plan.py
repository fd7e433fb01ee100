"""What `echosdk protocol` would do, and how long it may take: estimates, from what was recorded or is timed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from echosdk.bundle import Bundle
from echosdk.devices import device_name
from echosdk.errors import InputError
from echosdk.evaluation.downstream import KIND
from echosdk.interfaces import KINDS
from echosdk.plugin_set import resolve
from echosdk.protocol import LASTING, STEPS, Protocol, check_protocol, has_bundle, rests
from echosdk.protocol import is_there as there_is
from echosdk.protocol_choices import different
from echosdk.protocol_times import (
    Times,
    audit_seconds,
    evaluate_seconds,
    generate_seconds,
    train_seconds,
    validate_seconds,
)

LEAST_SECONDS = 10
"""Recorded seconds are whole ones: of fewer, a step's are not known well."""


@frozen(kw_only=True)
class Planned:
    """One step: its state (`done`, `to do`, `again`, `refused`), its expected seconds, and on what these rest.

    `seconds` is None where nothing is known.
    """

    step: str
    state: str
    what: str
    seconds: float | None
    basis: str


def plan_protocol(protocol: Protocol, steps: Sequence[str] = STEPS) -> list[Planned]:
    """Return what each step would do. Nothing is kept; one real video is read, to time it."""
    check_protocol(protocol, steps)
    times = _times(protocol)
    planned: list[Planned] = []
    for step in (step for step in STEPS if step in steps):
        new = {each.step for each in planned if each.state != "done"}
        state, why = _state(protocol, step, bool(new if step == "report" else new & {*LASTING}))
        seconds, basis = _estimate(protocol, step, times) if state != "done" else (0.0, "it is done")
        planned.append(Planned(step=step, state=state, what=_what(protocol, step) + why, seconds=seconds, basis=basis))
    return planned


def _state(protocol: Protocol, step: str, changed: bool) -> tuple[str, str]:
    known = protocol.record(step)
    if known is None or not there_is(protocol, step, known):
        return "to do", ""
    if changed and step not in LASTING:
        return "again", "; what it rests on is made anew"
    try:
        now = rests(protocol, step)
    except InputError:
        return "to do", ""
    if known["rests_on"] == now:
        return "done", ""
    names = ", ".join(different(known["rests_on"], now))
    if step in LASTING:
        return "refused", f"; was done with other {names}: choose another --out"
    return "again", f"; was done with other {names}"


def _what(protocol: Protocol, step: str) -> str:
    choices, set_ = protocol.choices, protocol.plugin_set
    if step == "train":
        if choices.bundle is not None:
            return f"take the bundle {choices.bundle}"
        return f"train {', '.join(set_.choices[kind].use for kind in KINDS)} on {', '.join(choices.sources)}"
    if step == "generate":
        splits = ", ".join(f"{split} {n}" for split, n in (protocol.options.splits or {}).items())
        splits = splits or f"as many as {choices.generate.like} has"
        several = f", {choices.generate.datasets} times" if choices.generate.datasets > 1 else ""
        return f"videos: {splits}{several}; each judged by {set_.choices['privacy_filter'].use} as still and as video"
    if step == "audit":
        return f"at most {choices.audit.patients} patients of a split, {choices.audit.videos} of them whole"
    if step == "evaluate":
        more = [name for name in ("reconstructions", "stills", "real_stills") if getattr(choices.evaluate, name)]
        return f"at most {choices.evaluate.videos} videos" + "".join(f", {name.replace('_', ' ')}" for name in more)
    if step == "validate":
        return f"{trainings(protocol)} trainings of {set_.choices[KIND].use}"
    return "report.html and report.json" + (", and a private edition" if protocol.private_audit else "")


def trainings(protocol: Protocol) -> int:
    """Count the trainings of a validation."""
    chosen = protocol.choices.validate
    arms = 1 + protocol.choices.generate.datasets + chosen.reconstruct + chosen.relabel + chosen.empirical
    arms += bool(chosen.label_noise) + (1 + 2 * len(chosen.fractions) if chosen.augment else 0)
    return arms * chosen.seeds


def _estimate(protocol: Protocol, step: str, times: Times | None) -> tuple[float | None, str]:
    """Return seconds, and what they rest on."""
    known = protocol.record(step)
    if known is not None and known["seconds"] >= 1 and _rests_on(protocol, step) == known["rests_on"]:
        return known["seconds"], "it took so long here before"
    if step == "report" or (step == "train" and protocol.choices.bundle is not None):
        return 10.0, "it writes what is known" if step == "report" else "nothing is trained"
    if step == "train":
        recorded = _recorded_training(protocol)
        if recorded is not None:
            return recorded
    if times is None:
        return None, "no bundle of these shapes is here to time it with; ask again when the step train is done"
    if step == "train":
        return train_seconds(times, protocol.plugin_set, _learns(protocol))
    if step == "generate":
        return generate_seconds(times)
    if step == "audit":
        return audit_seconds(times)
    if step == "evaluate":
        return evaluate_seconds(times)
    chosen = protocol.choices.validate
    asked = protocol.plugin_set if protocol.choices.bundle is None else times.bundle.plugin_set
    wanted = resolve(protocol.registry, asked, use=chosen.use, set_=chosen.set_)
    steps = wanted.choices[KIND].parameters.get("recipe", {}).get("steps", 0)
    whole = _seconds(protocol, times.bundle, KIND, wanted.choices[KIND].parameters)
    a_step = whole / steps if whole is not None and steps else None
    return validate_seconds(times, wanted, trainings(protocol), a_step)


def _rests_on(protocol: Protocol, step: str) -> dict[str, Any] | None:
    try:
        return rests(protocol, step)
    except InputError:
        return None


def _learns(protocol: Protocol) -> list[str]:
    return [kind for kind in KINDS if "recipe" in protocol.plugin_set.choices[kind].parameters]


def _recorded_training(protocol: Protocol) -> tuple[float, str] | None:
    """Return what a bundle recorded of a training like the one that is wanted, on a device like this one."""
    bundle = _recorded(protocol)
    if bundle is None:
        return None
    of_stages = [
        _seconds(protocol, bundle, kind, protocol.plugin_set.choices[kind].parameters) for kind in _learns(protocol)
    ]
    found = [each for each in of_stages if each is not None]
    if len(found) < len(of_stages):
        return None
    return sum(found), f"the bundle {bundle.where} recorded its training's seconds"


def _times(protocol: Protocol) -> Times | None:
    """Return what times a unit of work; None where no bundle of these shapes is here."""
    bundle = _recorded(protocol)
    if bundle is None:
        return None
    if not has_bundle(protocol) and not all(_same_shape(protocol, bundle, kind) for kind in KINDS):
        return None
    return Times(protocol, bundle)


def _recorded(protocol: Protocol) -> Bundle | None:
    """Return a bundle whose provenance may tell: the one that is taken, else the one that the plugin set names."""
    for name in _names(protocol):
        try:
            return Bundle.open(name, protocol.registry)
        except InputError:
            continue
    return None


def _names(protocol: Protocol) -> Iterator[str]:
    if protocol.choices.bundle is not None:
        yield protocol.choices.bundle
    elif protocol.record("train") is not None:
        yield protocol.bundle_name
    elif protocol.plugin_set.bundle is not None:
        yield protocol.plugin_set.bundle


def _seconds(protocol: Protocol, bundle: Bundle, kind: str, wanted: Mapping[str, Any]) -> float | None:
    """Return a stage's recorded seconds for the steps that are wanted, where all else and the device are the same."""
    stage = bundle.manifest.stages.get(kind)
    facts = {} if stage is None else stage.provenance.get("facts", {})
    recipe = wanted.get("recipe")
    if stage is None or not facts.get("steps") or not isinstance(recipe, Mapping):
        return None
    if facts.get("seconds", 0) < LEAST_SECONDS or facts.get("device") != device_name(protocol.device):
        return None
    theirs = stage.provenance["choice"]["parameters"]
    if not _same(protocol, bundle, kind, wanted) or theirs["recipe"]["batch_size"] != recipe["batch_size"]:
        return None
    return float(facts["seconds"] * recipe["steps"] / facts["steps"])


def _same_shape(protocol: Protocol, bundle: Bundle, kind: str) -> bool:
    own, theirs = protocol.plugin_set.choices[kind], bundle.plugin_set.choices[kind]
    return own.use == theirs.use and (
        kind not in bundle.manifest.stages or _same(protocol, bundle, kind, own.parameters)
    )


def _same(protocol: Protocol, bundle: Bundle, kind: str, wanted: Mapping[str, Any]) -> bool:
    """Say whether a stage was trained with the parameters that are wanted, as far as they decide its shape."""
    choice = bundle.manifest.stages[kind].provenance["choice"]
    shape = protocol.registry.component(kind, choice["use"]).shape
    theirs = choice["parameters"]
    return all(
        _plain(theirs.get(name)) == _plain(wanted.get(name)) for name in shape if name != "recipe" and name in theirs
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

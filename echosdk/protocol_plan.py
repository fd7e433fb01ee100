"""What `echosdk protocol` would do, and how long it may take: estimates from what was recorded, and said to be so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from echosdk.bundle import Bundle
from echosdk.devices import device_name
from echosdk.errors import InputError
from echosdk.evaluation.downstream import KIND
from echosdk.generation.estimate import seconds_a_video
from echosdk.generation.generate import make_plan
from echosdk.interfaces import KINDS
from echosdk.plugin_set import resolve
from echosdk.protocol import LASTING, STEPS, Protocol, check_bundle, different, has_bundle, rests
from echosdk.protocol import is_there as there_is


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
    """Return what each step would do. Nothing is kept, and no real frame is read."""
    check_bundle(protocol, steps)
    planned: list[Planned] = []
    for step in (step for step in STEPS if step in steps):
        new = {each.step for each in planned if each.state != "done"}
        state, why = _state(protocol, step, bool(new if step == "report" else new & {*LASTING}))
        seconds, basis = _estimate(protocol, step)
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
        return f"train {', '.join(set_.choices[kind].use for kind in KINDS)} on {choices.data}"
    if step == "generate":
        splits = ", ".join(f"{split} {n}" for split, n in (protocol.options.splits or {}).items())
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


def _estimate(protocol: Protocol, step: str) -> tuple[float | None, str]:
    """Return seconds, and what they rest on."""
    known = protocol.record(step)
    if known is not None and known["seconds"] >= 1:
        return known["seconds"], "it took so long here before"
    if step == "report" or (step == "train" and protocol.choices.bundle is not None):
        return 10.0, "it writes what is known" if step == "report" else "nothing is trained"
    if step == "generate" and has_bundle(protocol):
        return _generation(protocol)
    bundle = _recorded(protocol)
    if bundle is None or step not in ("train", "validate"):
        return None, ""
    if step == "train":
        of_stages = [_seconds(protocol, bundle, kind, protocol.plugin_set.choices[kind].parameters) for kind in KINDS]
        found = [each for each in of_stages if each is not None]
        learns = [kind for kind in KINDS if "recipe" in protocol.plugin_set.choices[kind].parameters]
        if len(found) < len(learns):
            return None, ""
        return sum(found), f"the bundle {bundle.where} recorded its training's seconds"
    chosen = protocol.choices.validate
    asked = protocol.plugin_set if protocol.choices.bundle is None else bundle.plugin_set
    own = resolve(protocol.registry, asked, use=chosen.use, set_=chosen.set_).choices[KIND].parameters
    each = _seconds(protocol, bundle, KIND, own)
    if each is None:
        return None, ""
    return each * trainings(
        protocol
    ), f"the bundle {bundle.where} recorded its training's seconds; reading videos is not in it"


def _generation(protocol: Protocol) -> tuple[float | None, str]:
    """Time a little of one video, and count the rest."""
    plan, bundle = make_plan(protocol.options, protocol.registry)
    workers = min(protocol.workers or 1, len(plan.shards))
    each = seconds_a_video(plan, bundle, protocol.registry)
    videos = sum(plan.counts.values()) * protocol.choices.generate.datasets
    return each * videos / workers, "one denoising step was timed here; those that the filter rejects are not in it"


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
    if stage is None or not facts.get("seconds") or not facts.get("steps") or not isinstance(recipe, Mapping):
        return None
    if facts.get("device") != device_name(protocol.device):
        return None
    choice = stage.provenance["choice"]
    shape = protocol.registry.component(kind, choice["use"]).shape
    theirs = choice["parameters"]
    same = all(
        _plain(theirs.get(name)) == _plain(wanted.get(name)) for name in shape if name != "recipe" and name in theirs
    )
    if not same or theirs["recipe"]["batch_size"] != recipe["batch_size"]:
        return None
    return float(facts["seconds"] * recipe["steps"] / facts["steps"])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""Audit a dataset: what its gate finds and misses, what its samples say of the training patients, and a verdict.

The bundle's private part and the real data are read; nothing of them is in the report but counts and rates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from attrs import field, frozen
from attrs.validators import ge

from echosdk.abilities import Embedding, SimulatedSource
from echosdk.bundle import Bundle
from echosdk.clips.images import to_images
from echosdk.devices import pick_device
from echosdk.errors import InputError, PrivacyError
from echosdk.generation.dataset import read_manifest
from echosdk.generation.files import Folder
from echosdk.generation.pipeline import load_gate
from echosdk.generation.plan import Plan
from echosdk.generation.reading import check_complete, frames_in, shard_samples
from echosdk.interfaces import DataSource, Encoder, References
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.privacy.anatomy import check_anatomy, near_copies
from echosdk.privacy.attacks import Known, attack_model
from echosdk.privacy.claims import claims
from echosdk.privacy.drawn import draw
from echosdk.privacy.enrolled import check_simulated, probe_enrolled
from echosdk.privacy.expected import expected
from echosdk.privacy.gate import Gate
from echosdk.privacy.holes import rejections_a_patient
from echosdk.privacy.neighbours import Records
from echosdk.privacy.policy import Limit, judge, read_policy
from echosdk.privacy.probes import (
    REPORT_EVERY,
    Real,
    ask_outsiders,
    by_patient,
    encode,
    probe_other_videos,
    probe_stills,
    probe_videos,
)
from echosdk.privacy.records import compare, latent_records, look, nearest_counts
from echosdk.privacy.second import second_network
from echosdk.privacy.statistics import plain
from echosdk.registry import Registry

Report = Callable[[str], None]
MODELS = ("encoder", "image_prior", "video_animator")
SPACES = {
    "latent": "encoder's latents",
    "filter": "filter's features",
    "second": "features of a second network, of another seed and other patients",
}
"""The spaces in which records are compared."""
ANOTHER = "The filter is another than the dataset's, or set otherwise; the gate's figures are of that one."


@frozen(kw_only=True)
class Audit:
    """What is audited, and how much of it: at most `patients` of a split are asked about, `videos` of them whole.

    `frames` of each synthetic video are looked at as records, and `stills` are drawn from the prior, to compare what
    comes before the filter with what comes after. `probe_patients` simulated ones are asked about besides;
    as many as `anatomy_patients` teach a network to say whose anatomy those stills show; and
    `second_network` is the private folder of another network to compare records in. `use` and `set_` change the filter
    that is audited, as they would `generate`.
    """

    out: str
    source: str
    bundle: str | None = None
    policy: str | None = None
    patients: int = field(default=3000, validator=ge(1))
    videos: int = field(default=100, validator=ge(0))
    frames: int = field(default=4, validator=ge(1))
    stills: int = field(default=300, validator=ge(0))
    probe_patients: int = field(default=0, validator=ge(0))
    anatomy_patients: int = field(default=0, validator=ge(0))
    second_network: Path | None = None
    use: tuple[str, ...] = ()
    set_: tuple[str, ...] = ()
    seed: int = 0
    device: str = "cpu"


def check_asked(asked: Audit, source: DataSource) -> tuple[Limit, ...]:
    """Return the policy's limits, once the source is known to have what is asked of it; raise `InputError` if not."""
    limits = read_policy(asked.policy)
    if asked.probe_patients:
        check_simulated(source, asked.source)
    if asked.anatomy_patients:
        check_anatomy(source, asked.source, asked.stills)
    return limits


def audit(asked: Audit, registry: Registry, report: Report = lambda line: None) -> dict[str, Any]:
    """Return the report of an audit, for JSON: figures, ROC curves, claims, and the verdict against the policy.

    Raises `InputError` where the data are not those that the bundle was trained on, or the bundle is not the one that
    the dataset was made from: figures of others would say nothing.
    """
    source = open_source(registry, asked.source)
    limits = check_asked(asked, source)
    folder = Folder.at(asked.out)
    manifest = read_manifest(folder)
    check_complete(folder, manifest)
    plan = Plan.of_public(manifest["plan"])
    bundle = _bundle(asked, plan, registry)
    refuse_other_data(bundle, source, asked.source)
    device = pick_device(asked.device)
    plugin_set, another = _plugin_set(asked, plan, bundle, registry)
    encoder, prior, animator = (_loaded(kind, plugin_set, bundle, registry, device) for kind in MODELS)

    def fresh_gate() -> Gate:
        return load_gate(plugin_set, bundle, registry, encoder)

    gate = fresh_gate()
    train, holdout, holdout_video = bundle.references()
    held_out = holdout, holdout_video
    gate.calibrate(train, *held_out, bundle.noise_key)
    report(f"gate: calibrated on {len(set(holdout.groups))} held-out patients")
    second = None
    if asked.second_network is not None:
        second = second_network(asked.second_network, bundle, registry, held_out, asked.seed, device, report)

    samples, videos = _samples(folder, manifest, plan, encoder, asked.frames, report)
    real = _real(source, "train", bundle, plan, train, asked)
    others = _real(source, "test", bundle, plan, train, asked)
    outside = ask_outsiders(gate, encoder, others, asked.videos, asked.seed, report)
    whole = attrs.evolve(real, patients=real.patients[: asked.videos])
    probed, known_videos = probe_videos(gate, encoder, whole, asked.seed, report)
    figures = [
        *probe_stills(gate, encoder, real, asked.seed, report),
        probe_other_videos(fresh_gate, held_out, bundle.noise_key, encoder, real, asked.seed, report),
        *probed,
        *outside.figures,
        rejections_a_patient(manifest),
    ]
    if asked.probe_patients and isinstance(source, SimulatedSource):
        figures += probe_enrolled(
            fresh_gate, held_out, bundle.noise_key, encoder, source, asked.probe_patients, asked.seed, report
        )
    drawn = None
    if asked.stills:
        drawn = draw(prior, gate, bundle.manifest.labels, asked.stills, asked.seed, report)
        figures += drawn.figures()
        if asked.anatomy_patients:
            test = [still for still, _ in _one_each(outside.latents, outside.owners)]
            figures += near_copies(source, encoder, test, drawn, asked.anatomy_patients, asked.seed, report)
    curves: dict[str, Any] = {}
    coverage: dict[str, Any] = {}
    patients = np.unique(np.array(train.groups), return_inverse=True)[1]
    for space, records in _spaces(gate, second):
        report(f"records: looking for nearest ones by the {SPACES[space]}")
        known = records(train.items, patients)
        outsiders = records(outside.latents, outside.owners) if outside.owners else _none(known)
        made = records(samples, videos)
        found, roc = look(space, made, known, outsiders, asked.seed)
        figures += found
        curves |= roc
        coverage[space] = nearest_counts(made, known)
        for when, shown in (drawn.sets() if drawn else {}).items():
            one_each = records(shown, np.arange(len(shown)))
            figures += compare(f"stills.{when}", space, one_each, known, outsiders, asked.seed)
    stills_of = _one_each(train.items, patients), _one_each(outside.latents, outside.owners)
    for kind, model, (members, strangers) in (
        ("image_prior", prior, stills_of),
        ("video_animator", animator, (known_videos, outside.videos)),
    ):
        found, roc = attack_model(kind, model, members, strangers, asked.seed, report)
        figures += found
        curves |= roc
    findings = judge(limits, figures)
    met = all(finding.met for finding in findings)
    said = claims(figures, plan.privacy_filter, bundle.manifest.data.get("summary", ""))
    return {
        "what": "Evidence for your assessment of singling out, linkability and inference, not a certificate.",
        "dataset": {"plan": plan.digest, "samples": manifest["counts"]["samples"], "filter": _filter(plan)},
        "trained_on": {k: v for k, v in bundle.manifest.data.items() if k != "fingerprint"},
        "claims": [*([ANOTHER] if another else []), *said],
        "figures": [
            plain(figure) | {"expected": expected(figure, manifest["counts"]["samples"], len(set(train.groups)))}
            for figure in figures
        ],
        "nearest_of_videos": coverage,
        "roc": curves,
        "policy": asked.policy or "privacy-policy.toml of echosdk",
        "findings": [
            {
                "figure": finding.figure,
                "wants": _wanted(finding.limit.at_least, finding.limit.at_most, finding.limit.bound),
                "reached": finding.reached,
                "met": finding.met,
                "why": finding.limit.why,
            }
            for finding in findings
        ],
        "ok": met,
    }


def refuse_other_data(bundle: Bundle, source: DataSource, name: str) -> None:
    """Raise where a source, called `name` by the user, is not what the bundle was trained on."""
    if source.fingerprint() != bundle.manifest.data["fingerprint"]:
        raise InputError(
            f"--data {name}: is not what bundle {bundle.where} was trained on (their fingerprints differ); "
            f"the bundle says: {bundle.manifest.data['source']} {dict(bundle.manifest.data['parameters'])}"
        )


def _bundle(asked: Audit, plan: Plan, registry: Registry) -> Bundle:
    if asked.bundle is None and plan.bundle not in registry.names("bundle"):
        raise InputError(f"{asked.out}: was made from the bundle {plan.bundle!r}; say where it is: --bundle PATH")
    bundle = Bundle.open(asked.bundle or plan.bundle, registry)
    if bundle.digest != plan.bundle_digest:
        raise InputError(f"{bundle.where}: is not the bundle that {asked.out} was made from; say --bundle PATH")
    if bundle.stripped:
        raise PrivacyError(
            f"bundle {bundle.where} was stripped of its references and its filter, so it cannot be audited; "
            "use the whole bundle"
        )
    return bundle


def _plugin_set(asked: Audit, plan: Plan, bundle: Bundle, registry: Registry) -> tuple[PluginSet, bool]:
    """Return the plan's plugin set, with another filter or other settings of it where asked, and whether it is so."""
    own = PluginSet.from_plain(plan.whole_plugin_set(), where="plan")
    if not asked.use and not asked.set_:
        return own, False
    for option in (*asked.use, *asked.set_):
        if re.split(r"[.=]", option)[0] != "privacy_filter":
            raise InputError(
                f"{option}: an audit takes all components but the filter as the dataset was made with them; "
                "privacy_filter alone may be another"
            )
    trained = bundle.manifest.stages
    wanted = resolve(registry, own, use=asked.use, set_=asked.set_, bundle=bundle.plugin_set, trained=trained)
    return wanted, wanted.choices["privacy_filter"] != own.choices["privacy_filter"]


def _loaded(kind: str, plugin_set: PluginSet, bundle: Bundle, registry: Registry, device: str) -> Any:
    component = plugin_set.build(registry, kind)
    bundle.load(kind, component, plugin_set.choices[kind].use)
    if hasattr(component, "to"):
        component.to(device, torch.float32)
    return component


def _one_each(latents: torch.Tensor, owners: Any) -> Known:
    """Return the first still of each patient."""
    first = np.unique(np.asarray(owners, int), return_index=True)[1]
    return [(latents[int(row)], {}) for row in first]


def _real(source: DataSource, split: Any, bundle: Bundle, plan: Plan, train: References, asked: Audit) -> Real:
    return Real(
        source=source,
        patients=by_patient(source.clips(split), asked.patients, asked.seed),
        fps=bundle.manifest.fps,
        num_frames=plan.num_frames,
        kept=max(1, round(len(train.items) / bundle.manifest.data["train_clips"])),
    )


def _samples(
    folder: Folder, manifest: dict[str, Any], plan: Plan, encoder: Encoder, frames: int, report: Report
) -> tuple[torch.Tensor, list[int]]:
    """Return latents of `frames` evenly spaced frames of every video as it was published, and the video of each."""
    latents, owners = [], []
    for done, video in enumerate(_videos(folder, manifest, plan), start=1):
        chosen = np.unique(np.linspace(0, len(video) - 1, min(frames, len(video))).round().astype(int))
        latents.append(encode(encoder, to_images(video[chosen])))
        owners += [done] * len(chosen)
        if done % REPORT_EVERY == 0 or done == manifest["counts"]["samples"]:
            report(f"dataset: {done} of {manifest['counts']['samples']} videos read")
    return torch.cat(latents), owners


def _videos(folder: Folder, manifest: dict[str, Any], plan: Plan) -> Iterator[Any]:
    for entry in manifest["shards"]:
        for sample in shard_samples(folder, entry):
            yield frames_in(sample, plan.format)


def _spaces(gate: Gate, second: Embedding | None) -> Iterator[tuple[str, Callable[[torch.Tensor, Any], Records]]]:
    """Yield the `SPACES` that there are."""
    yield "latent", latent_records

    def by_filter(latents: torch.Tensor, owners: Any) -> Records:
        return Records.of(gate.features(latents), owners)

    def by_second(latents: torch.Tensor, owners: Any) -> Records:
        assert second is not None
        return Records.of(second.embed(latents.float()).cpu(), owners)

    if gate.has_features:
        yield "filter", by_filter
    if second is not None:
        yield "second", by_second


def _none(like: Records) -> Records:
    return Records(features=like.features[:0], owners=like.owners[:0])


def _filter(plan: Plan) -> str | None:
    return str(plan.plugin_set["privacy_filter"]["use"]) if plan.privacy_filter else None


def _wanted(at_least: float | None, at_most: float | None, bound: str) -> str:
    of = "value" if bound == "value" else f"{bound} end of the interval"
    return f"{of} at least {at_least:g}" if at_least is not None else f"{of} at most {at_most:g}"

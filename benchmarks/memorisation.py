"""A prior that knows its patients by heart: what does the gate stop, what do weaker filters, and does the audit see it?

    python benchmarks/memorisation.py --out memorisation

The embedded bundle's prior is trained on, with `--patients` of its training patients alone, until it draws nobody else.
Whose heart a still shows is read by `echosdk.privacy.anatomy`, not by a filter. Every filter is calibrated on the same
held-out patients, so that it rejects 5 % of them. Intervals take stills for independent, which those of 20 patients are
not.
Writes OUT/memorisation.json and OUT/memorisation.svg; OUT is private, and a run that was stopped goes on. About 45
minutes on one core, most of it the training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import click
import numpy as np
import torch
from attrs import frozen
from echosdk_alternatives.pixel_correlation import PixelCorrelation
from echosdk_phantom import Patient, PhantomSource, simulate
from echosdk_reid.network import ReIdentification
from numpy.typing import NDArray

import echosdk
from echosdk.bundle import Bundle
from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_images
from echosdk.clips.store import pixel_clips
from echosdk.generation.generate import Options, make_plan
from echosdk.generation.pipeline import Pipeline
from echosdk.interfaces import References
from echosdk.plugin_set import open_source
from echosdk.privacy.anatomy import STRANGERS, Reader
from echosdk.privacy.drawn import draw
from echosdk.privacy.neighbours import Records
from echosdk.privacy.records import look
from echosdk.privacy.statistics import plain, share
from echosdk.training import Recipe
from echosdk.training.references import encode, evenly

BATCH_SIZE, LEARNING_RATE = 32, 3e-4
READ_FIRST, READ_BATCH = 5_000_000, 64  # the reader's patients are nobody that a bundle is trained or measured on
FILTERS = {
    "trained": "pearson-reid, as in the bundle",
    "untrained": "pearson-reid with a network of random weights",
    "pixels": "pixel-correlation",
}
INKS = {"copies rejected": "#c2571a", "strangers rejected": "#7a828c"}
AUDITED = ("nearer-to-training", "authentic-of-patients", "near.area", "near.found-at-1-percent", ".patients")
DATA = "phantom?patients=1200&videos=2&frames=32&fps=16"
Say = Callable[[str], None]


@frozen
class World:
    """The embedded bundle's parts, the patients who are memorised, and those whom nothing was trained on."""

    registry: echosdk.Registry
    bundle: Bundle
    pipeline: Pipeline
    source: PhantomSource
    patients: Sequence[Patient]
    memorised: Sequence[ArrayClip]
    val: Sequence[ArrayClip]
    strangers: torch.Tensor

    @classmethod
    def of(cls, data: str, patients: int, say: Say) -> World:
        registry = echosdk.Registry.discover()
        plan, bundle = make_plan(Options(num_frames=1), registry)
        pipeline = Pipeline.load(plan, bundle, registry)
        source = open_source(registry, data)
        assert isinstance(source, PhantomSource)
        if source.fingerprint() != bundle.manifest.data["fingerprint"]:
            raise click.ClickException(f"--data {data}: is not what the bundle was trained on")

        def latents(split: Any, count: int) -> list[ArrayClip]:
            found = []
            for clip, frames in pixel_clips(islice(source.clips(split), count * source.videos), plan.fps):
                made = encode(pipeline.encoder, frames)
                found.append(ArrayClip(id=clip.id, group=clip.group, labels=dict(clip.labels), frames=made))
            say(f"{count} patients of the split {split} encoded")
            return found

        numbers = source.numbers("train")[:patients]
        strangers = bundle.strangers()
        assert strangers is not None
        return cls(
            registry, bundle, pipeline, source, [Patient.draw(source.seed, number) for number in numbers],
            latents("train", patients), latents("val", 8), strangers,
        )  # fmt: skip

    def references(self, frames: int) -> References:
        """Return so many frames of each clip of the memorised patients, latents `n c h w`, as a bundle keeps them."""
        items, groups = [], []
        for clip in self.memorised:
            chosen = clip.frames[evenly(clip.num_frames, frames)]
            items.append(torch.from_numpy(np.array(chosen, np.float32)))
            groups += [clip.group] * len(chosen)
        return References(items=torch.cat(items), groups=groups)

    def filter(self, name: str, references: References) -> Callable[[torch.Tensor], NDArray[np.bool_]]:
        """Return what rejects latents: a filter, calibrated on one frame of each held-out patient."""
        bundle = self.bundle
        made: Any = PixelCorrelation()
        if name != "pixels":
            made = bundle.plugin_set.build(self.registry, "privacy_filter")
            bundle.load("privacy_filter", made, bundle.plugin_set.choices["privacy_filter"].use)
        if name == "untrained":
            torch.manual_seed(0)
            channels = made._network.model.conv1.in_channels
            made._network = ReIdentification(made.architecture, made.layers, channels, made.features).eval()
        _, holdout, _ = bundle.references()
        first = [holdout.groups.index(group) for group in dict.fromkeys(holdout.groups)]
        innocents = References(items=self._seen(made, holdout.items[first]), groups=[holdout.groups[i] for i in first])
        shown = attrs.evolve(references, items=self._seen(made, references.items))
        made.calibrate(shown, innocents, torch.Generator().manual_seed(0))
        return lambda latents: ~made.judge(self._seen(made, latents)).keep.numpy()

    def _seen(self, filter_: Any, latents: torch.Tensor) -> torch.Tensor:
        if filter_.space == "latent":
            return latents
        return torch.cat([self.pipeline.encoder.decode(part).cpu() for part in latents.split(32)])


def over_trained(world: World, steps: int, out: Path, say: Say) -> Any:
    """Train the bundle's prior on with the memorised patients alone."""
    prior = world.bundle.plugin_set.build(world.registry, "image_prior")
    world.bundle.load("image_prior", prior, world.bundle.plugin_set.choices["image_prior"].use)
    prior.recipe = Recipe(
        steps=steps, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, decay="cosine", ema_decay=0.995,
        checkpoint_every=100,
    )  # fmt: skip
    data = echosdk.TrainingData(
        train=world.memorised, val=world.val, shape=world.memorised[0].frames.shape[1:],
        labels=world.bundle.manifest.labels, fps=world.bundle.manifest.fps,
    )  # fmt: skip
    prior.fit(data, echosdk.Run(folder=out / "training", report=say))
    return prior


def stills_of(world: World, prior: Any, number: int, say: Say) -> torch.Tensor:
    assert world.pipeline.gate is not None
    return draw(prior, world.pipeline.gate, world.bundle.manifest.labels, number, 0, say).stills


def reader_of(world: World, patients: int, say: Say) -> Reader:
    """Teach a reader on one frame each of so many simulated patients, of any phase of the heart."""
    everybody = [Patient.draw(0, number) for number in range(READ_FIRST, READ_FIRST + patients)]
    parts = []
    for first in range(0, patients, READ_BATCH):
        frames = [simulate(patient, num_frames=1).frames for patient in everybody[first : first + READ_BATCH]]
        parts.append(world.pipeline.encoder.encode(to_images(np.concatenate(frames))).cpu())
        say(f"reader: {min(first + READ_BATCH, patients)} of {patients} simulated patients")
    return Reader.train(torch.cat(parts), anatomy(everybody))


def anatomy(patients: Sequence[Patient]) -> NDArray[np.float64]:
    return np.array([patient.scaled() for patient in patients])


def filters(world: World, stills: torch.Tensor, copied: NDArray[np.bool_], say: Say) -> list[dict[str, Any]]:
    """Ask every filter about the over-trained prior's stills and about strangers, with fewer and more references."""
    frames = max(clip.num_frames for clip in world.memorised)
    everybody, _, _ = world.bundle.references()
    kept_with = {
        f"1 frame of each clip of {len(world.patients)} patients": world.references(1),
        f"{frames} frames of each clip of {len(world.patients)} patients": world.references(frames),
        f"1 frame of each clip of {len(set(everybody.groups))} patients, these among them": everybody,
    }
    rows = []
    for name in FILTERS:
        for what, references in kept_with.items():
            rejects = world.filter(name, references)
            rejected, strangers = rejects(stills), rejects(world.strangers)
            found = int((rejected & copied).sum())
            left = int((~rejected).sum())
            rows.append({
                "filter": name, "references": what,
                "copies rejected": plain(share("copies", found, int(copied.sum()), better="higher", what="copies")),
                "strangers rejected": plain(
                    share("strangers", int(strangers.sum()), len(strangers), better="lower", what="test patients")
                ),
                "copies among what is kept": plain(
                    share("kept", int((copied & ~rejected).sum()), left, better="lower", what="stills that are kept")
                ),
            })  # fmt: skip
            say(f"{name}, {what}: {found} of {int(copied.sum())} copies rejected")
    return rows


def audited(world: World, sets: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Return the audit's figures of records and membership, of each set of stills as if it were published."""
    gate, references = world.pipeline.gate, world.references(1)
    assert gate is not None
    one_each = [references.groups.index(group) for group in dict.fromkeys(references.groups)]  # as of strangers
    found = []
    for space, seen in (("latent", lambda items: items.flatten(1)), ("filter", gate.features)):
        known = Records.of(seen(references.items[one_each]), np.arange(len(one_each)))
        outsiders = Records.of(seen(world.strangers), np.arange(len(world.strangers)))
        for what, stills in sets.items():
            figures, _ = look(space, Records.of(seen(stills), np.arange(len(stills))), known, outsiders, 0)
            found += [{"stills": what, **plain(figure)} for figure in figures if figure.name.endswith(AUDITED)]
    return found


def drawing(rows: Sequence[dict[str, Any]]) -> str:
    """Draw each filter's shares and their intervals, as the text of an SVG file."""
    left, wide, step, top = 360, 320, 46, 44
    parts = []
    for number, row in enumerate(rows):
        y = top + number * step
        parts.append(f'<text x="8" y="{y + 4}">{FILTERS[row["filter"]]}</text>')
        parts.append(f'<text x="8" y="{y + 20}" fill="#666">{row["references"]}</text>')
        for offset, (what, ink) in zip((2, 14), INKS.items(), strict=True):
            low, high, middle = (left + wide * value for value in (*row[what]["interval_95"], row[what]["value"]))
            parts.append(f'<path d="M{low:.1f} {y + offset}H{high:.1f}" stroke="{ink}" stroke-width="2"/>')
            parts.append(f'<circle cx="{middle:.1f}" cy="{y + offset}" r="4" fill="{ink}"/>')
    bottom = top + len(rows) * step
    for share_ in (0, 0.25, 0.5, 0.75, 1):
        x = left + wide * share_
        parts.insert(0, f'<path d="M{x} {top - 14}V{bottom - 8}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{bottom + 8}" text-anchor="middle">{share_:.0%}</text>')
    key = "".join(
        f'<circle cx="{left + 170 * i}" cy="14" r="4" fill="{ink}"/><text x="{left + 8 + 170 * i}" y="18">{what}</text>'
        for i, (what, ink) in enumerate(INKS.items())
    )
    size = f'viewBox="0 0 {left + wide + 30} {bottom + 20}"'
    style = 'font-family="sans-serif" font-size="12" fill="#222"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{key}{"".join(parts)}</svg>\n'


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", default=DATA, show_default=True, help="What the embedded bundle was trained on.")
@click.option("--patients", default=20, show_default=True)
@click.option("--steps", default=2000, show_default=True)
@click.option("--stills", default=1000, show_default=True)
@click.option("--reader-patients", default=6000, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    out: Path, data: str, patients: int, steps: int, stills: int, reader_patients: int, threads: int
) -> None:
    """Over-train, draw, say whose hearts are drawn, and ask every filter and the audit."""
    torch.set_num_threads(threads)

    def say(line: str) -> None:
        click.echo(line, err=True)

    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    world = World.of(data, patients, say)
    prior = over_trained(world, steps, out, say)
    made = {"over-trained": stills_of(world, prior, stills, say)}
    made["embedded"] = stills_of(world, world.pipeline.prior, stills // 2, say)
    reader = reader_of(world, reader_patients, say)
    whose = anatomy(world.patients)

    far = np.quantile(reader.distances(world.strangers, whose).min(1), STRANGERS)
    own = {patient.number: column for column, patient in enumerate(world.patients)}
    frames = world.references(max(clip.num_frames for clip in world.memorised))
    columns = [own[int(group.rpartition("-")[2])] for group in frames.groups]
    known = reader.distances(frames.items, whose)[np.arange(len(columns)), columns] < far
    nearest = {what: reader.distances(each, whose).min(1) for what, each in made.items()}
    copied = nearest["over-trained"] < far
    rows = filters(world, made["over-trained"], copied, say)
    sets = {"embedded prior": made["embedded"], "over-trained prior": made["over-trained"]}
    everybody, _, _ = world.bundle.references()
    for of, references in ((f"{patients} patients'", world.references(1)), ("all patients'", everybody)):
        keep = ~world.filter("trained", references)(made["over-trained"])
        sets[f"over-trained, kept with {of} references"] = made["over-trained"][torch.from_numpy(keep)]

    report = {
        "patients": patients, "steps": steps,
        "reader": {
            "patients": reader_patients, "parameters with R squared over 0.5": int((reader.explained > 0.5).sum()),
            "frames of the memorised known": plain(
                share("known", int(known.sum()), len(known), better="higher", what="frames")
            ),
        },
        "copies": {
            what: plain(share(what, int((away < far).sum()), len(away), better="lower", what="stills"))
            for what, away in nearest.items()
        },
        "filters": rows, "audit": audited(world, sets),
    }  # fmt: skip
    (out / "memorisation.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "memorisation.svg").write_text(drawing(rows))
    tell(report)


def tell(report: dict[str, Any]) -> None:
    """Print the report as tables."""

    def shown(figure: dict[str, Any]) -> str:
        if figure["value"] is None:
            return "not measured"
        low, high = figure["interval_95"]
        return f"{figure['value']:.1%} ({low:.1%} to {high:.1%}), n = {figure['n']}"

    reader = report["reader"]
    click.echo(f"the reader knows {shown(reader['frames of the memorised known'])} frames of the memorised patients")
    for what, figure in report["copies"].items():
        click.echo(f"{what} prior: {shown(figure)} stills show one of the {report['patients']}; 1 % of strangers do")
    for row in report["filters"]:
        click.echo(f"{FILTERS[row['filter']]}; {row['references']}")
        for what in ("copies rejected", "strangers rejected", "copies among what is kept"):
            click.echo(f"    {what:<28}{shown(row[what])}")
    for figure in report["audit"]:
        low, high = figure["interval_95"] or (float("nan"),) * 2
        value = "not measured" if figure["value"] is None else f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"
        click.echo(f"{figure['name']:<46}{figure['stills']:<54}{value}, n = {figure['n']}")


if __name__ == "__main__":
    main()

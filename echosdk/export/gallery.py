"""A page with the kept samples of a dataset, all of them or as many as are asked for."""

from __future__ import annotations

from echosdk.export.samples import Generated, samples
from echosdk.report.preview import render_preview, spread


def render_gallery(out: str, most: int) -> str:
    """Return a self-contained page with at most so many videos of a joined dataset, spread over its labels."""
    source = Generated.at(out)
    labels = source.manifest["labels"]
    rows = [{"key": sample.key, **sample.about} for sample in samples(source.folder, source.manifest)]
    shown = {row["key"] for row in spread(rows, labels, most)}
    videos = {
        sample.key: sample.video for sample in samples(source.folder, source.manifest) if sample.key in shown
    }  # read twice rather than held: a dataset may be large
    return render_preview(source.manifest, rows, videos.__getitem__, most=most)

"""`preview.html`: a self-contained page with some of the kept videos, and what the public manifest says of all."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from echosdk.clips.video import Frames, decode_video, encode_video
from echosdk.report.charts import bars, histogram
from echosdk.report.page import (
    NO_BREAK,
    Html,
    count,
    element,
    facts,
    join,
    measured,
    percent,
    render_page,
    section,
    table,
)

MAX_VIDEOS = 24
NOT_ASKED = "not asked"


def render_preview(
    manifest: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    read_video: Callable[[str], bytes],
    most: int = MAX_VIDEOS,
) -> str:
    """Return the page. `samples` are the index's rows; `read_video` gives the video file of a key.

    At most `most` videos are shown; where they are more than `MAX_VIDEOS`, none plays before it is asked to.
    """
    total = manifest["counts"]["samples"]
    return render_page(
        f"{count(total)} synthetic {'video' if total == 1 else 'videos'}",
        [
            _header(manifest, total),
            videos_section(manifest, samples, read_video, most),
            labels_section(manifest["labels"], total),
            filter_section(manifest),
            origin_section(manifest),
        ],
        warning=manifest.get("warning"),
    )


def spread(
    samples: Sequence[Mapping[str, Any]], labels: Sequence[Mapping[str, Any]], number: int
) -> list[Mapping[str, Any]]:
    """Choose at most `number` samples, evenly over the range of the first numeric label and sorted by it.

    Where no label is a number: the values of the first category in turn; without labels, evenly over the list.
    """
    numeric = next((label["name"] for label in labels if "values" not in label), None)
    if numeric is None and labels:
        name, order = labels[0]["name"], list(labels[0]["values"])
        seen: Counter[str] = Counter()
        turns = []
        for sample in samples:
            value = sample["labels"][name]
            turns.append((seen[value], order.index(value), sample))
            seen[value] += 1
        first = sorted(turns, key=lambda turn: turn[:2])[:number]
        return [sample for _, _, sample in sorted(first, key=lambda turn: turn[1])]
    values = np.array([sample["labels"][numeric] if numeric else i for i, sample in enumerate(samples)], float)
    if len(values) > number:
        free = values.copy()
        for target in np.linspace(values.min(), values.max(), number):
            free[np.nanargmin(np.abs(free - target))] = np.nan
        chosen = np.flatnonzero(np.isnan(free))
    else:
        chosen = np.arange(len(values))
    return [samples[i] for i in chosen[np.argsort(values[chosen], kind="stable")]]


def _header(manifest: Mapping[str, Any], total: int) -> Html:
    plan = manifest["plan"]
    return element(
        "header",
        element("h1", f"{count(total)} synthetic {'video' if total == 1 else 'videos'}"),
        element(
            "p",
            f"Made by a model with echosdk {manifest['versions']['echosdk']}, not recorded. "
            "This page is evidence for your own assessment, not a certificate.",
            class_="lede",
        ),
        facts(
            {
                "frames each": count(plan["num_frames"]),
                "frames per second": f"{plan['fps']:g}",
                "seconds each": f"{plan['num_frames'] / plan['fps']:.3g}",
            },
            class_="figures",
        ),
    )


def videos_section(
    manifest: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    read_video: Callable[[str], bytes],
    most: int = MAX_VIDEOS,
) -> Html:
    """Return some of the videos, at most so many, with buttons that hold them all."""
    labels, extension = manifest["labels"], manifest["plan"]["format"]
    chosen = spread(samples, labels, most)
    splits = len({sample["split"] for sample in samples}) > 1
    videos = [_playable(read_video(sample["key"]), extension, sample["fps"]) for sample in chosen]
    playing = len(chosen) <= MAX_VIDEOS
    tiles = [_tile(sample, labels, video, splits, playing) for sample, (video, _) in zip(chosen, videos, strict=True)]
    notes = []
    if extension != "mp4":
        notes.append(
            f"Browsers do not play {extension}: these are mp4 copies, close to the dataset's files, not exact. "
        )
    if odd := sorted({size for _, size in videos if size}):
        notes.append(
            f"Copies of {', '.join(odd)} pixels are padded to even sides by repeating the last row or column. "
        )
    order = _order(labels, len(chosen) == len(samples))
    return section(
        "Videos",
        element("p", f"{len(chosen)} of {count(len(samples))} shown, {order}. ", *notes),
        element(
            "div",
            element("button", "Pause all" if playing else "Play all", id="play", type="button", hidden=True),
            element("button", "Half speed", id="slow", type="button", hidden=True, aria_pressed="false"),
            class_="buttons",
        ),
        element("div", *tiles, class_="videos"),
    )


def _tile(
    sample: Mapping[str, Any], labels: Sequence[Mapping[str, Any]], video: bytes, splits: bool, playing: bool
) -> Html:
    shown = {label["name"]: _value(label, sample["labels"][label["name"]]) for label in labels}
    name = ", ".join([sample["key"], *(f"{label} {value}" for label, value in shown.items())])
    url = f"data:video/mp4;base64,{base64.b64encode(video).decode()}"
    flags = {"autoplay": playing, "loop": True, "muted": True, "playsinline": True, "controls": True}
    player = element("video", src=url, aria_label=name, **flags)
    key = element("code", sample["key"] + (f" · {sample['split']}" if splits else ""))
    return element("figure", player, element("figcaption", facts(shown, class_="values") if shown else "", key))


def _playable(data: bytes, extension: str, fps: float) -> tuple[bytes, str | None]:
    """Return a video as mp4, and the size it had (height x width) where it had to be padded to even sides."""
    if extension == "mp4":
        return data, None
    frames: Frames
    if extension == "npy":
        frames = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        frames, fps = decode_video(data)
    height, width = frames.shape[1:3]
    odd = ((0, 0), (0, height % 2), (0, width % 2)) + ((0, 0),) * (frames.ndim - 3)
    size = f"{height} by {width}" if height % 2 or width % 2 else None
    return encode_video(np.pad(frames, odd, mode="edge"), fps, "mp4"), size


def _order(labels: Sequence[Mapping[str, Any]], everything: bool) -> str:
    for label in labels:
        if "values" not in label:
            if everything:
                return f"sorted by {label['name']}, the lowest first"
            return f"spread evenly over the range of {label['name']} and sorted from its lowest to its highest"
    return f"the values of {labels[0]['name']} one after the other" if labels else "spread evenly over the dataset"


def labels_section(labels: Sequence[Mapping[str, Any]], total: int, more: Sequence[Html] = ()) -> Html:
    """Return how each label is distributed, and `more` charts after that."""
    if not labels:
        return section("Labels", element("p", "These videos have no labels."))
    charts = [
        bars(label["name"], label["values"])
        if "values" in label
        else histogram(label["name"], label["unit"], **label["histogram"], mean=label["mean"])
        for label in labels
    ]
    outside = [
        f"{count(missing)} of {count(total)} outside the range of {label['name']}, in none of its bars. "
        for label in labels
        if "values" not in label and (missing := total - sum(label["histogram"]["counts"]))
    ]
    text = f"Over all {count(total)} videos. A label is what a video was asked to show; it was not measured on it. "
    return section("Labels", element("p", text, *outside), element("div", *charts, *more, class_="charts"))


def filter_section(manifest: Mapping[str, Any]) -> Html:
    """Return what the privacy filter did."""
    plan = manifest["plan"]
    if not plan["privacy_filter"]:
        text = "None was used: no sample was compared with any patient, so there is no rejection to count."
        return section("Privacy filter", element("p", text))
    return section(
        "Privacy filter",
        element(
            "p",
            "Every still and every finished video was compared with the training references by ",
            element("code", plan["plugin_set"]["privacy_filter"]["use"]),
            ". What came too near was rejected and drawn again; this dataset holds only what was kept.",
        ),
        table(
            "How often the filter rejected; interval: exact (Clopper-Pearson)",
            ("what", "rejected", "of", "rate", f"95{NO_BREAK}% interval"),
            [_rate(what, rate) for what, rate in manifest["rejected"].items()],
        ),
        element(
            "p",
            "The rate says how often the filter said no, not how often it should have. This is evidence for your own "
            "assessment of singling out, linkability and inference, not a certificate.",
            class_="quiet",
        ),
    )


def _rate(what: str, rate: Mapping[str, Any]) -> tuple[str, ...]:
    hits, n = count(rate["hits"]), count(rate["n"])
    if rate["rate"] is None:
        return what, hits, n, NOT_ASKED, NOT_ASKED
    low, high = rate["interval_95"]
    return what, hits, n, percent(rate["rate"]), f"{percent(low)} to {percent(high)}"


def origin_section(manifest: Mapping[str, Any], beside: str = "Beside this page: ") -> Html:
    """Return what decided the dataset's bytes; `beside` says where the files with the rest of it lie."""
    plan, hardware = manifest["plan"], manifest["hardware"]
    components = {
        kind.replace("_", " "): element("code", chosen["use"])
        for kind, chosen in plan["plugin_set"].items()
        if isinstance(chosen, Mapping)
    }
    if not plan["privacy_filter"]:
        components["privacy filter"] = element("strong", "not used")
    data = manifest["trained_on"]
    parameters = "".join(f", {name} {value}" for name, value in data.get("parameters", {}).items())
    sizes = [f"{value} {name.replace('_', ' ')}" for name, value in data.items() if isinstance(value, int)]
    also = "".join(f"; also on {other['source']}" for other in data.get("also", {}).values())
    seen = f"{parameters}: {', '.join(sizes) or 'not known'}{also}"
    return section(
        "How it was made",
        facts(
            {
                "videos by split": ", ".join(f"{split} {count(n)}" for split, n in plan["counts"].items() if n),
                **components,
                "trained on": join(element("code", data["source"]), seen),
                **({"what that is": data["summary"]} if data.get("summary") else {}),
                "bundle digest": element("code", plan["bundle_digest"][:16]),
                "labels drawn": plan["labels"],
                "seed": str(plan["seed"]),
                "file format": plan["format"],
                "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
                "hardware": ", ".join(dict.fromkeys(str(part) for part in hardware.values())),
            }
        ),
        element(
            "p",
            beside,
            element("code", "dataset.json"),
            " (the whole plan and every checksum), ",
            element("code", "index.csv"),
            " (one line a video) and ",
            element("code", "README.md"),
            " (the dataset's card).",
            class_="quiet",
        ),
    )


def _value(label: Mapping[str, Any], value: Any) -> str:
    if "values" in label:
        return str(value)
    return measured(value, label["high"] - label["low"]) + (f"{NO_BREAK}{label['unit']}" if label["unit"] else "")

"""The dataset card: `README.md` beside the shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from echosdk.generation.like import FEWEST_IN_A_BIN
from echosdk.privacy.holes import MOST, most_videos, rejections_a_patient, seen
from echosdk.words import count


def render_card(manifest: Mapping[str, Any]) -> str:
    """Return the card as Markdown. A warning comes first."""
    plan, counts, rejected = manifest["plan"], manifest["counts"], manifest["rejected"]
    lines = [f"**{manifest['warning']}**", ""] if "warning" in manifest else []
    lines += [
        "# Synthetic video dataset",
        "",
        f"{count(counts['samples'], 'synthetic video')} of {count(plan['num_frames'], 'frame')} at {plan['fps']:g} "
        "frames/s, "
        f"made by echosdk {manifest['versions']['echosdk']}. Its samples were made by a model, not recorded.",
        "",
        "| split | videos |",
        "|---|---|",
        *(f"| {split} | {count} |" for split, count in plan["counts"].items() if count),
        "",
        "## Labels",
        "",
        *(_label(label, plan) for label in manifest["labels"]),
        "",
        *_drawn(plan),
        "Labels are what each video was asked to show. They were not measured on it.",
        "",
        "## Privacy filter",
        "",
    ]
    if plan["privacy_filter"]:
        lines += [
            f"Every still and every finished video was compared with the training references by "
            f"`{plan['plugin_set']['privacy_filter']['use']}`; what came too near was rejected and drawn again.",
            "",
            _settings(plan["plugin_set"]["privacy_filter"], manifest["trained_on"]),
            "",
            *_rates(rejected),
            "",
            *_strangers(manifest.get("strangers")),
            *_holes(manifest),
        ]
    else:
        lines += ["None was used: no sample was compared with any patient.", ""]
    lines += [
        "This is evidence for your assessment of singling out, linkability and inference, not a certificate. "
        "The weights of the models are outside every figure.",
        "",
        "## Where it comes from",
        "",
        f"The models were trained on {_source(manifest['trained_on'])}.",
        "",
        *_about(manifest["trained_on"]),
        f"Files: `*.tar` are WebDataset shards (`KEY.{plan['format']}`, `KEY.json`), `index.csv` lists the samples, "
        "`dataset.json` is the manifest with the plan and every checksum, `preview.html` shows some of it.",
        "",
        "```python",
        "import echosdk",
        'for sample in echosdk.open_dataset("."):',
        '    print(sample["key"], sample["video"].shape, sample["labels"])',
        "```",
        "",
    ]
    return "\n".join(lines)


def _drawn(plan: Mapping[str, Any]) -> list[str]:
    """Say where labels come from; uniform ones are told with their ranges."""
    if plan["labels"] != "empirical":
        return []
    return [
        f"They were drawn as the labels of a real dataset are distributed: from "
        f"{count(len(plan['label_bins']), 'bin')} of at least {FEWEST_IN_A_BIN} patients each (in `dataset.json`), "
        "each as often as it has patients, and numbers evenly within a bin. Combinations that fewer patients share "
        "were not drawn.",
        "",
    ]


def _label(label: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    if "values" in label:
        return f"- `{label['name']}`: " + ", ".join(f"{value} ({count})" for value, count in label["values"].items())
    how = "drawn from" if plan["labels"] == "uniform" else "within"
    how = "drawn from" if plan["labels"] == "uniform" else "within"
    return (
        f"- `{label['name']}` ({label['unit']}): {how} the range {label['low']:g} to {label['high']:g}; "
        f"their mean is {label['mean']:.1f}"
    )


def _settings(chosen: Mapping[str, Any], trained_on: Mapping[str, Any]) -> str:
    """Return the filter's parameters, and of how many patients it was calibrated on."""
    plain = {key: value for key, value in chosen.items() if key != "use" and not isinstance(value, Mapping)}
    settings = ", ".join(f"`{key}` = {_plain(value)}" for key, value in plain.items()) or "none"
    return f"It was calibrated on {trained_on['val_patients']} held-out patients. Its settings: {settings}."


def _plain(value: Any) -> str:
    return json.dumps(value).strip('"')


def _rates(rejected: Mapping[str, Any]) -> list[str]:
    if not rejected:
        return ["How often is not told: of a single video, the count would be its number of attempts."]
    head = ["| what | rejected | of | rate | 95 % interval |", "|---|---|---|---|---|"]
    return [*head, *(_rate(what, rejected[what]) for what in ("stills", "videos"))]


def _strangers(told: Mapping[str, Any] | None) -> list[str]:
    if told is None:
        return ["How many unrelated patients it rejects was not measured: the bundle keeps none of the test split.", ""]
    low, high = told["interval_95"]
    return [
        f"It also rejects {told['rate']:.1%} of unrelated patients (test split; 95 % interval {low:.1%} to {high:.1%}, "
        f"n = {told['n']}).",
        "",
    ]


def _holes(manifest: Mapping[str, Any]) -> list[str]:
    """Say what the rejections themselves may show, and how many videos echosdk's policy allows at this rate."""
    figure = rejections_a_patient(manifest)
    if figure.value is None or figure.interval_95 is None:
        return []
    most, high = most_videos(figure, manifest["counts"]["samples"]), figure.interval_95[1]
    allowed = f"; at this rate that is up to {count(most, 'video')}" if most is not None else ""
    above = "**This is above it.** " if high > MOST else ""
    return [
        f"Rejected stills and videos for each training patient: {figure.value:.2g} (95 % upper bound {high:.2g}). "
        f"echosdk's policy allows {MOST:g}{allowed}. {above}More videos let whoever knows "
        "the filter see around whom nothing was published: at this bound with an area under the ROC curve of up to "
        f"{seen(figure):.2f} (0.5 is guessing).",
        "",
    ]


def _rate(what: str, rate: Mapping[str, Any]) -> str:
    low, high = rate["interval_95"]
    return f"| {what} | {rate['hits']} | {rate['n']} | {rate['rate']:.1%} | {low:.1%} to {high:.1%} |"


def _about(data: Mapping[str, Any]) -> list[str]:
    """What the data source says of itself; a bundle of an earlier version does not know it."""
    return [f"What that data is: {' '.join(data['summary'].split())}", ""] if data.get("summary") else []


def _source(data: Mapping[str, Any]) -> str:
    if "train_clips" not in data:
        return f"other people's data: their weights were published as `{data['source']}`"
    also = "".join(
        f"; the encoder and the video animator also on `{other['source']}`: {other['train_clips']} clips of "
        f"{other['train_patients']} patients"
        for other in data.get("also", {}).values()
    )
    return (
        f"`{data['source']}`: {count(data['train_clips'], 'clip')} of {count(data['train_patients'], 'patient')}, "
        f"{count(data['val_clips'], 'clip')} of {count(data['val_patients'], 'other patient')} for calibration{also}"
    )

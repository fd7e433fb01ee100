"""The report of a protocol: one page and the same as JSON. The verdicts come first, then what they rest on.

Nothing here is computed again: the page shows what the steps wrote. The private edition alone reads the private audit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echosdk.errors import InputError
from echosdk.generation.dataset import read_manifest
from echosdk.generation.files import Folder
from echosdk.generation.plan import Plan
from echosdk.generation.reading import shard_samples
from echosdk.generation.shards import AUDITED_PLAN
from echosdk.integrity import private_folder
from echosdk.privacy.section import section as audit_section
from echosdk.published import last_part
from echosdk.report.figures import BETTER, figure, missing, number
from echosdk.report.page import Html, count, element, facts, join, render_page, section, table
from echosdk.report.pictures import MAX_COURSES, courses_section, picture
from echosdk.report.plots import STYLES, curves, distances
from echosdk.report.preview import filter_section, labels_section, origin_section, spread, videos_section
from echosdk.report.usefulness import distribution_charts, reading_section, usefulness_sentence, verdict_section

SCHEMA_VERSION = 1
MAX_VIDEOS = 12
MAX_REJECTED = 48
NOT_DONE = "not done"
PRIVATE = "PRIVATE: this edition holds what undoes the privacy filter. Keep it as you keep the real data."
EVIDENCE = "This page is evidence for your own assessment, not a certificate."
UNRECORDED = "Not recorded: generate with --private-audit."
KEPT_OF_MANIFEST = ("plan", "counts", "rejected", "labels", "trained_on", "versions", "hardware")


def make_card(
    dataset: Folder,
    *,
    audit: Mapping[str, Any] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    validate: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the report for JSON: `audit`, `evaluate` and `validate` are what these commands gave, or None.

    `seconds` says how long each step took.
    """
    manifest = read_manifest(dataset)
    if audit is not None:
        audit = {**audit, "policy": last_part(audit["policy"]) if "/" in audit["policy"] else audit["policy"]}
    return {
        "schema": SCHEMA_VERSION,
        **({"warning": manifest["warning"]} if "warning" in manifest else {}),
        "verdicts": {
            "usefulness": NOT_DONE if validate is None else validate["comparison"]["verdict"],
            "privacy": NOT_DONE if audit is None else "policy met" if audit["ok"] else "policy not met",
        },
        "validation": validate,
        "audit": audit,
        "evaluation": evaluate,
        "dataset": {key: manifest[key] for key in KEPT_OF_MANIFEST},
        "seconds": dict(seconds or {}),
    }


def render_card_page(card: Mapping[str, Any], dataset: Folder, private: Sequence[Html] = ()) -> str:
    """Return the page of a report; `private` are the parts of the private edition, shown before the others."""
    manifest, validation, audit = card["dataset"], card["validation"], card["audit"]
    total = manifest["counts"]["samples"]
    extension = manifest["plan"]["format"]
    samples = _samples(dataset)
    shown = [*spread(samples, manifest["labels"], MAX_VIDEOS), *spread(samples, manifest["labels"], MAX_COURSES)]
    videos = _videos(dataset, {row["key"] for row in shown}, extension)
    beside = distribution_charts(validation, manifest["labels"]) if validation else []
    parts = [
        _header(card, total),
        *private,
        *([verdict_section(validation)] if validation else []),
        videos_section(manifest, samples, videos.__getitem__, MAX_VIDEOS),
        courses_section(samples, manifest["labels"], videos.__getitem__, extension),
        labels_section(manifest["labels"], total, beside),
        *([reading_section(validation)] if validation else []),
        *([_audit(audit)] if audit else []),
        *([_fidelity(card["evaluation"])] if card["evaluation"] else []),
        filter_section(manifest),
        origin_section(manifest, "In the dataset's folder: "),
        _steps(card),
    ]
    warnings = [PRIVATE] if private else []
    warnings += [card["warning"]] if "warning" in card else []
    return render_page(f"Report on {count(total)} synthetic videos", parts, warning=" ".join(warnings) or None)


def write_private_edition(card: Mapping[str, Any], dataset: Folder, audit: Path) -> Path:
    """Write the page with what the private audit in this folder holds, to the same folder, for its owner alone.

    The folder is made where there is none. Raises `InputError` where it holds the audit of another dataset.
    """
    private_folder(audit)
    of = audit / AUDITED_PLAN
    if of.is_file() and of.read_text().strip() != Plan.of_public(card["dataset"]["plan"]).digest:
        raise InputError(f"--private-audit {audit}: holds the audit of another dataset; choose another place")
    page = render_card_page(card, dataset, [private_section(audit, card["dataset"]["rejected"])])
    path = audit / "report.html"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    return path


def private_section(audit: Path, counted: Mapping[str, Any]) -> Html:
    """Return the filter's distances with tau, and examples of what it rejected, as far as they were recorded.

    `counted` is what the manifest says of rejections; nothing where it does not tell.
    """
    shards = 0
    kept: list[float] = []
    rejected: dict[str, list[float]] = {"still": [], "video": []}
    tau: dict[str, float] = {}
    pictures: list[Html] = []
    for path in sorted(audit.glob("*.json")):
        shard = json.loads(path.read_text())
        if not isinstance(shard, dict) or "samples" not in shard:
            continue
        shards += 1
        tau |= shard["tau"] or {}
        kept += [row["distance"] for row in shard["samples"] if row["distance"] is not None]
        for row in shard["rejected"]:
            rejected[row["what"]].append(row["distance"])
        images = path.with_name(f"{path.stem}-rejected.npy")
        if images.is_file() and len(pictures) < MAX_REJECTED:
            frames = np.load(images, allow_pickle=False)
            shown = zip(frames, shard["rejected"], strict=True)
            pictures += [picture(frame, _said(row)) for frame, row in shown][: MAX_REJECTED - len(pictures)]
    parts: list[Html] = []
    if "video" in tau and kept:
        parts.append(distances("Finished videos", kept, rejected["video"], tau["video"]))
    if "still" in tau and rejected["still"]:
        parts.append(distances("Rejected stills", [], rejected["still"], tau["still"]))
    charts = element("div", *parts, class_="charts") if parts else element("p", "No distance was recorded here.")
    total = sum(map(len, rejected.values()))
    said = f"{len(pictures)} of {total} rejected are shown: what came too near to a training patient."
    said = said if total else "Nothing was rejected." if shards else UNRECORDED
    if lacking := max(0, sum(rate["hits"] for rate in counted.values()) - total):
        said = said if total else UNRECORDED
        said = f"Of {count(lacking)} rejected stills and videos nothing is recorded here. {said}"
    return section(
        "What the filter saw (private)",
        element("p", "Of a video the smallest distance of its frames counts. Whoever has these can undo the filter."),
        charts,
        element("p", said),
        element("div", *pictures, class_="pictures") if pictures else "",
    )


def _header(card: Mapping[str, Any], total: int) -> Html:
    validation, audit = card["validation"], card["audit"]
    useful, private = card["verdicts"]["usefulness"], card["verdicts"]["privacy"]
    usefulness = "No model was trained on it and compared: run the step validate."
    usefulness = usefulness_sentence(validation) if validation else usefulness
    privacy = "It was not audited: run the step audit."
    if audit:
        missed = [each for each in audit["findings"] if not each["met"]]
        of = f"of {len(audit['findings'])} limits of {audit['policy']}"
        unknown = sum(each["reached"] is None for each in missed)
        privacy = f"All {of} are met." if not missed else f"{len(missed)} {of} are not met."
        privacy += f" {unknown} of these could not be measured: too few patients." if unknown else ""
    return element(
        "header",
        element("h1", f"Report on {count(total)} synthetic videos"),
        element("p", f"Made by a model, not recorded. {EVIDENCE}", class_="lede"),
        element(
            "div",
            _verdict("Is it a substitute for the real data?", useful, usefulness, useful == "substitute"),
            _verdict("Does its privacy audit meet the policy?", private, privacy, private == "policy met"),
            class_="verdicts",
        ),
    )


def _verdict(question: str, answer: str, text: str, good: bool) -> Html:
    class_ = "verdict good" if good else "verdict" if answer == NOT_DONE else "verdict bad"
    return element(
        "div", element("h2", question), element("strong", answer.capitalize()), element("p", text), class_=class_
    )


def _audit(audit: Mapping[str, Any]) -> Html:
    told = audit_section(audit)
    roc: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for curve in told.curves:
        family, _, attack = curve.name.rpartition(".")
        roc.setdefault(family or curve.name, {})[attack] = list(curve.points)
    drawn = []
    for family, lines in roc.items():
        for first in range(0, len(lines), len(STYLES)):
            some = dict([*lines.items()][first : first + len(STYLES)])
            said = "The diagonal is guessing; a curve above it finds training patients."
            drawn.append(curves(family, "share of outsiders accused", "share of training patients found", some, said))
    tables = [table(each.caption, each.head, each.rows, wide=True) for each in told.figures]
    return section(
        told.heading,
        element("ul", *(element("li", claim) for claim in told.claims), class_="claims"),
        table(told.verdict.caption, told.verdict.head, told.verdict.rows, wide=True),
        *([element("div", *drawn, class_="charts")] if drawn else []),
        element(
            "details",
            element("summary", f"All {len(audit['figures'])} figures of the audit, by what they ask"),
            *tables,
            class_="printed",
        ),
    )


def _fidelity(evaluation: Mapping[str, Any]) -> Html:
    parts: list[Html] = []
    for subject, found in evaluation["measured"].items():
        rows = []
        for each in found:
            floor = each["floor"]
            least = (
                "-"
                if floor is None
                else f"{number(floor['value'])} ({number(floor['low'])} to {number(floor['high'])})"
            )
            rows.append(
                (each["name"], each["against"] or "-", str(each["n"]), figure(each), least, BETTER[each["direction"]])
            )
        head = ("measure", "against", "n", "value and 95 % interval", "floor: real against real", "better")
        parts.append(table(subject.capitalize(), head, rows, wide=True))
    text = f"{evaluation['n']} generated videos against as many real ones, one of each patient."
    return section("How near it is to real videos", element("p", text), *parts, *missing(evaluation["not_computed"]))


def _steps(card: Mapping[str, Any]) -> Html:
    took = {step: f"{seconds:.0f} s" for step, seconds in card["seconds"].items()}
    parts = [facts(took)] if took else []
    where = join("The same figures, for a machine, are in ", element("code", "report.json"), ".")
    return section("How long the steps took" if took else "For a machine", *parts, element("p", where, class_="quiet"))


def _samples(dataset: Folder) -> list[dict[str, Any]]:
    """Return a row for every sample."""
    return [
        {"key": sample["__key__"], **json.loads(sample["json"])}
        for entry in read_manifest(dataset)["shards"]
        for sample in shard_samples(dataset, entry)
    ]


def _videos(dataset: Folder, keys: Collection[str], extension: str) -> dict[str, bytes]:
    """Return the video files of some samples: no others are kept, for a dataset may be larger than memory."""
    return {
        sample["__key__"]: sample[extension]
        for entry in read_manifest(dataset)["shards"]
        for sample in shard_samples(dataset, entry)
        if sample["__key__"] in keys
    }


def _said(row: Mapping[str, Any]) -> str:
    return f"rejected {row['what']}, attempt {row['attempt']}, distance {row['distance']:.4g}"

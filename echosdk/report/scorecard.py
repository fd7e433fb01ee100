"""The report of a protocol: one page and the same as JSON. The verdicts come first, then what they rest on.

Nothing here is computed again: the page shows what the steps wrote. The private edition alone reads the private audit.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echosdk.generation.dataset import read_manifest, read_samples
from echosdk.generation.files import Folder
from echosdk.published import last_part
from echosdk.report.page import NO_BREAK, Html, count, element, facts, join, render_page, section, table
from echosdk.report.plots import bland_altman, curves, distances, interval, scatter
from echosdk.report.preview import filter_section, labels_section, origin_section, videos_section

SCHEMA_VERSION = 1
MAX_VIDEOS = 12
MAX_REJECTED = 48
BETTER = {
    "lower": "lower is better",
    "higher": "higher is better",
    "one": "1 is best",
    "zero": "0 is best",
    "neither": "",
}
NOT_DONE = "not done"
PRIVATE = "PRIVATE: this edition holds what undoes the privacy filter. Keep it as you keep the real data."
EVIDENCE = "This page is evidence for your own assessment, not a certificate."
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
    samples, videos = _samples(dataset, manifest["plan"]["format"])
    parts = [
        _header(card, total),
        *private,
        *(usefulness_sections(validation) if validation else []),
        *([_audit(audit)] if audit else []),
        *([_fidelity(card["evaluation"])] if card["evaluation"] else []),
        videos_section(manifest, samples, videos.__getitem__, MAX_VIDEOS),
        labels_section(manifest["labels"], total),
        filter_section(manifest),
        origin_section(manifest, "In the dataset's folder: "),
        _steps(card),
    ]
    warnings = [PRIVATE] if private else []
    warnings += [card["warning"]] if "warning" in card else []
    return render_page(f"Report on {count(total)} synthetic videos", parts, warning=" ".join(warnings) or None)


def write_private_edition(card: Mapping[str, Any], dataset: Folder, audit: Path) -> Path:
    """Write the page with what the private audit in this folder holds, to the same folder, for its owner alone."""
    page = render_card_page(card, dataset, [private_section(audit)])
    path = audit / "report.html"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    return path


def private_section(audit: Path) -> Html:
    """Return the filter's distances with tau, and examples of what it rejected, as far as they were recorded."""
    kept: list[float] = []
    rejected: dict[str, list[float]] = {"still": [], "video": []}
    tau: dict[str, float] = {}
    pictures: list[Html] = []
    for path in sorted(audit.glob("*.json")):
        shard = json.loads(path.read_text())
        if not isinstance(shard, dict) or "samples" not in shard:
            continue
        tau |= shard["tau"] or {}
        kept += [row["distance"] for row in shard["samples"] if row["distance"] is not None]
        for row in shard["rejected"]:
            rejected[row["what"]].append(row["distance"])
        images = path.with_name(f"{path.stem}-rejected.npy")
        if images.is_file() and len(pictures) < MAX_REJECTED:
            frames = np.load(images, allow_pickle=False)
            shown = zip(frames, shard["rejected"], strict=True)
            pictures += [_picture(frame, row) for frame, row in shown][: MAX_REJECTED - len(pictures)]
    parts: list[Html] = []
    if "video" in tau and kept:
        parts.append(distances("Finished videos", kept, rejected["video"], tau["video"]))
    if "still" in tau and rejected["still"]:
        parts.append(distances("Rejected stills", [], rejected["still"], tau["still"]))
    charts = element("div", *parts, class_="charts") if parts else element("p", "No distance was recorded here.")
    total = sum(map(len, rejected.values()))
    said = f"{len(pictures)} of {total} rejected are shown: what came too near to a training patient."
    return section(
        "What the filter saw (private)",
        element("p", "Of a video the smallest distance of its frames counts. Whoever has these can undo the filter."),
        charts,
        element("p", said if total else "Nothing was rejected."),
        element("div", *pictures, class_="pictures") if pictures else "",
    )


def _header(card: Mapping[str, Any], total: int) -> Html:
    validation, audit = card["validation"], card["audit"]
    useful, private = card["verdicts"]["usefulness"], card["verdicts"]["privacy"]
    usefulness = "No model was trained on it and compared: run the step validate."
    if validation:
        it, unit = validation["comparison"], _unit(validation)
        more = "more" if it["difference"] > 0 else "less"
        usefulness = (
            f"A model trained on it errs by {abs(it['difference']):.2f}{unit} {more} than one trained on real data, on "
            f"{it['patients']} real test patients. 95 % interval of the difference: {it['low']:+.2f} to "
            f"{it['high']:+.2f}; margin: {it['margin']:g}."
        )
    privacy = "It was not audited: run the step audit."
    if audit:
        missed = [each for each in audit["findings"] if not each["met"]]
        of = f"of {len(audit['findings'])} limits of {audit['policy']}"
        privacy = f"All {of} are met." if not missed else f"{len(missed)} {of} are not met."
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


def usefulness_sections(validation: Mapping[str, Any]) -> list[Html]:
    """Return what a validation's verdict rests on: the difference, table 4, plots."""
    it, unit = validation["comparison"], _unit(validation)
    title = f"Mean absolute error of {validation['label']}"
    sizes = [
        f"{each['seeds']} seeds: {'more than there can be' if each['patients'] is None else each['patients']}"
        for each in validation["needed"]
    ]
    several = f"{it['datasets']} datasets" if it["datasets"] > 1 else "1 dataset: how much datasets differ is not in it"
    rests = section(
        "What the verdict rests on",
        element(
            "p",
            f"{validation['validator']} was trained on real data and on the synthetic videos, from the same seeds, and "
            "both were tested on the same real patients. Substitute: the whole interval is under the margin. Worse: it "
            "is all over it. Not shown: neither.",
        ),
        element(
            "div",
            interval(title, validation["unit"], it["difference"], it["low"], it["high"], it["margin"]),
            class_="charts",
        ),
        facts(
            {
                "test patients": str(it["patients"]),
                "trainings": f"{it['seeds']} seeds of each",
                "datasets": several,
                "degrees of freedom": f"{it['df']:.1f} (Satterthwaite)",
                "p, not inferior": f"{it['p_noninferior']:.3g}",
                "p, equivalent (TOST)": f"{it['p_equivalent']:.3g}",
                "power of this trial": f"{it['power']:.0%}, were there no difference",
                "test patients for 80 %": "; ".join(sizes),
            }
        ),
        table(
            "Trained on one, tested on another (the paper's table 4); means over trainings, 95 % intervals",
            ("trained on", "tested on", "n", f"R2, {BETTER['higher']}", f"MAE{unit}, {BETTER['lower']}",
             f"RMSE{unit}, {BETTER['lower']}", "MAE minus that of"),
            [_table_row(row) for row in validation["rows"]],
            wide=True,
        ),
        *_missing(validation["not_computed"]),
    )  # fmt: skip
    return [rests, _plots(validation)]


def _table_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (_figure(row[name]) for name in ("r2", "mae", "rmse"))
    minus = row["minus"]
    said = f"{minus['value']:+.2f} ({minus['low']:+.2f} to {minus['high']:+.2f}), {minus['against']}" if minus else "-"
    return row["trained_on"], row["tested_on"], str(row["mae"]["n"]), *figures, said


def _plots(validation: Mapping[str, Any]) -> Html:
    """Return scatter and Bland-Altman plots of the rows of table 4, and ROC curves of those tested on real videos."""
    name, unit = validation["label"], validation["unit"]
    asked = {"real", "reconstructed"}
    main = [
        each
        for each in validation["agreements"]
        if each["trained_on"] in asked
        or each["trained_on"].partition(" ")[2].isdecimal()
        or each["trained_on"] == "synthetic"
    ]
    drawn = []
    for each in main:
        title = f"Trained on {each['trained_on']}, tested on {each['tested_on']}"
        drawn.append(scatter(title, name, unit, each["cells"], validation["low"], validation["high"]))
        limits = [each[key]["value"] for key in ("bias", "lower", "upper")]
        if None not in limits:  # of a single clip there are none
            drawn.append(bland_altman(title, name, unit, each["cells"], *limits))
    tested = [each for each in main if each["tested_on"] == "real"][:3]
    for i, roc in enumerate(tested[0]["roc"] if tested else []):
        under = f"{name} under {roc['cutoff']:g}{unit and NO_BREAK + unit}"
        areas = [f"{each['trained_on']} {_figure(each['roc'][i]['area'])}" for each in tested]
        text = f"{roc['below']} of the clips. Area under the curve: {'; '.join(areas)}."
        lines = {f"trained on {each['trained_on']}": each["roc"][i]["curve"] for each in tested}
        drawn.append(curves(under, "share of the others taken for it", "share found", lines, text))
    text = (
        "Every reading of every training. Points are rounded to a hundredth of the label's range and in no patient's "
        "order. Limits of agreement: bias and 1.96 standard deviations (Bland and Altman)."
    )
    return section("How the trained models read", element("p", text), element("div", *drawn, class_="charts"))


def _audit(audit: Mapping[str, Any]) -> Html:
    findings = [
        (
            each["figure"],
            "met" if each["met"] else f"not{NO_BREAK}met",
            _number(each["reached"]),
            each["wants"],
            each["why"],
        )
        for each in audit["findings"]
    ]
    figures = [
        (
            each["name"],
            _number(each["value"]),
            "" if each["interval_95"] is None else f"{each['interval_95'][0]:.3g} to {each['interval_95'][1]:.3g}",
            BETTER[each["better"]],
            str(each["n"]),
            each["of"],
        )
        for each in audit["figures"]
    ]
    roc: list[Html] = []
    for name, points in audit["roc"].items():
        if points:
            line = [(point["false_positives"], point["found"]) for point in points]
            said = "The diagonal is guessing; a curve above it finds training patients."
            roc.append(
                curves(name, "share of outsiders accused", "share of training patients found", {name: line}, said)
            )
    return section(
        "Privacy audit",
        element("ul", *(element("li", claim) for claim in audit["claims"]), class_="claims"),
        table(f"Limits of {audit['policy']}", ("figure", "limit", "reached", "wants", "why"), findings, wide=True),
        table(
            "All figures of the audit; 95 % intervals",
            ("figure", "value", "interval", "better", "n", "of"),
            figures,
            wide=True,
        ),
        *([element("div", *roc, class_="charts")] if roc else []),
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
                else f"{_number(floor['value'])} ({_number(floor['low'])} to {_number(floor['high'])})"
            )
            rows.append(
                (each["name"], each["against"] or "-", str(each["n"]), _figure(each), least, BETTER[each["direction"]])
            )
        head = ("measure", "against", "n", "value and 95 % interval", "floor: real against real", "better")
        parts.append(table(subject.capitalize(), head, rows, wide=True))
    text = f"{evaluation['n']} generated videos against as many real ones, one of each patient."
    return section("How near it is to real videos", element("p", text), *parts, *_missing(evaluation["not_computed"]))


def _missing(not_computed: Sequence[Mapping[str, Any]]) -> list[Html]:
    if not not_computed:
        return []
    said = [
        element("li", f"{each['name']}: {each['why']}.", f" Get it: {each['remedy']}" if each["remedy"] else "")
        for each in not_computed
    ]
    return [element("p", "Not computed:"), element("ul", *said, class_="claims")]


def _steps(card: Mapping[str, Any]) -> Html:
    took = {step: f"{seconds:.0f} s" for step, seconds in card["seconds"].items()}
    parts = [facts(took)] if took else []
    where = join("The same figures, for a machine, are in ", element("code", "report.json"), ".")
    return section("How long the steps took" if took else "For a machine", *parts, element("p", where, class_="quiet"))


def _samples(dataset: Folder, extension: str) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return a row for every sample, and its video file."""
    rows, videos = [], {}
    for entry in read_manifest(dataset)["shards"]:
        for sample in read_samples(dataset.read(f"{entry['shard']}.tar")):
            key = sample["__key__"]
            rows.append({"key": key, **json.loads(sample["json"])})
            videos[key] = sample[extension]
    return rows, videos


def _picture(frame: Any, row: Mapping[str, Any]) -> Html:
    said = f"rejected {row['what']}, attempt {row['attempt']}, distance {row['distance']:.4g}"
    url = f"data:image/png;base64,{base64.b64encode(png(frame)).decode()}"
    return element("figure", element("img", src=url, alt=said), element("figcaption", said))


def png(frame: Any) -> bytes:
    """Return a frame uint8 `h w` or `h w 3` as a PNG file."""
    height, width = frame.shape[:2]
    colour = 2 if frame.ndim == 3 else 0
    lines = b"".join(b"\0" + np.ascontiguousarray(line).tobytes() for line in frame)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def _unit(validation: Mapping[str, Any]) -> str:
    return f"{NO_BREAK}{validation['unit']}" if validation["unit"] else ""


def _number(value: float | None) -> str:
    return f"not{NO_BREAK}measured" if value is None else f"{value:.3g}"


def _figure(figure: Mapping[str, Any]) -> str:
    return f"{_number(figure['value'])} ({_number(figure['low'])} to {_number(figure['high'])})"

"""What a validation's verdict rests on: the difference, the rows of table 4, and how the trained models read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from echosdk.report.figures import BETTER, figure, missing
from echosdk.report.page import NO_BREAK, Html, element, facts, percent, section, table
from echosdk.report.plots import bland_altman, curves, distributions, interval, scatter

MEANS = {
    "substitute": "The whole interval is under the margin",
    "worse": "The whole interval is over the margin",
    "not shown": "The interval holds the margin: this trial shows neither that it is as good nor that it is worse",
}


def usefulness_sentence(validation: Mapping[str, Any]) -> str:
    """Return the verdict in words."""
    it, points = validation["comparison"], _points(validation)
    more = "more" if it["difference"] > 0 else "less"
    blind = validation["why_blind"] if it["verdict"] == "not shown" else ""
    return (
        f"A model trained on it errs by {abs(it['difference']):.2f}{points} {more} than one trained on real data, on "
        f"{it['patients']} real test patients (95 % interval {it['low']:+.2f} to {it['high']:+.2f}; margin "
        f"{it['margin']:g}). {blind or MEANS[it['verdict']] + '.'}"
    )


def verdict_section(validation: Mapping[str, Any]) -> Html:
    """Return the difference, the trial's size and power, and table 4."""
    it, unit = validation["comparison"], _unit(validation)
    several = f"{it['datasets']} datasets" if it["datasets"] > 1 else "1 dataset: how much datasets differ is not in it"
    return section(
        "What the verdict rests on",
        element(
            "p",
            f"{validation['validator']} was trained on real data and on the synthetic videos, alike, and "
            "both were tested on the same real patients. Substitute: the whole interval is under the margin. Worse: it "
            "is all over it. Not shown: neither, or the model trained on real data is not shown to know more than "
            f"nothing, which is one value for every clip. {validation['margin_from']}",
        ),
        element(
            "div",
            interval(
                f"Mean absolute error of {validation['label']}",
                _points(validation).strip(),
                it["difference"],
                it["low"],
                it["high"],
                it["margin"],
            ),
            class_="charts",
        ),
        facts(
            {
                "test patients": str(it["patients"]),
                "trainings": f"{it['seeds']} seeds of each",
                "datasets": several,
                "degrees of freedom": f"{it['df']:.1f} ({'Cochran' if it['datasets'] > 1 else 'Satterthwaite'})",
                "p, not inferior": f"{it['p_noninferior']:.3g}",
                "p, equivalent (TOST)": f"{it['p_equivalent']:.3g}",
                **_power(validation),
            }
        ),
        table(
            "Trained on one, tested on another (the paper's table 4); means over trainings, 95 % intervals",
            ("trained on", "tested on", "n", f"R2, {BETTER['higher']}", f"MAE{unit}, {BETTER['lower']}",
             f"RMSE{unit}, {BETTER['lower']}", "MAE minus that of"),
            [_table_row(row) for row in validation["rows"]],
            wide=True,
        ),
        *[element("p", text) for text in _notes(validation)],
        *missing(validation["not_computed"]),
    )  # fmt: skip


def reading_section(validation: Mapping[str, Any]) -> Html:
    """Return scatter and Bland-Altman plots of the rows of table 4, and ROC curves of those tested on real videos."""
    name, unit = validation["label"], validation["unit"]
    main = [each for each in validation["agreements"] if _is_of_table_4(each["trained_on"])]
    drawn = []
    for each in main:
        title = f"Trained on {each['trained_on']}, tested on {each['tested_on']}"
        drawn.append(scatter(title, name, unit, each["cells"], validation["low"], validation["high"]))
        limits = [each[key]["value"] for key in ("bias", "lower", "upper")]
        if None not in limits:  # of a single clip there are none
            drawn.append(bland_altman(title, name, unit, each["cells"], *limits))
    tested = [each for each in main if each["tested_on"] == "real"][:3]
    trainings = len(validation["rows"][0]["mae_by_seed"])
    clips = sum(count for _, _, count in tested[0]["cells"]) // trainings if tested else 0
    for i, roc in enumerate(tested[0]["roc"] if tested else []):
        under = f"{name} under {roc['cutoff']:g}{unit and NO_BREAK + unit}"
        areas = [f"{each['trained_on']} {figure(each['roc'][i]['area'])}" for each in tested]
        text = f"{roc['below']} of the {clips} clips are. Area under the curve: {'; '.join(areas)}."
        lines = {f"trained on {each['trained_on']}": each["roc"][i]["curve"] for each in tested}
        drawn.append(curves(under, "share of the others taken for it", "share found", lines, text))
    text = (
        "Every reading of every training. Points are rounded to a hundredth of the label's range and in no patient's "
        "order. Limits of agreement: bias and 1.96 standard deviations (Bland and Altman)."
    )
    return section("How the trained models read", element("p", text), element("div", *drawn, class_="charts"))


def distribution_charts(validation: Mapping[str, Any], labels: Sequence[Mapping[str, Any]]) -> list[Html]:
    """Return how the label is distributed in all synthetic videos and in the real test split's; `labels` as listed."""
    name = validation["label"]
    made = [label["histogram"] for label in labels if label["name"] == name and "histogram" in label]
    real = [each["cells"] for each in validation["agreements"] if each["trained_on"] == each["tested_on"] == "real"]
    if not made or not real:
        return []
    edges, last = made[0]["edges"], len(made[0]["counts"]) - 1
    counts = [0] * (last + 1)
    for true, _, n in real[0]:
        counts[min(last, max(0, bisect_right(edges, true) - 1))] += n
    counts = [n // validation["comparison"]["seeds"] for n in counts]  # every training read every clip
    sets = {"synthetic, all": made[0]["counts"], "real, test split": counts}
    return [distributions(f"{name}, synthetic and real", f"{name}{_of(validation)}", edges, sets)]


def _is_of_table_4(trained_on: str) -> bool:
    return trained_on in ("real", "reconstructed", "synthetic") or trained_on.partition(" ")[2].isdecimal()


def _table_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (figure(row[name]) for name in ("r2", "mae", "rmse"))
    minus = row["minus"]
    said = f"{minus['value']:+.2f} ({minus['low']:+.2f} to {minus['high']:+.2f}), {minus['against']}" if minus else "-"
    return row["trained_on"], row["tested_on"], str(row["mae"]["n"]), *figures, said


def _notes(validation: Mapping[str, Any]) -> list[str]:
    """Return what the rows' names do not say, and which dataset is which."""
    notes = [f"{row['trained_on']}: {row['note']}." for row in validation["rows"] if row.get("note")]
    names = validation["datasets"]
    if len(names) > 1:
        notes.append(f"{'; '.join(f'synthetic {number} is {name}' for number, name in enumerate(names, 1))}.")
    return notes


def _power(validation: Mapping[str, Any]) -> dict[str, str]:
    """Say how likely such a trial shows a substitute, and what trial would do; nothing of one that cannot tell."""
    if not validation["needed"]:
        return {}
    return {
        "power of this trial": f"{percent(validation['comparison']['power'])}, were there no difference",
        f"for a power of 80{NO_BREAK}%": _needed(validation["needed"]),
    }


def _needed(sizes: Sequence[Mapping[str, Any]]) -> str:
    """Say what trial would do; a size that none would is said once."""

    def size(each: Mapping[str, Any]) -> str:
        datasets = each.get("datasets", 1)
        return f"{each['seeds']} seeds" + (f" of each of {datasets} datasets" if datasets > 1 else "")

    enough = [f"{each['patients']} test patients with {size(each)}" for each in sizes if each["patients"]]
    never = [size(each) for each in sizes if each["patients"] is None]
    if never:
        enough.append(f"with {never[-1]} or fewer no number of patients is enough")
    return "; ".join(enough)


def _unit(validation: Mapping[str, Any]) -> str:
    return f"{NO_BREAK}{validation['unit']}" if validation["unit"] else ""


def _of(validation: Mapping[str, Any]) -> str:
    return f" ({validation['unit']})" if validation["unit"] else ""


def _points(validation: Mapping[str, Any]) -> str:
    """Return the unit of a difference: 1 % more than 4 % would be 4.04 %."""
    return f"{NO_BREAK}percentage points" if validation["unit"] == "%" else _unit(validation)

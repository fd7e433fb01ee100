"""What an audit lets one say, in sentences of these kinds and no others."""

from __future__ import annotations

from collections.abc import Sequence

from echosdk.privacy.statistics import Figure

ALWAYS = (
    "This is evidence for your assessment of singling out, linkability and inference, not a certificate.",
    "Model weights are outside every figure.",
)

PLANTED = {"probe": "planted patients", "enrolled": "planted simulated patients"}

UNFILTERED = "The dataset was generated without a privacy filter; the gate's figures are of one that was not asked."


def claims(figures: Sequence[Figure], privacy_filter: bool, about: str) -> list[str]:
    """Return what the figures say. `about` is what the data source says of itself."""
    said = [] if privacy_filter else [UNFILTERED]
    found = [each for each in figures if each.name.partition(".")[0] in PLANTED and each.interval_95 is not None]
    for figure in found:
        assert figure.value is not None
        assert figure.interval_95 is not None
        probe, alteration, what = figure.name.split(".")
        rejected = round(figure.value * figure.n)
        said.append(
            f"Of {figure.n} {PLANTED[probe]} the gate rejected {rejected} as a {what} ({alteration.replace('-', ' ')}; "
            f"95 % lower bound {figure.interval_95[0]:.1%})."
        )
    if found:
        said.append("These are the alterations that were tried; others are untested.")
    for figure in figures:
        if figure.name.startswith("innocents.") and figure.value is not None and figure.interval_95 is not None:
            low, high = figure.interval_95
            said.append(
                f"It also rejects {figure.value:.1%} of unrelated patients' {figure.name.partition('.')[2]}s "
                f"(95 % interval {low:.1%} to {high:.1%}, n = {figure.n})."
            )
    attacks = [figure for figure in figures if figure.name.endswith(".found-at-1-percent") and figure.value is not None]
    if attacks:
        strongest = max(attacks, key=lambda figure: figure.value or 0.0)
        assert strongest.interval_95 is not None
        low, high = strongest.interval_95
        said.append(
            f"Our strongest attack found {strongest.value:.1%} of training patients at 1 % false positives (95 % "
            f"interval {low:.1%} to {high:.1%}, best of {len(attacks)}); stronger ones may exist."
        )
    said += ALWAYS
    if "SIMULATION" in about.upper():
        said.append("Figures of simulated patients test the software and say nothing about real patients.")
    return said

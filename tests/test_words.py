"""What is said of a dataset: evidence, with numbers, and never more than was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from echosdk.cli import COMMANDS, app
from echosdk.privacy.claims import claims
from echosdk.privacy.policy import read_policy
from echosdk.privacy.statistics import Figure, share

ROOT = Path(__file__).parents[1]
NEVER = re.compile(
    r"anonym|complian|differential(ly)? priva|safe to (share|publish|release)|no (real )?patient('s data)? is in|"
    r"proof of privacy|guarantee|risk[- ]free|cannot be re-?identif",
    re.IGNORECASE,
)
FORBIDDEN_THERE = "The\nwords proof, anonymous, compliant or safe to share:"  # CONTRIBUTING says which words are never used

CLAIMS = (
    r"Of \d+ planted patients the gate rejected \d+ as a (still|video) \([a-z0-9 ]+; 95 % lower bound [\d.]+%\)\.",
    r"These are the alterations that were tried; others are untested\.",
    r"It also rejects [\d.]+% of unrelated patients' (still|video)s \(95 % interval [\d.]+% to [\d.]+%, n = \d+\)\.",
    r"Our strongest attack found [\d.]+% of training patients at 1 % false positives \(95 % interval [\d.]+% to "
    r"[\d.]+%, best of \d+\); stronger ones may exist\.",
    r"This is evidence for your assessment of singling out, linkability and inference, not a certificate\.",
    r"Model weights are outside every figure\.",
    r"Figures of simulated patients test the software and say nothing about real patients\.",
    r"The dataset was generated without a privacy filter; the gate's figures are of one that was not asked\.",
)


def texts() -> Iterator[Any]:
    """Yield every page, every source file and every command's help."""
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    pages += sorted((ROOT / "docs").rglob("*.md"))
    for folder in ("echosdk", "plugins"):
        pages += sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".toml", ".js", ".css"))
    for path in pages:
        yield pytest.param(path.read_text().replace(FORBIDDEN_THERE, ""), id=str(path.relative_to(ROOT)))
    context = click.Context(app)
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        yield pytest.param(command.get_help(click.Context(command)), id=f"echosdk {name}")


@pytest.mark.parametrize("text", list(texts()))
def test_no_text_says_more_than_can_be_measured(text: str) -> None:
    said = NEVER.search(" ".join(text.split()))
    assert not said, said and said[0]


@pytest.mark.parametrize(
    "text",
    ["fully anonymous", "GDPR-compliant", "differentially private", "safe to share", "no patient is in it", "we guarantee"],
)
def test_the_rule_would_find_what_is_wrong(text: str) -> None:
    assert NEVER.search(text)


def figure(name: str, hits: int = 9, n: int = 10) -> Figure:
    return share(name, hits, n, better="higher", what="patients")


FIGURES = [
    figure("probe.exact.still", 10), figure("probe.another-frame.still"), figure("probe.h264.video"),
    figure("innocents.still", 1), figure("membership.latent.near.found-at-1-percent", 2),
    figure("membership.filter.far.found-at-1-percent", 3), figure("records.latent.authentic"),
]  # fmt: skip


@pytest.mark.parametrize("figures", [FIGURES, [], [Figure(name="probe.exact.still", better="higher", n=0, what="patients")]])
@pytest.mark.parametrize("privacy_filter", [True, False])
def test_an_audit_makes_claims_of_these_kinds_and_no_others(figures: list[Figure], privacy_filter: bool) -> None:
    said = claims(figures, privacy_filter, "SIMULATION of videos")
    assert len(set(said)) == len(said) >= 3
    for claim in said:
        assert any(re.fullmatch(kind, claim) for kind in CLAIMS), claim
    assert any("not a certificate" in claim for claim in said)
    assert any("weights" in claim for claim in said)
    assert said[0].startswith("The dataset was generated without") is not privacy_filter


def test_the_claims_say_what_was_measured() -> None:
    said = " ".join(claims(FIGURES, True, ""))
    assert "Of 10 planted patients the gate rejected 9 as a still (another frame; 95 % lower bound 55.5%)." in said
    assert "Our strongest attack found 30.0% of training patients at 1 % false positives" in said
    assert "simulated" not in said


def test_echosdks_own_policy_cites_no_standard_that_it_does_not_follow() -> None:
    text = (ROOT / "echosdk" / "privacy" / "privacy-policy.toml").read_text()
    assert "The numbers are taken from no standard" in text
    assert not re.search(r"\bISO\b|\bEMA\b|\bGDPR\b|\bHIPAA\b", text + " ".join(limit.why for limit in read_policy()))

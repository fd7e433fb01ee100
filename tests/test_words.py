"""What is said of a dataset: evidence, with numbers, and never more than was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.cli import COMMANDS, app
from echosdk.generation.generate import Options, generate
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
    r"Of \d+ planted( simulated)? patients the gate rejected \d+ as a (still|video) \([a-z0-9 ]+; 95 % lower bound [\d.]+%\)\.",
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
    figure("enrolled.rendered-again.still"),
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
    assert "Of 10 planted simulated patients the gate rejected 9 as a still (rendered again; 95 % lower" in said
    assert "Our strongest attack found 30.0% of training patients at 1 % false positives" in said
    assert "simulated" not in " ".join(claims(FIGURES[:3], True, ""))


def test_echosdks_own_policy_cites_no_standard_that_it_does_not_follow() -> None:
    text = (ROOT / "echosdk" / "privacy" / "privacy-policy.toml").read_text()
    assert "The numbers are taken from no standard" in text
    assert not re.search(r"\bISO\b|\bEMA\b|\bGDPR\b|\bHIPAA\b", text + " ".join(limit.why for limit in read_policy()))


OF_THE_FILTER = (
    r"Every still and every finished video was compared with the training references by `[a-z-]+`; what came too near was "
    r"rejected and drawn again\.",
    r"It was calibrated on \d+ held-out patients\. Its settings: [^.]*(\.\d[^.]*)*\.",
    r"\| what \| rejected \| of \| rate \| 95 % interval \|",
    r"\|(---\|)+",
    r"\| (stills|videos) \| \d+ \| \d+ \| [\d.]+% \| [\d.]+% to [\d.]+% \|",
    r"How often is not told: of a single video, the count would be its number of attempts\.",
    r"Rejected stills and videos for each training patient: [\d.e+-]+ \(95 % upper bound [\d.e+-]+\)\. echosdk's policy allows [\d.]+"
    r"(; at this rate that is up to \d+ videos?)?\. (\*\*This is above it\.\*\* )?More videos let whoever knows the filter see "
    r"around whom nothing was published: at this bound with an area under the ROC curve of up to [\d.]+ \(0\.5 is guessing\)\.",
    r"It also rejects [\d.]+% of unrelated patients \(test split; 95 % interval [\d.]+% to [\d.]+%, n = \d+\)\.",
    r"How many unrelated patients it rejects was not measured: the bundle keeps none of the test split\.",
    r"None was used: no sample was compared with any patient\.",
    r"This is evidence for your assessment of singling out, linkability and inference, not a certificate\. The weights of "
    r"the models are outside every figure\.",
)


@pytest.fixture(scope="module")
def written(trained_tiny: Bundle, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset that was filtered, and one that was not."""
    folder = tmp_path_factory.mktemp("said")
    found = {}
    for name, privacy_filter in (("filtered", True), ("unfiltered", False)):
        options = Options(
            plugin_set="default-tiny", bundle=str(trained_tiny.folder), num_videos=2, num_frames=4,
            privacy_filter=privacy_filter,
        )  # fmt: skip
        generate(str(folder / name), options=options, registry=registry)
        found[name] = folder / name
    return found


@pytest.mark.parametrize("which", ["filtered", "unfiltered"])
def test_what_is_written_beside_a_dataset_says_no_more(which: str, written: dict[str, Path]) -> None:
    for name in ("README.md", "preview.html", "dataset.json"):
        text = " ".join((written[which] / name).read_text().split())
        assert not NEVER.search(text), name
        assert "not a certificate" in text, name
    card = (written[which] / "README.md").read_text()
    _, _, after = card.partition("## Privacy filter\n")
    section, _, _ = after.partition("\n## ")
    said = [line for line in section.splitlines() if line]
    assert len(said) >= 2
    for line in said:
        assert any(re.fullmatch(kind, line) for kind in OF_THE_FILTER), line


def test_the_rule_for_cards_would_find_a_claim_of_another_kind() -> None:
    for line in ("No patient was copied.", "The filter found every copy.", "It was calibrated on 9 held-out patients. It works."):
        assert not any(re.fullmatch(kind, line) for kind in OF_THE_FILTER), line


def test_what_an_audit_prints_says_no_more(
    written: dict[str, Path], trained_tiny: Bundle, run_echosdk: Any
) -> None:
    ended = run_echosdk(
        "audit", str(written["filtered"]), "--data", "phantom?patients=16&frames=40&size=32", "--bundle",
        str(trained_tiny.folder), "--device", "cpu", "--patients", "2", "--videos", "1", "--frames", "1",
    )  # fmt: skip
    assert ended.status in (0, 1), ended.err
    assert not NEVER.search(" ".join((ended.out + ended.err).split()))
    lines = ended.out.splitlines()
    first = next(number for number, line in enumerate(lines) if any(re.fullmatch(kind, line) for kind in CLAIMS))
    claimed = lines[first : first + lines[first:].index("")]
    for line in claimed:
        assert any(re.fullmatch(kind, line) for kind in CLAIMS), line
    assert any("not a certificate" in line for line in claimed)

"""Generation and the gate: what is rejected is drawn again, counted, and never told in public."""

from __future__ import annotations

import json
import math
import shutil
import struct
import tarfile
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from attrs import define

from echosdk import DatasetError, InputError, PrivacyError, References, Registry, Verdict
from echosdk.generation.generate import generate
from echosdk.generation.reading import read_samples
from echosdk.generation.shards import parse_result, read_counts


@define(slots=False)
class Half:
    """Reject about half of all stills, and some videos: distances are a hash of an item's first value."""

    space = "latent"

    def calibrate(self, train: References, holdout: References, generator: torch.Generator) -> None: ...

    def judge(self, stills: torch.Tensor) -> Verdict:
        distance = 100 + torch.sin(1000 * stills[:, 0, 0, 0].double())
        return Verdict(keep=distance >= 100, distance=distance, tau=100.0)


class All(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        n = len(stills)
        return Verdict(keep=torch.zeros(n, dtype=torch.bool), distance=torch.zeros(n), tau=1.0)


class NotANumber(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        verdict = super().judge(stills)
        return attrs.evolve(verdict, distance=verdict.distance * math.nan)


class Mutating(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        verdict = super().judge(stills)
        stills.clamp_(-0.1, 0.1)
        return verdict


class Raising(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        raise KeyError("feature")


class Leaving(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        raise SystemExit(0)


class SelfContradicting(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        verdict = super().judge(stills)
        return attrs.evolve(verdict, keep=torch.ones_like(verdict.keep))


class Complex(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        verdict = super().judge(stills)
        return attrs.evolve(verdict, distance=verdict.distance.to(torch.complex128))


class Hoarding(Half):
    """Keep what was shown, and spoil it when asked the next time."""

    def calibrate(self, train: References, holdout: References, generator: torch.Generator) -> None:
        self.kept: list[torch.Tensor] = []

    def judge(self, stills: torch.Tensor) -> Verdict:
        for earlier in self.kept:
            earlier.zero_()
        self.kept.append(stills)
        return super().judge(stills)


class Shapeless(Half):
    def judge(self, stills: torch.Tensor) -> Verdict:
        verdict = super().judge(stills)
        return attrs.evolve(verdict, keep=verdict.keep.all())


@pytest.fixture(scope="module")
def filtered(options: Any, with_filter: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A dataset of which the filter rejected much, and its private audit."""
    folder = tmp_path_factory.mktemp("filtered")
    wanted = attrs.evolve(options, use=("privacy_filter=strange",), max_attempts=300)
    manifest = generate(str(folder / "out"), options=wanted, registry=with_filter(Half), private_audit=folder / "audit")
    audits = [json.loads(path.read_text()) for path in sorted((folder / "audit").glob("*.json"))]
    return folder, manifest, audits


def test_the_rejected_are_counted_and_the_counts_add_up(filtered: Any) -> None:
    _, manifest, audits = filtered
    stills, videos = manifest["rejected"]["stills"], manifest["rejected"]["videos"]
    rejected = [one["what"] for audit in audits for one in audit["rejected"]]
    assert (rejected.count("still"), rejected.count("video")) == (stills["hits"], videos["hits"])
    assert stills["hits"] > 0
    assert stills["n"] == stills["hits"] + videos["n"]
    assert videos["n"] == 10 + videos["hits"]
    assert stills["rate"] == stills["hits"] / stills["n"]
    low, high = stills["interval_95"]
    assert low < stills["rate"] < high
    attempts = [sample["attempt"] for audit in audits for sample in audit["samples"]]
    assert sum(attempts) == len(rejected)


def test_a_sample_has_the_same_label_whatever_the_attempts(filtered: Any, whole: Any) -> None:
    folder, _, audits = filtered
    assert any(sample["attempt"] > 0 for audit in audits for sample in audit["samples"])
    labels = [
        [
            json.loads(s["json"])["labels"]
            for shard in sorted(out.glob("*.tar"))
            for s in read_samples(shard.read_bytes())
        ]
        for out in (folder / "out", whole.folder)
    ]
    assert labels[0] == labels[1]


def test_kept_samples_are_far_enough_and_rejected_ones_are_not(filtered: Any) -> None:
    _, _, audits = filtered
    for audit in audits:
        for rejected in audit["rejected"]:
            assert rejected["distance"] < rejected["tau"]
        for sample in audit["samples"]:
            assert sample["distance"] >= audit["tau"]["video"]


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for key, inner in value.items() if key not in ("attempt", "sample") for n in numbers_of(inner)]
    if isinstance(value, list):
        return [n for inner in value for n in numbers_of(inner)]
    return [value] if isinstance(value, float) and value not in (100.0, 0.0, 1.0) else []


def test_no_tau_no_distance_and_no_attempt_is_told_anywhere_under_the_dataset(filtered: Any) -> None:
    """The published folder carries a table of the nearest real file names."""
    folder, _, audits = filtered
    secrets = [text for n in numbers_of(audits) for text in (repr(n)[:9].encode(), struct.pack("<d", n))]
    assert len(secrets) > 20
    held = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    for path in (folder / "out").glob("*.tar"):
        with tarfile.open(path) as tar:
            held |= {f"{path.name}/{m.name}": tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    assert len(held) > 20
    for name, data in held.items():
        assert not [secret for secret in secrets if secret in data], name
        for word in (b'"tau', b'"distance', b'"attempt"', b'"nearest'):
            assert word not in data, name
    for path in (folder / "out").rglob("*.json"):
        assert not {"tau", "distance", "attempt", "attempts", "nearest"} & keys_of(json.loads(path.read_text()))


def test_how_often_a_single_shard_was_rejected_is_read_only_with_the_bundles_secret(
    filtered: Any, trained_tiny: Any
) -> None:
    """The shard of the test split holds one sample: its count would be that sample's number of attempts."""
    folder, manifest, audits = filtered
    described = {path.stem: path.read_bytes() for path in (folder / "out").glob("*-*.json")}
    results = {name: parse_result(data) for name, data in described.items()}
    public = [*manifest["shards"], *(json.loads(data) for data in described.values())]
    assert not {key for one in public for key in one} & {"counts", "rejected", "attempts", "stills", "videos"}
    by_name = {audit["samples"][0]["key"]: audit for audit in audits}
    total = 0
    for result in results.values():
        assert result is not None
        counts = read_counts(result, trained_tiny.noise_key)
        audit = by_name[result.samples[0]["key"]]
        assert counts["rejected_stills"] + counts["rejected_videos"] == len(audit["rejected"])
        total += len(audit["rejected"])
        with pytest.raises(DatasetError, match="its counts are not those that were written"):
            read_counts(result, b"another secret")
        with pytest.raises(DatasetError, match="run: echosdk repair"):
            read_counts(attrs.evolve(result, sealed="00"), trained_tiny.noise_key)
    assert total == manifest["counts"]["rejected_stills"] + manifest["counts"]["rejected_videos"]


def test_of_a_single_sample_no_count_is_told(options: Any, with_filter: Any, run_echosdk: Any, tmp_path: Path) -> None:
    wanted = attrs.evolve(options, use=("privacy_filter=strange",), splits={"train": 1}, max_attempts=300)
    manifest = generate(str(tmp_path / "out"), options=wanted, registry=with_filter(Half))
    assert manifest is not None
    assert (manifest["counts"], manifest["rejected"]) == ({"samples": 1}, {})
    card = (tmp_path / "out" / "README.md").read_text()
    assert "How often is not told: of a single video, the count would be its number of attempts." in card


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value} | {key for inner in value.values() for key in keys_of(inner)}
    return {key for inner in value for key in keys_of(inner)} if isinstance(value, list) else set()


def test_the_private_audit_can_be_read_by_its_owner_alone(filtered: Any) -> None:
    folder, _, _ = filtered
    audit = folder / "audit"
    assert audit.stat().st_mode & 0o777 == 0o700
    files = list(audit.iterdir())
    assert any(path.suffix == ".npy" for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_another_datasets_private_audit_is_not_overwritten(
    whole: Any, registry: Registry, tmp_path: Path, digests: Any
) -> None:
    audit = tmp_path / "audit"
    shutil.copytree(whole.audit, audit)
    before = digests(audit)
    with pytest.raises(InputError) as error:
        other = attrs.evolve(whole.options, seed=1)
        generate(str(tmp_path / "out"), options=other, registry=registry, private_audit=audit)
    assert str(error.value) == (
        f"--private-audit {audit}: holds the audit of another dataset; choose another place"
    )
    assert digests(audit) == before


@pytest.mark.parametrize("place", ["bundle", "bundle/private/out", "set.work/latents/train"])
def test_no_dataset_lies_among_private_data(
    place: str, whole: Any, trained_tiny: Any, registry: Registry, tmp_path: Path, digests: Any
) -> None:
    shutil.copytree(trained_tiny.folder, tmp_path / "bundle")
    (tmp_path / "set.work" / "latents").mkdir(parents=True)
    before = digests(tmp_path)
    with pytest.raises(InputError) as error:
        generate(str(tmp_path / place), options=whole.options, registry=registry)
    assert str(error.value).endswith("which holds private data; choose another --out")
    assert digests(tmp_path) == before


def test_a_folder_that_is_only_named_like_a_trainings_is_no_private_place(
    whole: Any, registry: Registry, tmp_path: Path
) -> None:
    out = tmp_path / "my.work" / "out"
    generate(str(out), options=whole.options, registry=registry, shards="3:4")
    assert (out / "test-000000.tar").is_file()


def test_an_empty_place_is_refused(whole: Any, registry: Registry) -> None:
    with pytest.raises(InputError) as error:
        generate("", options=whole.options, registry=registry)
    assert str(error.value) == "the place of the dataset is empty; name a folder or URL"


def test_what_a_filter_does_later_to_what_it_was_shown_changes_nothing(
    options: Any, with_filter: Any, tmp_path: Path, digests: Any
) -> None:
    wanted = attrs.evolve(options, use=("privacy_filter=strange",), max_attempts=300)
    for name, build in (("half", Half), ("hoarding", Hoarding)):
        generate(str(tmp_path / name), options=wanted, registry=with_filter(build), shards="3:4")
    assert digests(tmp_path / "half") == digests(tmp_path / "hoarding")


def test_a_file_that_was_there_becomes_private_too(whole: Any, registry: Registry, tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    audit.mkdir()
    (audit / "test-000000.json").write_text("")
    (audit / "test-000000.json").chmod(0o644)
    generate(str(tmp_path / "out"), options=whole.options, shards="3:4", registry=registry, private_audit=audit)
    assert (audit / "test-000000.json").stat().st_mode & 0o777 == 0o600


def test_a_private_audit_of_shards_that_were_finished_without_one_is_refused_with_the_way_to_get_it(
    whole: Any, as_arguments: Any, run_echosdk: Any, digests: Any, tmp_path: Path
) -> None:
    out, audit = Path(shutil.copytree(whole.folder, tmp_path / "out")), tmp_path / "audit"
    outcome = run_echosdk(*as_arguments(out, "--private-audit", str(audit), "--shards", "2:4"))
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1] == (
        f"echosdk: --private-audit {audit}: has no audit of val-000000, test-000000, finished at {out} by a run without "
        "it, and it can only be written while a shard is made; leave the option out, or remove the .tar and .json of "
        "those shards and run the same command again, which makes the same bytes"
    )
    assert not audit.exists()
    for shard in out.glob("*-00000?.*"):
        shard.unlink()
    assert run_echosdk(*as_arguments(out, "--private-audit", str(audit))).status == 0
    assert digests(out) == digests(whole.folder)
    assert digests(audit) == digests(whole.audit)
    assert run_echosdk(*as_arguments(out, "--private-audit", str(audit))).status == 0, "all of it is there"


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("inside", ["out", "out/audit", "out/../out/x"])
def test_a_private_audit_inside_the_dataset_is_refused(
    scheme: str, inside: str, as_arguments: Any, run_echosdk: Any, tmp_path: Path
) -> None:
    out = f"{scheme}{tmp_path}/out"
    outcome = run_echosdk(*as_arguments(out, "--private-audit", str(tmp_path / inside)))
    assert outcome.status == 2
    assert f"lies inside {out}, which is to be shared; choose another place" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_filter_that_rejects_everything_ends_with_an_error_that_gives_the_rates(
    with_filter: Any, as_arguments: Any, run_echosdk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "discover", classmethod(lambda cls: with_filter(All)))
    out = tmp_path / "out"
    outcome = run_echosdk(*as_arguments(out, "--use", "privacy_filter=strange", "--max-attempts", "3"))
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1].startswith(
        "echosdk: the privacy filter rejected sample 0 3 times; so far it rejected 7 of 9 stills and 0 of 0 videos."
    )
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (NotANumber, "a distance or tau is not a number"),
        (Mutating, "judge() changed the stills that it was shown"),
        (Raising, "the filter failed: KeyError: 'feature'"),
        (Shapeless, "but keep has shape ()"),
        (Leaving, "the filter failed: SystemExit: 0"),
        (SelfContradicting, "keeps an item that is nearer than its own tau"),
        (Complex, "distance is torch.complex128; it is to be a plain float tensor"),
    ],
)
def test_a_filter_that_breaks_its_contract_writes_nothing(
    broken: Any, says: str, with_filter: Any, options: Any, tmp_path: Path
) -> None:
    wanted = attrs.evolve(options, use=("privacy_filter=strange",))
    with pytest.raises(PrivacyError) as error:
        generate(str(tmp_path / "out"), options=wanted, registry=with_filter(broken))
    assert str(error.value).startswith("strange of strangers (module 0): ")
    assert says in str(error.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("broken", [NotANumber, Mutating, Raising, Shapeless, Leaving, SelfContradicting])
def test_a_filter_that_breaks_in_the_middle_of_a_run_stops_it_and_keeps_what_was_judged_well(
    broken: Any, with_filter: Any, options: Any, tmp_path: Path
) -> None:
    class Later(broken):  # type: ignore[misc]
        """Keep everything at first: the held-out, the test split, then stills and each video of the first shard's batches."""

        asked = 0

        def judge(self, stills: torch.Tensor) -> Verdict:
            Later.asked += 1
            if Later.asked > 2 + 2 + 4:
                return super().judge(stills)
            n = len(stills)
            return Verdict(keep=torch.ones(n, dtype=torch.bool), distance=torch.full((n,), 2.0), tau=1.0)

    wanted = attrs.evolve(options, use=("privacy_filter=strange",))
    with pytest.raises(PrivacyError, match=r"^strange of strangers \(module 0\): "):
        generate(str(tmp_path / "out"), options=wanted, registry=with_filter(Later))
    there = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix in (".tar", ".json")}
    assert {name for name in there if name.endswith(".tar")} == {"train-000000.tar"}
    assert "dataset.json" not in there


def test_without_a_filter_everything_that_comes_out_says_so_first(
    options: Any, as_arguments: Any, run_echosdk: Any, tmp_path: Path
) -> None:
    outcome = run_echosdk(*as_arguments(tmp_path / "out", "--no-privacy-filter"))
    warning = "WARNING: generated without a privacy filter"
    assert outcome.status == 0
    assert outcome.out.startswith(warning)
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert next(iter(manifest)) == "warning"
    assert manifest["warning"].startswith(warning)
    assert manifest["plan"]["privacy_filter"] is False
    assert (tmp_path / "out" / "README.md").read_text().startswith(f"**{warning}")
    assert warning in (tmp_path / "out" / "preview.html").read_text()

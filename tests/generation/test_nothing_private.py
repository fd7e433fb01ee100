"""Every byte of a dataset and of a stripped bundle, tars included: none is a real id, a reference, a distance or a seed."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from echosdk import BundleError, Registry
from echosdk.bundle import PRIVATE, Bundle, add_stage, strip
from echosdk.generation.generate import generate
from echosdk.generation.pipeline import Pipeline
from echosdk.generation.plan import Plan
from echosdk.interfaces import KINDS, SPLITS
from echosdk.noise_key import NOISE_KEY
from echosdk.plugin_set import open_source
from echosdk.seeding import seed_of

DATA = "phantom?patients=16&frames=40&size=32"  # what the tiny bundle was trained on
PURPOSES = ("still", "video")
CANARY = b"a-planted-record-of-patient-4711"
RECORD = torch.arange(64).sin()


def walk(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of every file, and of every member of every tar; names are looked at too."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        yield name, name.encode()
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield name, data
        if path.suffix == ".tar":
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for member in tar:
                    about = [member.name, member.uname, member.gname, member.linkname, str(member.pax_headers)]
                    yield f"{name}: {member.name}", " ".join(about).encode()
                    if (file := tar.extractfile(member)) is not None:
                        yield f"{name}: {member.name}", file.read()


def found(folder: Path, secrets: dict[str, bytes]) -> dict[str, str]:
    """Return which secrets lie in a folder, and where."""
    return {what: name for name, data in walk(folder) for what, secret in secrets.items() if secret in data}


def numbers(what: str, value: float) -> dict[str, bytes]:
    """A number as text and in the bytes of a float of either length; a round one lies everywhere and is no secret."""
    if len(repr(value)) < 10:
        return {}
    return {
        f"{what} as text": repr(value)[:10].encode(),
        f"{what} as a double": struct.pack("<d", value),
        f"{what} as a big-endian double": struct.pack(">d", value),
        f"{what} in single precision": struct.pack("<f", value),
    }


def test_the_seeds_that_are_looked_for_are_those_that_are_drawn_from(
    trained_tiny: Bundle, whole: Any, of_the_run: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    real = seed_of

    def noted(*parts: Any, key: bytes = b"") -> int:
        drawn.append(parts)
        return real(*parts, key=key)

    monkeypatch.setattr("echosdk.seeding.seed_of", noted)
    generate(str(tmp_path / "out"), options=whole.options, registry=registry)
    seed = whole.options.seed
    of_samples = {f"seed {parts[1]} {parts[2:]}" for parts in drawn if parts[0] == seed and len(parts) > 2}
    assert of_samples & set(of_the_run)
    assert {name for name in of_samples if name not in of_the_run} == set()


@pytest.fixture(scope="module")
def ids(registry: Registry) -> dict[str, bytes]:
    source = open_source(registry, DATA)
    clips = [clip for split in SPLITS for clip in source.clips(split)]
    return {f"id {name}": name.encode() for clip in clips for name in (clip.id, clip.group)}


@pytest.fixture(scope="module")
def of_the_bundle(trained_tiny: Bundle, whole: Any, registry: Registry) -> dict[str, bytes]:
    """References, noise key, tau, the filter's weights and scaling."""
    secrets: dict[str, bytes] = {}
    tensors = load_file(trained_tiny.folder / PRIVATE / "references.safetensors")
    for split in ("train", "holdout"):
        for number, item in enumerate(tensors[split]):
            values = item.flatten()[40:72]
            secrets[f"{split} {number}"] = values.numpy().tobytes()
            secrets[f"{split} {number} in single precision"] = values.float().numpy().tobytes()
    weights = load_file(trained_tiny.folder / PRIVATE / "privacy_filter" / "network.safetensors")
    for name, tensor in weights.items():
        if tensor.numel() >= 32 and tensor.float().std() > 0:
            secrets[f"filter's {name}"] = tensor.flatten()[:32].numpy().tobytes()
    scaling = json.loads((trained_tiny.folder / PRIVATE / "privacy_filter" / "normalisation.json").read_text())
    secrets["scaling, low"], secrets["scaling, high"] = (str(scaling[key]).encode() for key in ("low", "high"))
    key = trained_tiny.noise_key
    secrets |= {"noise key": key, "noise key in letters": key.hex().encode()}
    plan = Plan.of_public(whole.manifest["plan"])
    gate = Pipeline.load(plan, trained_tiny, registry).gate
    assert gate is not None
    for what, tau in gate.thresholds(plan.num_frames).items():
        secrets |= numbers(f"tau of a {what}", tau)
    return secrets


@pytest.fixture(scope="module")
def of_the_run(trained_tiny: Bundle, whole: Any) -> dict[str, bytes]:
    """Every distance of a sample or of what was rejected, and every generator's seed."""
    secrets: dict[str, bytes] = {}
    for path in sorted(whole.audit.glob("*.json")):
        audit = json.loads(path.read_text())
        for row in audit["samples"]:
            secrets |= numbers(f"distance of {row['key']}", row["distance"])
        for row in audit["rejected"]:
            secrets |= numbers(f"distance of a rejected {row['what']} of {row['sample']}", row["distance"])
    labels = [("label", label.name) for label in trained_tiny.manifest.labels]
    for sample in range(whole.manifest["counts"]["samples"]):
        of_noise = [(attempt, purpose) for attempt in range(3) for purpose in PURPOSES]
        for parts in (*of_noise, *labels, ("label bin",)):
            seed = seed_of(whole.options.seed, sample, *parts, key=trained_tiny.noise_key)
            secrets[f"seed {sample} {parts}"] = str(seed).encode()
            secrets[f"seed {sample} {parts} in bytes"] = struct.pack("<Q", seed)
    return secrets


def test_the_walk_finds_what_is_there(
    trained_tiny: Bundle, whole: Any, ids: Any, of_the_bundle: Any, of_the_run: Any, tmp_path: Path
) -> None:
    """The bundle's private part holds the references, the private audit the distances; a tar hides nothing."""
    held = found(trained_tiny.folder, of_the_bundle)
    wanted = {what for what in of_the_bundle if "precision" not in what and what != "noise key" and "tau" not in what}
    assert set(held) == wanted
    assert {name.partition("/")[0] for name in held.values()} == {PRIVATE}
    told = found(whole.audit, of_the_run)
    assert {what for what in of_the_run if what.startswith("distance") and what.endswith("text")} <= set(told)
    assert {what for what in of_the_bundle if "tau" in what and what.endswith("text")} <= set(
        found(whole.audit, of_the_bundle)
    )
    some = dict(list(ids.items())[:3])
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for secret in some.values():
            info = tarfile.TarInfo("sample.json")
            info.size = len(secret)
            tar.addfile(info, io.BytesIO(secret))
    assert set(found(tmp_path, some)) == set(some)


def test_no_byte_of_a_dataset_is_of_a_patient_or_of_the_gate(
    whole: Any, ids: Any, of_the_bundle: Any, of_the_run: Any
) -> None:
    assert found(whole.folder, ids | of_the_bundle | of_the_run) == {}


def test_no_key_of_a_datasets_json_names_what_is_private(whole: Any) -> None:
    private = re.compile(r'"(attempts?|distances?|tau|nearest|references?|seeds|noise_key|group|patient)"\s*:')
    for name, data in walk(whole.folder):
        if name.endswith(".json"):
            assert not private.search(data.decode()), name


def test_no_byte_of_a_stripped_bundle_is_of_a_patient_or_of_the_filter(
    trained_tiny: Bundle, ids: Any, of_the_bundle: Any, tmp_path: Path
) -> None:
    strip(trained_tiny, tmp_path / "stripped")
    assert found(tmp_path / "stripped", ids | of_the_bundle) == {}
    assert not (tmp_path / "stripped" / PRIVATE).exists()


def test_a_record_planted_in_the_private_part_of_every_component_leaves_no_trace(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """And in what an interrupted training leaves behind, wherever in the bundle."""
    places = [
        *(tiny_bundle / PRIVATE / kind / "record.safetensors" for kind in KINDS),
        *(tiny_bundle / f"{kind}.partial" / "record.safetensors" for kind in KINDS),
        tiny_bundle / PRIVATE / "references.partial",
        tiny_bundle / ".stage-abc" / "private" / "record.json",
        tiny_bundle / "bundle.json.partial",
        tiny_bundle / "latents.npy",
        tiny_bundle / f"private.old-{CANARY.decode()}" / NOISE_KEY,
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CANARY)
    assert found(tiny_bundle, {"record": CANARY})
    strip(Bundle.open(str(tiny_bundle)), tmp_path / "stripped")
    assert found(tmp_path / "stripped", {"record": CANARY}) == {}
    learned = {path.name for path in (tmp_path / "stripped").iterdir()}
    assert learned == {"bundle.json", "encoder", "image_prior", "video_animator", "downstream_validator"}


def test_a_record_that_a_component_of_any_kind_keeps_leaves_no_trace(tiny_bundle: Path, tmp_path: Path) -> None:
    """Each is saved as a training saves it: what may be published in one folder, what derives from a record in another."""

    class Keeping:
        def save(self, public: Path, private: Path) -> None:
            save_file({"weights": torch.zeros(3)}, public / "weights.safetensors")
            save_file({"record": RECORD, "more": torch.zeros(2)}, private / "records.safetensors")
            (private / "names.json").write_text(json.dumps({"patient": CANARY.decode()}))

    bundle = Bundle.open(str(tiny_bundle))
    for kind in KINDS:
        choice = {"use": "keeping", "parameters": {}, "seed": 0}
        bundle = add_stage(bundle, kind, Keeping(), None, {"choice": choice, "facts": {}})
    planted = {"record": RECORD.numpy().tobytes(), "name": CANARY}
    held = [name for name, data in walk(tiny_bundle) if all(secret in data for secret in [planted["record"]])]
    assert held == sorted(f"{PRIVATE}/{kind}/records.safetensors" for kind in KINDS)
    strip(bundle, tmp_path / "stripped")
    assert found(tmp_path / "stripped", planted) == {}
    assert {path.parent.name for path in (tmp_path / "stripped").glob("*/weights.safetensors")} == set(KINDS)


@pytest.mark.parametrize("kind", ["encoder", "image_prior", "video_animator", "downstream_validator"])
def test_a_record_among_a_components_published_files_is_not_stripped_away_but_refused(
    kind: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tiny_bundle / kind / "record.safetensors").write_bytes(CANARY)
    with pytest.raises(BundleError) as error:
        strip(Bundle.open(str(tiny_bundle)), tmp_path / "stripped")
    assert str(error.value) == (
        f"{tiny_bundle / kind}: its files are not those that were trained, and might be private; fetch the bundle again"
    )
    assert not (tmp_path / "stripped").exists()


def test_rejected_stills_of_the_private_audit_are_not_in_the_dataset(whole: Any, tmp_path: Path) -> None:
    rejected = list(whole.audit.glob("*-rejected.npy"))
    for path in rejected:
        data = path.read_bytes()[-256:]
        assert found(whole.folder, {"rejected": data}) == {}
    copied = Path(shutil.copytree(whole.audit, tmp_path / "audit"))
    assert not rejected or found(copied, {"rejected": rejected[0].read_bytes()[-256:]})


def test_latents_are_not_all_alike_so_that_a_reference_can_be_told_from_another(trained_tiny: Bundle) -> None:
    """Otherwise the walk would look for what lies everywhere."""
    train, _, _ = trained_tiny.references()
    assert torch.unique(train.items.flatten(1)[:, 40:72], dim=0).shape[0] == len(train.items)

"""A bundle is refused where it is damaged, could run code, or does not fit; a stripped one holds nothing private."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import fsspec
import pytest

import echosdk
from echosdk.bundle import MANIFEST, Bundle, begin_bundle, strip, summary
from echosdk.generation.generate import Options, make_plan
from echosdk.integrity import digest
from echosdk.interfaces import KINDS
from echosdk.plugin_set import PluginSet, resolve

LEARNED = {
    "encoder": "vae",
    "image_prior": "lidm",
    "privacy_filter": "pearson-reid",
    "video_animator": "lvdm",
    "downstream_validator": "ef-regressor",
}


@pytest.fixture
def load(registry):
    """Build a component of a bundle and give it its state."""

    def load(folder: Path, kind: str, name: str | None = None):
        bundle = Bundle.open(str(folder))
        component = bundle.plugin_set.build(registry, kind)
        bundle.load(kind, component, name or LEARNED[kind])
        return component

    return load


def change_manifest(folder, change):
    plain = json.loads((folder / MANIFEST).read_text())
    change(plain)
    (folder / MANIFEST).write_text(json.dumps(plain))


def flip(path, at=-1):
    """Change one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def error_of(function, *arguments, kind=echosdk.BundleError, **options):
    with pytest.raises(kind) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def plan_of(folder, registry, **options):
    return make_plan(Options(plugin_set="default-tiny", bundle=str(folder), **options), registry)


def test_every_stage_loads_what_was_trained(tiny_bundle, load):
    for kind in LEARNED:
        assert load(tiny_bundle, kind) is not None


@pytest.mark.parametrize("kind", LEARNED)
def test_a_flipped_bit_in_the_weights_is_refused(tiny_bundle, load, kind):
    (weights,) = (tiny_bundle / ("private" if kind == "privacy_filter" else ".") / kind).glob("*.safetensors")
    flip(weights)
    assert error_of(load, tiny_bundle, kind) == (
        f"{weights.parent}: damaged: its files are not those that were trained; fetch the bundle again"
    )


def test_a_file_too_many_or_too_few_is_refused(tiny_bundle, load):
    (tiny_bundle / "encoder" / "more.json").write_text("{}")
    assert "damaged" in error_of(load, tiny_bundle, "encoder")
    (tiny_bundle / "image_prior" / "latent.json").unlink()
    assert "damaged" in error_of(load, tiny_bundle, "image_prior")


@pytest.mark.parametrize("name", ["weights.pkl", "deep/er.PT", "model.bin", "more.py"])
def test_a_file_that_could_run_code_is_refused_before_it_is_read(tiny_bundle, load, name):
    path = tiny_bundle / "image_prior" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"cos\nsystem\n")
    assert error_of(load, tiny_bundle, "image_prior") == (
        f"{path}: refused: reading a {path.suffix} file can run code; bundles hold safetensors and JSON"
    )


def test_a_private_file_that_could_run_code_is_refused(tiny_bundle, load):
    (tiny_bundle / "private" / "privacy_filter" / "network.pickle").write_bytes(b"")
    assert "network.pickle: refused" in error_of(load, tiny_bundle, "privacy_filter")


def test_a_learned_component_without_state_says_how_to_train_it(tiny_bundle, load):
    change_manifest(tiny_bundle, lambda plain: plain["stages"].pop("image_prior"))
    assert error_of(load, tiny_bundle, "image_prior") == (
        f"bundle {tiny_bundle} holds no trained state for image_prior 'lidm'; train it: "
        "echosdk train --stage image_prior --use image_prior=lidm --data SOURCE --out BUNDLE"
    )


def test_the_state_of_another_component_is_not_taken(tiny_bundle, load):
    assert error_of(load, tiny_bundle, "privacy_filter", name="other") == (
        f"bundle {tiny_bundle} holds no trained state for privacy_filter 'other'; train it: "
        "echosdk train --stage privacy_filter --use privacy_filter=other --data SOURCE --out BUNDLE"
    )


def test_a_component_that_learns_nothing_needs_no_state(tiny_bundle, load):
    assert load(tiny_bundle, "stitcher", "overlap-discard") is not None


@pytest.mark.parametrize("kind", ["image_prior", "privacy_filter", "video_animator"])
def test_what_was_trained_on_another_encoder_is_refused(tiny_bundle, load, kind):
    change_manifest(tiny_bundle, lambda plain: plain["stages"][kind].update(encoder="0" * 64))
    assert error_of(load, tiny_bundle, kind) == (
        f"bundle {tiny_bundle}: {kind} was trained on another encoder; train it again: --stage {kind}"
    )


def test_another_encoder_that_learns_nothing_is_refused_too(tiny_bundle, registry, make_module):
    source = """
        import echosdk

        class Identity:
            latent_shape = (1, 32, 32)
            def to(self, device, dtype): pass
            def encode(self, images): return images
            def decode(self, latents): return latents

        @echosdk.hookimpl
        def echosdk_encoders():
            yield echosdk.Component(name="pixels", build=Identity, summary="")
    """
    both = registry.with_modules(make_module("pixels", source))
    assert error_of(plan_of, tiny_bundle, both, use=("encoder=pixels",)) == (
        f"--use encoder: bundle {tiny_bundle} was trained on the latents of 'vae', and those of 'pixels' are others; "
        "train another bundle with it"
    )


def test_no_bundle_is_said_with_the_installed_ones(registry, tmp_path):
    installed = ", ".join(registry.names("bundle")) or "none"
    assert error_of(Bundle.open, str(tmp_path), registry) == (
        f"{tmp_path}: no bundle here: bundle.json is missing (installed bundles: {installed})"
    )
    assert error_of(Bundle.open, "foo://x") == "foo://x: no bundle here: Protocol not known: foo"
    assert error_of(Bundle.open, "memory://nowhere") == "memory://nowhere: no bundle here: bundle.json is missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged: JSONDecodeError: Expecting property name"),
        ("[]", "damaged: holds no table"),
        ("{}", "schema None; this version reads 1"),
        ('{"schema": 2}', "schema 2; this version reads 1"),
        ('{"schema": 1}', "damaged: "),
        ("[" * 100 + "]" * 100, "damaged: ValueError: more than 64 tables and lists lie in each other; fetch"),
        ("[" * 99999, "damaged: ValueError: more than 64 tables and lists lie in each other; fetch"),
        ('{"schema": ' + "1" * 5000 + "}", "damaged: ValueError: Exceeds the limit (4300 digits)"),
    ],
    ids=lambda value: value[:20],
)
def test_a_damaged_manifest_is_refused(tiny_bundle, text, message):
    (tiny_bundle / MANIFEST).write_text(text)
    assert error_of(Bundle.open, str(tiny_bundle)).startswith(f"{tiny_bundle / MANIFEST}: {message}")


def test_a_manifest_with_a_key_too_many_is_refused(tiny_bundle):
    change_manifest(tiny_bundle, lambda plain: plain.update(run="rm"))
    assert "run" in error_of(Bundle.open, str(tiny_bundle))


def test_damaged_private_files_are_refused(tiny_bundle):
    bundle = Bundle.open(str(tiny_bundle))
    for text in ("no key", "", "ab", "ab" * 33):
        (tiny_bundle / "private" / "noise.key").write_text(text)
        assert error_of(lambda: bundle.noise_key) == (
            f"{tiny_bundle}/private/noise.key: damaged: holds no key; fetch the bundle again"
        )
    (tiny_bundle / "private" / "references.safetensors").write_bytes(b"xxxxxxxxxxxx")
    assert error_of(bundle.references).startswith(f"{tiny_bundle}/private/references.safetensors: damaged: ")
    (tiny_bundle / "private" / "references.safetensors").unlink()
    assert error_of(bundle.references) == (
        f"bundle {tiny_bundle}: private/references.safetensors is missing: it is lost, or the training has not come so far"
    )
    shutil.rmtree(tiny_bundle / "private")
    assert error_of(bundle.references) == (
        f"bundle {tiny_bundle}: private/references.safetensors is missing: this bundle was stripped"
    )


def test_another_bundles_noise_key_is_refused(tiny_bundle, tmp_path):
    """With it the noise of both could be replayed by whoever has one of them."""
    other = begin_bundle(tmp_path / "other", Bundle.open(str(tiny_bundle)).manifest)
    assert other.manifest.identity != Bundle.open(str(tiny_bundle)).manifest.identity
    key = tiny_bundle / "private" / "noise.key"
    for names in (["noise.key"], ["noise.key", "noise.of"]):
        for name in names:
            shutil.copy(other.folder / "private" / name, tiny_bundle / "private")
        assert error_of(Bundle.open, str(tiny_bundle)) == (
            f"{key}: is the noise key of another bundle; put back the one that was made with this bundle, or fetch the "
            "bundle again"
        )
    (tiny_bundle / "private" / "noise.of").unlink()
    assert "private/noise.of is missing: it is lost" in error_of(Bundle.open, str(tiny_bundle))


def test_a_bundle_of_an_earlier_version_has_no_identity_and_is_opened(tiny_bundle):
    (tiny_bundle / "private" / "noise.of").unlink()
    change_manifest(tiny_bundle, lambda plain: plain.pop("identity"))
    assert len(Bundle.open(str(tiny_bundle)).noise_key) == 32


def test_private_files_are_for_the_owner_only(tiny_bundle):
    for name in ("noise.key", "noise.of", "references.safetensors"):
        assert (tiny_bundle / "private" / name).stat().st_mode & 0o077 == 0, name


def test_references_carry_pseudonyms_only(tiny_bundle):
    train, holdout, videos = Bundle.open(str(tiny_bundle)).references()
    assert len(train.items) == len(train.groups)
    assert len(holdout.items) == len(videos)
    assert not set(train.groups) & set(holdout.groups)
    assert all(group.isdigit() for group in (*train.groups, *holdout.groups))


def test_a_bundle_is_opened_from_any_url(tiny_bundle, load):
    remote = fsspec.filesystem("memory")
    remote.put(f"{tiny_bundle}/", "/bundles/tiny/", recursive=True)
    opened = Bundle.open("memory://bundles/tiny")
    assert opened.digest == Bundle.open(str(tiny_bundle)).digest
    assert not opened.stripped
    assert load(opened.folder, "encoder") is not None


def test_a_stripped_bundle_holds_the_public_part_and_nothing_else(tiny_bundle, tmp_path):
    out = tmp_path / "deep" / "stripped"
    whole = Bundle.open(str(tiny_bundle))
    strip(whole, out)
    stripped = Bundle.open(str(out))
    assert stripped.stripped
    assert stripped.digest == whole.digest
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, *sorted(set(LEARNED) - {"privacy_filter"})]
    assert [path.name for path in out.parent.iterdir()] == ["stripped"]


def test_strip_leaves_out_what_an_interrupted_training_left(tiny_bundle, tmp_path):
    """Half-saved stages lie under a name of their own, private files included."""
    shutil.copytree(tiny_bundle / "private" / "privacy_filter", tiny_bundle / ".stage-x1" / "private")
    before = Bundle.open(str(tiny_bundle)).digest
    strip(Bundle.open(str(tiny_bundle)), tmp_path / "out")
    secret = digest(tiny_bundle / "private" / "privacy_filter")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_dir() and digest(path) == secret]
    assert Bundle.open(str(tmp_path / "out")).digest == before


def test_strip_overwrites_nothing(tiny_bundle, tmp_path):
    assert error_of(strip, Bundle.open(str(tiny_bundle)), tmp_path) == (
        f"{tmp_path}: exists; choose another place for the stripped bundle"
    )


def test_strip_writes_nothing_into_the_bundle(tiny_bundle):
    before = digest(tiny_bundle)
    for out in (tiny_bundle / "sub", tiny_bundle / "private" / "sub", tiny_bundle / "x" / ".." / "sub"):
        assert error_of(strip, Bundle.open(str(tiny_bundle)), out) == (
            f"{out}: lies in the bundle {tiny_bundle}; choose another place for the stripped bundle"
        )
    assert digest(tiny_bundle) == before


@pytest.mark.parametrize(
    "left",
    [{}, {"noise.key": ""}, {"noise.key": "ab"}, {"noise.key.partial": "ab"}, {"noise.key": "ab", "../bundle.json.partial": "{"},
     {"noise.key": "ab", "noise.of.partial": "ab"}, {"noise.key": "ab", "noise.of": "ab"}],
)
def test_a_bundle_whose_begin_was_killed_is_begun_again(left, tiny_bundle, tmp_path):
    (tmp_path / "new" / "private").mkdir(parents=True)
    for name, text in left.items():
        (tmp_path / "new" / "private" / name).write_text(text)
    manifest = Bundle.open(str(tiny_bundle)).manifest
    begun = begin_bundle(tmp_path / "new", manifest)
    assert len(begun.noise_key) == 32
    assert (tmp_path / "new" / "private" / "noise.key").stat().st_mode & 0o777 == 0o600
    assert not list((tmp_path / "new").rglob("*.partial"))
    assert begin_bundle(tmp_path / "new", manifest).noise_key == begun.noise_key


@pytest.mark.parametrize("name", ["mine.txt", "private/mine.txt"])
def test_a_bundle_is_not_begun_where_something_else_lies(name, tiny_bundle, tmp_path):
    (tmp_path / "new" / "private").mkdir(parents=True)
    (tmp_path / "new" / name).write_text("")
    assert error_of(begin_bundle, tmp_path / "new", Bundle.open(str(tiny_bundle)).manifest) == (
        f"{tmp_path}/new: is not empty and holds no bundle; choose another --out"
    )


def test_the_noise_key_is_on_the_disk_before_anything_is_made_with_it(tiny_bundle, tmp_path, monkeypatch):
    """A power cut after training would otherwise leave weights and a key of no bytes."""
    synced, sync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.add(os.fstat(file).st_ino), sync(file)))
    begin_bundle(tmp_path / "new", Bundle.open(str(tiny_bundle)).manifest)
    for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        assert path.stat().st_ino in synced, path


def test_generation_from_a_stripped_bundle_is_refused_unless_told(tiny_bundle, tmp_path, registry):
    out = tmp_path / "stripped"
    strip(Bundle.open(str(tiny_bundle)), out)
    assert error_of(plan_of, out, registry, kind=echosdk.PrivacyError) == (
        f"bundle {out} was stripped of what the privacy filter needs, so nothing is generated from it; use the whole "
        "bundle, or say --no-privacy-filter, which is written on everything that comes out"
    )
    plan, _ = plan_of(out, registry, privacy_filter=False)
    assert plan.privacy_filter is False


def test_a_stripped_bundle_still_makes_stills(tiny_bundle, tmp_path, load):
    strip(Bundle.open(str(tiny_bundle)), tmp_path / "out")
    assert load(tmp_path / "out", "image_prior") is not None
    error = error_of(load, tmp_path / "out", "privacy_filter", kind=echosdk.PrivacyError)
    assert error == "pearson-reid: its weights are private, and this bundle was stripped"


def test_the_default_plugin_set_takes_the_bundles_shapes(tiny_bundle, registry):
    """`generate --plugin-set default --bundle B` uses the default plugins as B was trained."""
    bundle = Bundle.open(str(tiny_bundle))
    resolved = resolve(
        registry, PluginSet.find("default", registry), bundle=bundle.plugin_set, trained=bundle.manifest.stages
    )
    for kind in KINDS:
        component = registry.component(kind, resolved.choices[kind].use)
        for name in component.shape:
            assert resolved.choices[kind].parameters.get(name) == bundle.plugin_set.choices[kind].parameters.get(name)
    assert resolved.fps == 16.0


def test_the_summary_says_what_is_inside_and_nothing_private(trained_tiny):
    about = summary(trained_tiny)
    assert set(about["stages"]) == set(LEARNED)
    assert about["private_bytes"] > about["stages"]["privacy_filter"]["private_bytes"] > 0
    total = sum(path.stat().st_size for path in trained_tiny.folder.rglob("*") if path.is_file())
    assert about["public_bytes"] + about["private_bytes"] == total
    assert about["frame_shape"] == [32, 32] or about["frame_shape"] == (32, 32)
    text = json.dumps(about)
    assert trained_tiny.noise_key.hex() not in text
    assert str(trained_tiny.folder / "private") not in text


@pytest.mark.parametrize("fps", [0, -1, 1e6])
def test_a_frame_rate_that_is_none_is_refused_with_the_file(tiny_bundle, fps):
    change_manifest(tiny_bundle, lambda plain: plain.update(fps=fps))
    message = error_of(Bundle.open, str(tiny_bundle))
    assert message.startswith(f"{tiny_bundle / MANIFEST}: damaged: ")
    assert "'fps' must be" in message


def test_a_frame_rate_in_its_plugin_set_that_is_none_is_refused_with_the_bundle(tiny_bundle):
    change_manifest(tiny_bundle, lambda plain: plain["plugin_set"].update(fps="16"))
    message = error_of(lambda: Bundle.open(str(tiny_bundle)).plugin_set, kind=echosdk.PluginSetError)
    assert message == f"bundle {tiny_bundle}: fps: wants a positive number up to 100000, got '16'"

"""The stages in order: what is done stays done, what cannot be learnt from is refused, and nothing private leaks."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from attrs import define, field
from safetensors.torch import load_file, save_file

from echosdk import BundleError, Clip, DataError, InputError, Label, Registry, TrainingError
from echosdk.bundle import Bundle, amend
from echosdk.clips.store import open_store, write_store
from echosdk.integrity import file_digest
from echosdk.interfaces import KINDS, Switches
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.training import data as data_module
from echosdk.training import stages as stages_module
from echosdk.training.data import check_source
from echosdk.training.references import encode, keep_references
from echosdk.training.stages import Training, train_bundle

SOURCE = "phantom?patients=16&frames=16&size=32"


@define
class Held:
    """A data source of clips in memory."""

    made: list[Clip]
    labels: tuple[Label, ...] = field(default=(Label(name="EF", unit="%", low=0, high=100),))

    def clips(self, split: str) -> Iterator[Clip]:
        return (clip for clip in self.made if clip.split == split)

    def fingerprint(self) -> str:
        return "held"


def clip(i: int, split: Any, group: str = "", **labels: float) -> Clip:
    frames = np.full((4, 32, 32), 10 * i, np.uint8)
    return Clip(
        id=f"c{i}", group=group or f"g{i}", split=split, fps=16, labels=labels or {"EF": 50.0 + i}, load=lambda: frames
    )


def training(registry: Registry, folder: Path, set_: tuple[str, ...] = (), **more: Any) -> Training:
    plugin_set = resolve(registry, PluginSet.find("default-tiny", registry), set_=set_)
    values = {"source": open_source(registry, SOURCE), "source_name": SOURCE} | more
    return Training(plugin_set=plugin_set, registry=registry, out=folder / "bundle", work=folder / "work", **values)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ([clip(0, "train"), clip(1, "train")], "the split 'val' has no clips; training needs train and val"),
        ([clip(0, "val"), clip(1, "test")], "the split 'train' has no clips; training needs train and val"),
        (
            [clip(0, "train", "p7"), clip(1, "train"), clip(2, "val", "p7")],
            "c2: patient 'p7' is in two splits, train and val",
        ),
        (
            [clip(0, "train"), clip(1, "val", "p7"), clip(2, "test", "p7")],
            "c2: patient 'p7' is in two splits, val and test",
        ),
        (
            [clip(0, "train", EF=55.6), clip(1, "train", EF=55.6), clip(2, "val", EF=55.6)],
            "label 'EF' is 55.6 in every training clip; nothing can be learnt from it",
        ),
        (
            [clip(0, "train", EF=55.6), clip(1, "train", EF=55.6), clip(2, "val", EF=60.0), clip(3, "test", EF=70.0)],
            "label 'EF' is 55.6 in every training clip; nothing can be learnt from it",
        ),
        *(
            (
                [clip(0, "train"), clip(1, "train"), clip(2, split, EF=value)],
                f"c2: label 'EF' is {value}; give a number, or leave the clip out",
            )
            for split in ("train", "val")
            for value in (float("nan"), float("inf"), np.float32("nan"))
        ),
        ([clip(0, "train"), clip(1, "val", ESV=3.0)], "c1: has no label 'EF', which its source declares"),
    ],
)
def test_data_that_cannot_be_used_is_refused_before_any_training(
    made: list[Clip], says: str, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        check_source(Held(made))
    assert str(error.value) == says
    with pytest.raises(DataError):
        train_bundle(training(registry, tmp_path, source=Held(made), source_name="held"))
    assert not (tmp_path / "bundle").exists()


def test_usable_data_is_not_refused() -> None:
    counted = check_source(Held([clip(0, "train"), clip(1, "train"), clip(2, "val")]))
    assert counted == {"train": 2, "val": 1, "test": 0}


def test_fewer_clips_than_a_batch_are_refused_before_a_frame_is_read(registry: Registry, tmp_path: Path) -> None:
    def unread() -> Any:
        raise AssertionError("a frame was read")

    few = [attrs.evolve(clip(i, "train"), load=unread) for i in range(3)] + [clip(3, "val")]
    wanted = training(registry, tmp_path, source=Held(few), source_name="held")
    with pytest.raises(DataError) as error:
        train_bundle(wanted)
    assert str(error.value) == (
        "encoder: 3 training clips are fewer than a batch of 4; give more, or --set encoder.recipe.batch_size=3"
    )
    with pytest.raises(DataError) as error:
        train_bundle(training(registry, tmp_path, ("encoder.recipe.batch_size=3",), source=Held(few), source_name="held"))
    assert str(error.value).startswith("image_prior: 3 training clips are fewer than a batch of 4; ")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("processes", "accumulate", "says"),
    [
        ("2", 1, "image_prior: recipe.batch_size 3 cannot be shared by 2 processes; give a multiple, or start another "
         "number of them"),
        ("1", 4, "image_prior: a batch of 3 examples a process cannot be cut into 4 parts: --accumulate"),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_cut_is_refused_before_any_data_is_read_whichever_stage_it_is_of(
    processes: str, accumulate: int, says: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    switches = Switches(accumulate=accumulate)
    wanted = training(registry, tmp_path, ("image_prior.recipe.batch_size=3",), source=None, switches=switches)
    with pytest.raises(TrainingError) as error:
        train_bundle(wanted)
    assert str(error.value) == says
    assert not list(tmp_path.iterdir())


def test_frames_that_the_encoder_cannot_halve_leave_no_bundle_in_the_way(registry: Registry, tmp_path: Path) -> None:
    def sized(side: int) -> Training:
        name = SOURCE.replace("size=32", f"size={side}")
        return training(
            registry, tmp_path, source=open_source(registry, name), source_name=name, stages=("encoder",)
        )

    with pytest.raises(TrainingError) as error:
        train_bundle(sized(30))
    assert str(error.value) == "frames of 30x30: both sides must be multiples of 4"
    assert not (tmp_path / "bundle").exists()
    assert "encoder" in train_bundle(sized(32)).manifest.stages


def test_frames_of_two_sizes_are_refused_before_any_training(registry: Registry, tmp_path: Path) -> None:
    train, val = (32, 32), (40, 40)
    made = [
        attrs.evolve(clip(i, split), load=lambda shape=shape: np.zeros((4, *shape), np.uint8))
        for i, (split, shape) in enumerate([*[("train", train)] * 4, ("val", val), ("val", val)])
    ]
    lines: list[str] = []
    with pytest.raises(DataError) as error:
        train_bundle(training(registry, tmp_path, source=Held(made), source_name="held", report=lines.append))
    assert str(error.value) == "c4: frames are (40, 40), those of the training split are (32, 32)"
    assert not [line for line in lines if "training '" in line]
    assert not (tmp_path / "bundle").exists()


def test_what_a_later_stage_cannot_learn_from_is_said_before_the_first_is_trained(
    registry: Registry, tmp_path: Path
) -> None:
    made = [*(clip(i, "train", "p0") for i in range(4)), clip(4, "val", "p1"), clip(5, "val", "p2")]
    lines: list[str] = []
    with pytest.raises(TrainingError) as error:
        train_bundle(training(registry, tmp_path, source=Held(made), source_name="held", report=lines.append))
    assert str(error.value) == (
        "pearson-reid: pairs need at least two patients in train and in val, and of one of them two frames; "
        "train has 1 (1 with two frames), val has 2 (2 with two frames)"
    )
    assert not [line for line in lines if "training '" in line]
    assert not (tmp_path / "bundle").exists()


@pytest.fixture(scope="module")
def encoder_only(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    train_bundle(training(registry, folder, stages=("encoder",)))
    return folder


def test_stages_that_are_done_are_not_done_again(encoder_only: Path, registry: Registry) -> None:
    before = Bundle.open(str(encoder_only / "bundle"))
    lines: list[str] = []
    train_bundle(training(registry, encoder_only, stages=("encoder", "downstream_validator"), report=lines.append))
    train_bundle(training(registry, encoder_only, stages=("encoder", "downstream_validator"), report=lines.append))
    after = Bundle.open(str(encoder_only / "bundle"))
    assert [line for line in lines if "training '" in line] == ["downstream_validator: training 'ef-regressor'"]
    assert set(after.manifest.stages) == {"encoder", "downstream_validator"}
    assert after.manifest.stages["encoder"] == before.manifest.stages["encoder"]
    assert after.noise_key == before.noise_key


def test_a_stage_may_start_from_a_bundles_weights_and_says_which(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    start = Bundle.open(str(encoder_only / "bundle"))
    lines: list[str] = []
    wanted = training(
        registry,
        tmp_path,
        ("encoder.recipe.steps=1", "encoder.recipe.learning_rate=1e-9"),
        stages=("encoder", "image_prior"),
        start=start,
        report=lines.append,
    )
    train_bundle(wanted)
    made = Bundle.open(str(tmp_path / "bundle"))
    before, after = (load_file(b.folder / "encoder" / "diffusion_pytorch_model.safetensors") for b in (start, made))
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=2e-3, rtol=2e-3)
    stage = start.manifest.stages["encoder"]
    assert made.manifest.stages["encoder"].provenance["start"] == {
        "public": stage.public,
        "private": stage.private,
        "provenance": stage.provenance,
    }
    assert "start" not in made.manifest.stages["image_prior"].provenance  # the other bundle has none
    assert f"encoder: starting from the weights of {start.where}" in lines

    lines.clear()
    train_bundle(wanted)
    assert not [line for line in lines if "training '" in line]


def test_weights_of_another_shape_are_refused(encoder_only: Path, registry: Registry, tmp_path: Path) -> None:
    start = Bundle.open(str(encoder_only / "bundle"))
    with pytest.raises(TrainingError, match=r"the weights to start from are those of another network: .* differs"):
        train_bundle(training(registry, tmp_path, ("encoder.latent_channels=3",), stages=("encoder",), start=start))


def test_a_bundle_does_not_start_from_itself(encoder_only: Path, registry: Registry) -> None:
    start = Bundle.open(str(encoder_only / "bundle"))
    with pytest.raises(InputError, match="is the bundle to start from; choose another --out"):
        train_bundle(training(registry, encoder_only, stages=("encoder",), start=start))


def test_the_filter_is_given_as_many_frames_of_a_clip_as_are_asked_for(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    kept = {}
    for number in (1, 3):
        bundle = train_bundle(training(registry, tmp_path, stages=("image_prior",), references_a_clip=number))
        kept[number] = len(bundle.references()[0].items)
    assert kept == {1: 12, 3: 36}


def test_another_run_parameter_trains_nothing_anew_and_is_written(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    stages = ("image_prior",)
    train_bundle(training(registry, tmp_path, stages=stages))
    lines: list[str] = []
    more = ("image_prior.num_inference_steps=3",)
    train_bundle(training(registry, tmp_path, more, stages=stages, report=lines.append))
    assert not [line for line in lines if "training '" in line]
    bundle = Bundle.open(str(tmp_path / "bundle"))
    assert bundle.plugin_set.choices["image_prior"].parameters["num_inference_steps"] == 3
    train_bundle(training(registry, tmp_path, ("image_prior.layers_per_block=2",), stages=stages, report=lines.append))
    assert "image_prior: training 'lidm'" in lines


def test_training_one_stage_leaves_what_the_bundle_says_of_the_others(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    """A command for one stage has a whole plugin set, and what that says of other stages is not what was trained."""
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    train_bundle(training(registry, tmp_path, stages=("image_prior",)))
    other = ("image_prior.blocks=[8,16]", "image_prior.num_inference_steps=7", "stitcher.micro_batch=1",
             "downstream_validator.widths=[4]")  # fmt: skip
    train_bundle(training(registry, tmp_path, other, stages=("downstream_validator",)))
    bundle = Bundle.open(str(tmp_path / "bundle"))
    prior = bundle.plugin_set.choices["image_prior"].parameters
    assert (prior["blocks"], prior["num_inference_steps"]) == ([8, 8], 2)
    assert bundle.plugin_set.choices["stitcher"].parameters["micro_batch"] != 1
    assert bundle.plugin_set.choices["downstream_validator"].parameters["widths"] == [4]
    bundle.load("image_prior", bundle.plugin_set.build(registry, "image_prior"), "lidm")


def test_a_stage_that_another_process_changes_meanwhile_keeps_its_parameters(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    opened = Bundle.open(str(tmp_path / "bundle"))
    train_bundle(training(registry, tmp_path, ("image_prior.num_inference_steps=7",), stages=("image_prior",)))
    after = amend(opened, sampling={"num_frames": 9})
    assert after.plugin_set.choices["image_prior"].parameters["num_inference_steps"] == 7
    assert after.manifest.sampling == {"num_frames": 9}


def test_weights_of_other_data_are_not_taken_from_the_same_working_folder(registry: Registry, tmp_path: Path) -> None:
    """Checkpoints of the first training lie there; taken, the second bundle would say it was trained on its data."""
    one, other = (f"phantom?patients=16&frames=16&size=32&seed={seed}" for seed in (0, 1))
    lines: list[str] = []

    def trained(name: str, source: str) -> Bundle:
        made = training(
            registry, tmp_path, source=open_source(registry, source), source_name=source, stages=("encoder",)
        )
        return train_bundle(attrs.evolve(made, out=tmp_path / name, report=lines.append))

    first, second = trained("one", one), trained("other", other)
    assert not [line for line in lines if "resumed" in line]
    assert first.manifest.data["fingerprint"] != second.manifest.data["fingerprint"]
    assert first.manifest.stages["encoder"].public != second.manifest.stages["encoder"].public


SQUARES = """
    import echosdk
    from torch.nn.functional import avg_pool2d, interpolate

    class Squares:
        latent_shape = (1, 8, 8)
        dtypes = []
        def __init__(self, scale: float = 1.0): self.scale = scale
        def to(self, device, dtype): self.dtypes.append(dtype)
        def encode(self, images): return avg_pool2d(images, 4) * self.scale
        def decode(self, latents): return interpolate(latents / self.scale, scale_factor=4)

    @echosdk.hookimpl
    def echosdk_encoders():
        yield echosdk.Component(name="squares", build=Squares, summary="Means of 4x4 pixels.")
"""


def test_an_encoder_that_learns_nothing_is_a_stage_that_others_are_bound_to(
    registry: Registry, tmp_path: Path, make_module: Callable[[str, str], ModuleType]
) -> None:
    both = registry.with_modules(make_module("squares", SQUARES))
    plugin_set = resolve(both, PluginSet.find("default-tiny", both), use=("encoder=squares",))
    wanted = attrs.evolve(training(both, tmp_path), plugin_set=plugin_set)
    train_bundle(wanted)
    bundle = Bundle.open(str(tmp_path / "bundle"))
    stages = bundle.manifest.stages
    assert set(stages) == set(KINDS) - {"stitcher"}
    assert stages["image_prior"].encoder == stages["encoder"].public
    assert not (bundle.folder / "encoder").exists()
    for kind, stage in stages.items():
        bundle.load(kind, bundle.plugin_set.build(both, kind), stage.provenance["choice"]["use"])
    train, _, _ = bundle.references()
    assert train.items.shape[1:] == (1, 8, 8)

    lines: list[str] = []
    train_bundle(attrs.evolve(wanted, report=lines.append))
    assert not [line for line in lines if "training '" in line]
    scaled = resolve(both, plugin_set, set_=("encoder.scale=0.5",))
    again = attrs.evolve(wanted, plugin_set=scaled, stages=("image_prior",), report=lines.append)
    with pytest.raises(InputError) as error:
        train_bundle(again)
    assert str(error.value) == (
        f"{tmp_path / 'bundle'}: has no trained encoder with these parameters; train it first: --stage encoder"
    )
    train_bundle(attrs.evolve(again, stages=("encoder", "image_prior")))
    assert "image_prior: training 'lidm'" in lines


def test_latents_are_encoded_in_float32_whatever_the_training_is_in(
    registry: Registry, tmp_path: Path, make_module: Callable[[str, str], ModuleType]
) -> None:
    """The cache is shared by trainings of any dtype, and a cast network encodes less exactly."""
    module = make_module("squares", SQUARES)
    both = registry.with_modules(module)
    plugin_set = resolve(both, PluginSet.find("default-tiny", both), use=("encoder=squares",))
    stages = ("encoder", "image_prior")
    train_bundle(attrs.evolve(training(both, tmp_path, stages=stages, dtype="bfloat16"), plugin_set=plugin_set))
    assert module.Squares.dtypes == [torch.float32]


@pytest.mark.parametrize("changed", ["encoder", "fps"])
def test_latents_are_encoded_anew_where_the_encoder_or_the_frame_rate_is_another(
    changed: str, registry: Registry, tmp_path: Path, make_module: Callable[[str, str], ModuleType]
) -> None:
    """In one working folder: else a prior would learn from another encoder's latents, and say that it had not."""
    both = registry.with_modules(make_module("squares", SQUARES))
    first = resolve(both, PluginSet.find("default-tiny", both), use=("encoder=squares",))
    second = {
        "encoder": resolve(both, first, set_=("encoder.scale=0.5",)),
        "fps": attrs.evolve(first, fps=first.fps / 2),
    }[changed]
    for name, plugin_set in (("one", first), ("other", second)):
        wanted = training(both, tmp_path, stages=("encoder", "image_prior"))
        train_bundle(attrs.evolve(wanted, plugin_set=plugin_set, out=tmp_path / name))
        encoder = plugin_set.build(both, "encoder")
        for split in ("train", "val"):
            pixels, latents = (open_store(tmp_path / "work" / kind / split) for kind in ("pixels", "latents"))
            for frames, encoded in zip(pixels, latents, strict=True):
                assert torch.equal(torch.from_numpy(encoded.read()).half(), torch.from_numpy(encode(encoder, frames.read())))


def test_what_a_bundle_keeps_of_clips_is_held_in_half_precision(
    encoder_only: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames of the held-out clips are: as they are stored, not twice as large."""
    kept: list[Any] = []

    def seen(bundle: Any, encoder: Any, train: Any, holdout: Any, test: Any) -> Any:
        kept.extend(latents.dtype for _, latents in (*train, *holdout))
        return keep_references(bundle, encoder, train, holdout, test)

    monkeypatch.setattr(stages_module, "keep_references", seen)
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    train_bundle(training(registry, tmp_path, stages=("image_prior",)))
    assert set(kept) == {np.dtype(np.float16)}


def test_missing_weights_are_noticed_before_any_data_is_read_and_only_where_they_are_needed(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    missing = (f"encoder.lpips={tmp_path / 'nowhere.safetensors'}",)
    with pytest.raises(TrainingError) as error:
        train_bundle(training(registry, tmp_path, missing, source=None, stages=("encoder",)))
    assert str(error.value).startswith(f"encoder.lpips: no weights at {tmp_path / 'nowhere.safetensors'}. Get them: ")
    assert not list(tmp_path.iterdir())
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    manifest = tmp_path / "bundle" / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"lpips": "off"', '"lpips": "nowhere.safetensors"'))
    train_bundle(training(registry, tmp_path, missing, stages=("encoder",)))


def test_every_kind_that_learns_is_a_stage(
    encoder_only: Path, registry: Registry, tmp_path: Path, make_module: Callable[[str, str], ModuleType]
) -> None:
    """A stitcher may learn; one that does not is said to."""
    source = """
        import echosdk

        class Learns:
            def animate(self, animator, stills, conditions, num_frames, generators): pass
            def fit(self, data, run): return {"latents": list(data.shape)}
            def save(self, public, private): (public / "state.json").write_text("{}")
            def load(self, public, private): (public / "state.json").read_text()

        @echosdk.hookimpl
        def echosdk_stitchers():
            yield echosdk.Component(name="learns", build=Learns, summary="")
    """
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    lines: list[str] = []
    wanted = training(registry, tmp_path, stages=("stitcher",), report=lines.append)
    train_bundle(wanted)
    assert lines[-1] == "stitcher: 'overlap-discard' learns nothing"
    both = registry.with_modules(make_module("learns", source))
    plugin_set = resolve(both, wanted.plugin_set, use=("stitcher=learns",))
    bundle = train_bundle(attrs.evolve(wanted, registry=both, plugin_set=plugin_set))
    assert bundle.manifest.stages["stitcher"].provenance["facts"] == {"latents": [4, 8, 8]}


def test_a_validator_learns_from_pixels_and_needs_no_encoder(registry: Registry, tmp_path: Path) -> None:
    bundle = train_bundle(training(registry, tmp_path, stages=("downstream_validator",)))
    assert set(bundle.manifest.stages) == {"downstream_validator"}
    assert not (tmp_path / "work" / "latents").exists()


def test_what_works_on_latents_asks_for_their_encoder(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        train_bundle(training(registry, tmp_path, stages=("image_prior",)))
    assert str(error.value) == (
        f"{tmp_path / 'bundle'}: has no trained encoder with these parameters; train it first: --stage encoder"
    )


def test_stages_trained_by_two_processes_at_once_are_both_kept(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    opened = Bundle.open(str(tmp_path / "bundle"))
    train_bundle(training(registry, tmp_path, stages=("image_prior",)))  # by another, since `opened` was
    stage = opened.manifest.stages["encoder"]
    after = amend(opened, stages={"downstream_validator": stage})
    assert set(after.manifest.stages) == {"encoder", "image_prior", "downstream_validator"}
    assert after.manifest.references
    assert Bundle.open(str(tmp_path / "bundle")).manifest == after.manifest


def test_the_same_seed_gives_the_same_weights(encoder_only: Path, registry: Registry, tmp_path: Path) -> None:
    """From the networks' first weights on, whatever was drawn before."""
    torch.manual_seed(987)
    again = train_bundle(training(registry, tmp_path, stages=("encoder",)))
    first = Bundle.open(str(encoder_only / "bundle"))
    assert again.manifest.stages["encoder"].public == first.manifest.stages["encoder"].public
    assert again.noise_key != first.noise_key


def test_an_interrupted_training_goes_on_to_the_same_bundle(
    encoder_only: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echosdk.training import loop

    batches = 0
    draw = loop._batch

    def stops(*arguments: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 4:
            raise KeyboardInterrupt
        return draw(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_batch", stops)
        train_bundle(training(registry, tmp_path, stages=("encoder",)))
    assert not Bundle.open(str(tmp_path / "bundle")).manifest.stages
    lines: list[str] = []
    resumed = train_bundle(training(registry, tmp_path, stages=("encoder",), report=lines.append))
    assert "encoder: resumed at step 3 of 4" in lines
    first = Bundle.open(str(encoder_only / "bundle"))
    assert resumed.manifest.stages["encoder"].public == first.manifest.stages["encoder"].public


def test_a_bundle_says_how_it_came_to_be(trained_tiny: Bundle) -> None:
    manifest = json.loads((trained_tiny.folder / "bundle.json").read_text())
    assert manifest["versions"].keys() >= {"torch", "diffusers", "numpy", "av"}
    assert manifest["data"]["source"].startswith("phantom")
    assert (manifest["data"]["train_patients"], manifest["data"]["val_patients"]) == (12, 2)
    assert len(manifest["data"]["fingerprint"]) == 64
    encoder = manifest["stages"]["encoder"]
    assert set(manifest["stages"]) == {
        "encoder", "image_prior", "privacy_filter", "video_animator", "downstream_validator",
    }  # fmt: skip
    for kind, stage in manifest["stages"].items():
        facts = stage["provenance"]["facts"]
        assert facts["steps"] == 4
        assert facts["train_loss"] > 0
        assert stage["provenance"]["choice"]["seed"] == 0
        on_pixels = kind in ("encoder", "downstream_validator")
        assert stage["encoder"] == (None if on_pixels else encoder["public"])


def test_a_bundle_of_an_earlier_version_goes_on_and_learns_what_its_data_is(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "bundle" / "bundle.json"
    plain = json.loads(path.read_text())
    assert plain["data"].pop("summary") == registry.component("data_source", "phantom").summary
    path.write_text(json.dumps(plain))
    lines: list[str] = []
    again = train_bundle(training(registry, tmp_path, stages=("encoder",), report=lines.append))
    assert not [line for line in lines if "training '" in line]
    assert again.manifest.data["summary"] == registry.component("data_source", "phantom").summary
    assert Bundle.open(str(tmp_path / "bundle")).manifest == again.manifest


def test_a_stage_of_an_earlier_version_that_lacks_a_new_parameter_is_not_trained_again(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    """It was trained as today's default says, which leaves the bundle's weights what they are."""
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "bundle" / "bundle.json"
    plain = json.loads(path.read_text())
    for parameters in (plain["plugin_set"]["encoder"], plain["stages"]["encoder"]["provenance"]["choice"]["parameters"]):
        assert parameters.pop("gan_weight") == 0.0
    path.write_text(json.dumps(plain))
    lines: list[str] = []
    train_bundle(training(registry, tmp_path, stages=("encoder",), report=lines.append))
    assert not [line for line in lines if "training '" in line]
    other = ("encoder.gan_weight=0.5", "encoder.gan_layers=1")
    train_bundle(training(registry, tmp_path, other, stages=("encoder",), report=lines.append))
    assert "encoder: training 'vae'" in lines


def test_a_bundle_does_not_say_where_the_data_lay(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path may hold a name; whoever is given the bundle has no use for it."""
    monkeypatch.chdir(tmp_path)
    source = Held([clip(i, "train") for i in range(4)] + [clip(i, "val") for i in range(4, 6)])
    name = "echonet-dynamic:/data/hospital-of-x/echo?grey=true"
    wanted = training(registry, tmp_path, source=source, source_name=name, stages=("encoder",))
    train_bundle(attrs.evolve(wanted, out=Path("bundle"), work=Path("work")))
    for path in (tmp_path / "bundle").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"hospital-of-x" not in data, path
            assert str(tmp_path).encode() not in data, path
    assert Bundle.open(str(tmp_path / "bundle")).manifest.data["parameters"] == {"grey": True}


def test_of_a_sources_parameters_only_numbers_and_truth_values_are_told(registry: Registry, tmp_path: Path) -> None:
    """A text may be a second path, or a name."""
    source = Held([clip(i, "train") for i in range(4)] + [clip(i, "val") for i in range(4, 6)])
    name = "phantom?list=/data/hospital-of-x/list.csv&ward=hospital-of-x&grey=true&fps=12.5&patients=6"
    bundle = train_bundle(training(registry, tmp_path, source=source, source_name=name, stages=("encoder",)))
    assert bundle.manifest.data["parameters"] == {"grey": True, "fps": 12.5, "patients": 6}
    assert "hospital-of-x" not in (tmp_path / "bundle" / "bundle.json").read_text()


def test_a_bundle_names_a_file_that_it_was_trained_with_and_not_where_that_lay(
    registry: Registry, tmp_path: Path
) -> None:
    weights = tmp_path / "home-of-y" / "alex.safetensors"
    weights.parent.mkdir()
    save_file(alexnet_convolutions(), weights)
    wanted = training(registry, tmp_path, (f"encoder.lpips={weights}",), stages=("encoder",))
    bundle = train_bundle(wanted)
    stage = bundle.manifest.stages["encoder"]
    assert bundle.plugin_set.choices["encoder"].parameters["lpips"] == "alex.safetensors"
    assert stage.provenance["choice"]["parameters"]["lpips"] == "alex.safetensors"
    assert stage.provenance["facts"]["lpips"] == {"weights": "alex.safetensors", "sha256": file_digest(weights)}
    assert "home-of-y" not in (tmp_path / "bundle" / "bundle.json").read_text()
    bundle.load("encoder", bundle.plugin_set.build(registry, "encoder"), "vae")
    lines: list[str] = []
    train_bundle(attrs.evolve(wanted, report=lines.append))
    assert not [line for line in lines if "training '" in line]


def alexnet_convolutions() -> dict[str, torch.Tensor]:
    """Random weights in the shapes of AlexNet's, which LPIPS wants."""
    sizes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    random = torch.Generator().manual_seed(0)
    made = {}
    for position, (out, into, side) in sizes.items():
        made[f"features.{position}.weight"] = 0.01 * torch.randn(out, into, side, side, generator=random)
        made[f"features.{position}.bias"] = torch.zeros(out)
    return made


def test_what_shows_patients_is_for_the_owner_only(trained_tiny: Bundle) -> None:
    """The bundle's private part; and the working folder: pixels, latents, identifiers, checkpoints."""
    work = trained_tiny.folder.with_name("work")
    paths = [top / name for top in (trained_tiny.folder / "private", work) for name in ("", *top.rglob("*"))]
    assert {"checkpoint.pt", "index.json", "000000.tar", "network.safetensors"} <= {path.name for path in paths}
    assert [str(path) for path in paths if path.stat().st_mode & 0o077] == []


def test_references_that_are_there_are_not_written_again(
    encoder_only: Path, registry: Registry, tmp_path: Path
) -> None:
    """Another process may be reading them."""
    shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)
    references = tmp_path / "bundle" / "private" / "references.safetensors"
    train_bundle(training(registry, tmp_path, stages=("image_prior",)))
    before = references.stat().st_ino
    train_bundle(training(registry, tmp_path, stages=("image_prior",)))
    assert references.stat().st_ino == before


def test_a_store_is_written_by_one_process_at_a_time(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(folder: Path, *arguments: Any) -> Any:
        descriptor = os.open(folder.parent, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        written.append(f"{folder.parent.name}/{folder.name}")
        return write_store(folder, *arguments)

    monkeypatch.setattr(data_module, "write_store", write)
    train_bundle(training(registry, tmp_path, stages=("encoder", "image_prior")))
    assert written == ["pixels/train", "pixels/val", "latents/train", "latents/val"]


def test_of_several_processes_that_train_together_one_writes(
    encoder_only: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits until all have seen what is to be done, and again until the first has written it."""
    waited = []

    class Second:
        is_main_process = False

        def wait_for_everyone(self) -> None:
            waited.append(set(Bundle.open(str(tmp_path / "bundle")).manifest.stages))
            if len(waited) == 2:
                shutil.copytree(encoder_only, tmp_path, dirs_exist_ok=True)

    monkeypatch.setattr(stages_module, "PartialState", lambda cpu: Second())
    monkeypatch.setattr(stages_module, "add_stage", None)
    bundle = train_bundle(training(registry, tmp_path, stages=("encoder",)))
    assert waited == [set(), set()]
    assert "encoder" in bundle.manifest.stages


def test_what_learns_from_single_records_is_private(trained_tiny: Bundle) -> None:
    public = {
        path.relative_to(trained_tiny.folder).parts[0] for path in trained_tiny.folder.rglob("*") if path.is_file()
    }
    assert public == {
        "bundle.json", "private", "encoder", "image_prior", "video_animator", "downstream_validator",
    }  # fmt: skip
    for name in ("noise.key", "references.safetensors"):
        assert (trained_tiny.folder / "private" / name).stat().st_mode & 0o077 == 0


def test_a_folder_that_holds_something_else_is_refused_before_any_data_is_read(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "dataset.json").write_text("{}")
    with pytest.raises(BundleError, match="is not empty and holds no bundle; choose another --out"):
        train_bundle(training(registry, tmp_path, source=None))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_mirror_images_of_references_are_kept(trained_tiny: Bundle, registry: Registry) -> None:
    train, holdout, _ = trained_tiny.references()
    assert train.mirrored is not None
    assert holdout.mirrored is None
    encoder = trained_tiny.plugin_set.build(registry, "encoder")
    trained_tiny.load("encoder", encoder, "vae")
    first = [train.groups.index(group) for group in dict.fromkeys(train.groups)]
    wanted = encoder.encode(encoder.decode(train.items[first]).flip(-1))
    assert len(train.mirrored) == len(set(train.groups))
    nearest = (train.mirrored[:, None] - wanted.float()[None]).flatten(2).abs().amax(2).amin(1)
    assert nearest.max() < 0.01  # kept in half precision; clips of one patient in the order of the source


def test_a_stage_that_another_process_trains_is_refused(registry: Registry, tmp_path: Path) -> None:
    """Two in one work folder would write one checkpoint."""
    said: list[str] = []

    def first(line: str) -> None:
        if line.startswith("encoder: step") and not said:
            with pytest.raises(InputError) as error:
                train_bundle(training(registry, tmp_path, stages=("encoder",)))
            said.append(str(error.value))

    train_bundle(training(registry, tmp_path, stages=("encoder",), report=first))
    assert said[0].startswith("encoder: another process trains it in ")
    assert said[0].endswith("; wait for that one, or give this one another --work")

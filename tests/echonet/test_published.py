"""Published weights become a bundle: a fabricated copy of the authors' layout, small here and at paper scale below."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import fsspec
import pytest
import torch
from attrs import evolve
from echosdk_echonet.published import WEIGHTS, EchoNetSynthetic, _siamese
from safetensors.torch import load_file, save_file

from echosdk import BundleError, Clip, DataError, Label, References, Registry
from echosdk.bundle import Bundle
from echosdk.generation.generate import Options, generate
from echosdk.plugin_set import PluginSet, resolve
from echosdk.training.import_bundle import Import, import_bundle

VAE = {
    "block_out_channels": [128, 256, 256, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 112,
}
LIDM = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [128, 256, 256, 512],
    "down_block_types": ["AttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["AttnUpBlock2D"] * 3,
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
}
LVDM = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [128, 256, 256, 512],
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal"] * 3 + ["DownBlockSpatioTemporal"],
    "up_block_types": ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3,
    "num_attention_heads": [8, 16, 16, 32],
    "layers_per_block": 2,
    "cross_attention_dim": 1,
    "addition_time_embed_dim": 1,
    "projection_class_embeddings_input_dim": 1,
}
PAPER = {"vae": VAE, "lidm_dynamic": LIDM, "lvdm": LVDM}
"""The published configurations, as the paper's facts give them."""

SMALL = {
    "vae": VAE | {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "sample_size": 32},
    "lidm_dynamic": LIDM | {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "sample_size": 8, "norm_num_groups": 8},
    "lvdm": LVDM | {"block_out_channels": [32] * 4, "num_attention_heads": [2] * 4, "layers_per_block": 1, "sample_size": 8},
}
NETWORKS = {"vae": "AutoencoderKL", "lidm_dynamic": "UNet2DModel", "lvdm": "UNetSpatioTemporalConditionModel"}
KINDS = {"vae": "encoder", "lidm_dynamic": "image_prior", "lvdm": "video_animator"}
FILTER = "reidentification_dynamic"


def publish(folder: Path, configurations: dict[str, Any]) -> None:
    """Write random weights in the layout in which the authors published theirs."""
    torch.manual_seed(0)
    for name, configuration in configurations.items():
        getattr(diffusers, NETWORKS[name])(**configuration).save_pretrained(folder / name)
    publish_filter(folder)


def publish_filter(folder: Path) -> None:
    (folder / FILTER).mkdir(parents=True, exist_ok=True)
    config = {"siamese_architecture": "SNN", "n_channels": 4, "n_features": 128}
    (folder / FILTER / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    torch.save(_siamese(4, 128), folder / FILTER / f"{FILTER}_best_network.pth")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    publish(folder, SMALL)
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A copy to damage: links, but for the configurations."""
    for path in small.rglob("*"):
        if path.is_file():
            target = tmp_path / "copy" / path.relative_to(small)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    return tmp_path / "copy"


def wanted(registry: Registry, location: Any, out: Path, **more: Any) -> Import:
    parameters = {"location": str(location), "variant": "dynamic"}
    return Import(layout_name="echonet-synthetic", parameters=parameters, registry=registry, out=out, **more)


def refused(registry: Registry, location: Path, out: Path, **more: Any) -> str:
    """Return what an import is refused with; it leaves nothing."""
    with pytest.raises((BundleError, DataError)) as error:
        import_bundle(wanted(registry, location, out / "bundle", **more))
    assert [path.name for path in out.iterdir() if "bundle" in path.name] == []
    return str(error.value).replace(str(location), "DIR")


class Real:
    """Data of the labels that the weights know: four training patients, and two to hold out."""

    labels: tuple[Any, ...] = (Label(name="EF", unit="%", low=0, high=100),)
    size = 32

    def clips(self, split: str) -> Any:
        for i in range({"train": 4, "val": 2}.get(split, 0)):
            yield Clip(
                id=f"{split}{i}", group=f"{split}{i}", split=split, fps=32, labels={"EF": 50.0 + i},
                load=lambda i=i: torch.randint(256, (6, self.size, self.size), generator=torch.Generator().manual_seed(i), dtype=torch.uint8).numpy(),
            )  # fmt: skip

    def fingerprint(self) -> str:
        return "real"


@pytest.fixture(scope="module")
def imported(small: Path, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with its private part."""
    out = tmp_path_factory.mktemp("imported") / "bundle"
    return import_bundle(wanted(registry, small, out, source=Real(), source_name="echonet-dynamic:/data/secret"))


def test_every_tensor_arrives_as_it_was_published(imported: Bundle, small: Path) -> None:
    for name, kind in KINDS.items():
        theirs, ours = load_file(small / name / WEIGHTS), load_file(imported.folder / kind / WEIGHTS)
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    theirs = torch.load(small / FILTER / f"{FILTER}_best_network.pth", weights_only=True)
    ours = load_file(imported.folder / "private" / "privacy_filter" / "network.safetensors")
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_it_says_what_the_weights_are_and_where_the_references_come_from(imported: Bundle) -> None:
    manifest = imported.manifest
    assert (manifest.fps, manifest.frame_shape, manifest.sampling) == (32.0, (32, 32), {"num_frames": 192})
    assert manifest.data["source"] == "echonet-dynamic"
    assert (manifest.data["train_patients"], manifest.data["val_clips"]) == (4, 2)
    assert "secret" not in (imported.folder / "bundle.json").read_text()
    encoder = manifest.stages["encoder"]
    assert encoder.provenance["facts"] == {"imported": "echonet-synthetic", "variant": "dynamic"}
    assert [manifest.stages[kind].encoder for kind in ("image_prior", "privacy_filter")] == [encoder.public] * 2
    assert imported.plugin_set.choices["video_animator"].parameters["attention"] == [True, True, True, False]


def test_a_dataset_is_generated_from_it_with_its_filter(imported: Bundle, registry: Registry, tmp_path: Path) -> None:
    fast = ("image_prior.num_inference_steps=1", "video_animator.num_inference_steps=1", "privacy_filter.calibration=percentile", "privacy_filter.min_patients=1")
    options = Options(plugin_set="default", bundle=str(imported.folder), num_videos=1, num_frames=4, set_=fast)
    generate(str(tmp_path / "out"), options=options, registry=registry)
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert "warning" not in about
    assert (tmp_path / "out" / "index.csv").read_text().count("\n") == 2


def test_a_still_is_scaled_by_the_mean_extremes_of_the_training_patients(tmp_path: Path, small: Path) -> None:
    items = torch.zeros(4, 4, 4, 4)
    items[0, 0, 0, 0], items[1, 0, 0, 0], items[2, 0, 0, 0], items[3, 0, 0, 0] = -1.0, 3.0, -3.0, 5.0
    layout = EchoNetSynthetic(location=str(small), variant="dynamic")
    layout.write_private("privacy_filter", tmp_path, References(items=items, groups=("a", "a", "b", "b")))
    about = json.loads((tmp_path / "normalisation.json").read_text())
    assert about == {"channels": 4, "low": -2.0, "high": 4.0}


def test_without_data_it_is_a_stripped_bundle_and_says_so(small: Path, tmp_path: Path, run_echosdk: Any, registry: Registry) -> None:
    out = tmp_path / "bundle"
    told = run_echosdk("bundle", "import", "--from", "echonet-synthetic", str(small), "--variant", "dynamic", "--out", str(out))
    assert told.status == 0
    assert "Imported as a stripped bundle: without --data there are no references to judge with" in told.out
    bundle = Bundle.open(str(out))
    assert bundle.stripped
    assert set(bundle.manifest.stages) == {"encoder", "image_prior", "video_animator"}
    assert bundle.manifest.labels == (Label(name="EF", unit="%", low=10, high=90),)
    assert bundle.manifest.data["source"] == "echonet-synthetic"
    refusal = run_echosdk("generate", "--bundle", str(out), "--out", str(tmp_path / "never"))
    assert refusal.status == 2
    assert "was stripped of what the privacy filter needs" in refusal.err

    fast = ("image_prior.num_inference_steps=1", "video_animator.num_inference_steps=1", "privacy_filter.calibration=percentile", "privacy_filter.min_patients=1")
    options = Options(plugin_set="default", bundle=str(out), num_videos=1, num_frames=4, set_=fast, privacy_filter=False)
    generate(str(tmp_path / "out"), options=options, registry=registry)
    assert "trained on other people's data: their weights were published as `echonet-synthetic`." in (tmp_path / "out" / "README.md").read_text()


def test_it_is_read_from_any_url(small: Path, tmp_path: Path, registry: Registry) -> None:
    fs, _ = fsspec.core.url_to_fs("memory://")
    fs.put(str(small) + "/", f"memory://{tmp_path.name}/", recursive=True)
    bundle = import_bundle(wanted(registry, f"memory://{tmp_path.name}", tmp_path / "bundle"))
    assert load_file(bundle.folder / "encoder" / WEIGHTS).keys() == load_file(small / "vae" / WEIGHTS).keys()
    assert fsspec.get_filesystem_class("hf").__name__ == "HfFileSystem"


def test_a_state_dict_of_an_older_diffusers_is_converted_without_running_code(copy: Path, registry: Registry, tmp_path: Path) -> None:
    weights = load_file(copy / "vae" / WEIGHTS)
    (copy / "vae" / WEIGHTS).unlink()
    torch.save(weights, copy / "vae" / "diffusion_pytorch_model.bin")
    bundle = import_bundle(wanted(registry, copy, tmp_path / "bundle"))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(bundle.folder / "encoder" / WEIGHTS).items())


class Runs:
    """What a malicious file holds."""

    def __reduce__(self) -> Any:
        return (print, ("code has run",))


def test_a_state_dict_that_would_run_code_is_refused(copy: Path, registry: Registry, tmp_path: Path, capsys: Any) -> None:
    path = copy / FILTER / f"{FILTER}_best_network.pth"
    path.unlink()
    torch.save({"model.conv1.weight": Runs()}, path)
    said = refused(registry, copy, tmp_path, source=Real(), source_name="echonet-dynamic")
    assert said == (
        f"DIR/{FILTER}/{FILTER}_best_network.pth: refused: it holds more than tensors, and reading that could run code"
    )
    assert "code has run" not in capsys.readouterr().out


def damage_nothing_there(copy: Path) -> None:
    (copy / "lvdm" / "config.json").unlink()


def damage_other_network(copy: Path) -> None:
    config = json.loads((copy / "lvdm" / "config.json").read_text()) | {"_class_name": "UNet2DModel"}
    replace(copy / "lvdm" / "config.json", json.dumps(config))


def damage_configuration(copy: Path) -> None:
    replace(copy / FILTER / "config.json", "{}")


def damage_json(copy: Path) -> None:
    replace(copy / "vae" / "config.json", "{")


def damage_one_tensor_too_few(copy: Path) -> None:
    weights = load_file(copy / "vae" / WEIGHTS)
    del weights["decoder.conv_in.bias"]
    weights["decoder.conv_out.bias"] = torch.zeros(9)
    weights["stranger"] = torch.zeros(1)
    (copy / "vae" / WEIGHTS).unlink()
    save_file(weights, copy / "vae" / WEIGHTS)


def damage_weights(copy: Path) -> None:
    replace(copy / "vae" / WEIGHTS, "<!doctype html>")


def replace(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_nothing_there, "DIR/lvdm/config.json: no such file; the layout of dynamic has the folders vae, lidm_dynamic, lvdm, reidentification_dynamic"),
        (damage_other_network, "DIR/lvdm/config.json: is of a UNet2DModel; the layout has a UNetSpatioTemporalConditionModel here"),
        (damage_configuration, f"DIR/{FILTER}/config.json: has no n_channels, n_features; it is not the configuration of this layout"),
        (damage_json, "DIR/vae/config.json: damaged: holds no configuration; fetch it again"),
        (damage_one_tensor_too_few, f"DIR/vae/{WEIGHTS}: does not fit its config.json: decoder.conv_in.bias is missing, stranger is not of this network, decoder.conv_out.bias is (9,), not (3,)"),
        (damage_weights, f"DIR/vae/{WEIGHTS}: damaged: Error while deserializing header: header too large; fetch it again"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    damage: Callable[[Path], None], says: str, copy: Path, registry: Registry, tmp_path: Path
) -> None:
    damage(copy)
    assert refused(registry, copy, tmp_path) == says


def test_other_data_than_the_weights_were_trained_on_are_refused(small: Path, registry: Registry, tmp_path: Path) -> None:
    class Larger(Real):
        size = 40

    class Older(Real):
        labels = (Label(name="age", unit="years", low=0, high=100), Label(name="EF", unit="%", low=0, high=100))

        def clips(self, split: str) -> Any:
            return (evolve(clip, labels={**clip.labels, "age": clip.labels["EF"]}) for clip in super().clips(split))

    assert refused(registry, small, tmp_path, source=Larger(), source_name="echonet-dynamic") == (
        "train0: frames are (40, 40), those of the published weights (32, 32); give the data that they were trained on"
    )
    assert refused(registry, small, tmp_path, source=Older(), source_name="echonet-dynamic") == (
        "--data: its labels are age in years, EF in %, those of the published weights EF in %"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--from echonet-synthetic --variant dynamic --out EXISTS DIR", "EXISTS: exists; choose another --out"),
        ("--from echonet-sythetic --out OUT DIR", "--from: no published layout named 'echonet-sythetic'; did you mean 'echonet-synthetic'? choose from echonet-synthetic"),
        ("--from echonet-synthetic --out OUT DIR", "--from echonet-synthetic.variant: 'echonet-synthetic' needs a value"),
        ("--from echonet-synthetic --variant ped --out OUT DIR", "--from echonet-synthetic.variant: no such value 'ped'; did you mean 'ped-a4c'? choose from dynamic, ped-a4c, ped-psax"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_line(arguments: str, says: str, small: Path, tmp_path: Path, run_echosdk: Any) -> None:
    (tmp_path / "exists").mkdir()
    places = {"DIR": str(small), "EXISTS": str(tmp_path / "exists"), "OUT": str(tmp_path / "out")}
    told = run_echosdk("bundle", "import", *(places.get(word, word) for word in arguments.split()))
    assert told.status == 2
    assert told.err.strip() == f"echosdk: {says.replace('EXISTS', places['EXISTS'])}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "variant", "frames"), [("dynamic", "dynamic", 192), ("ped_psax", "ped-psax", 128)])
def test_each_variant_has_its_own_prior_and_filter(name: str, variant: str, frames: int, small: Path) -> None:
    layout = EchoNetSynthetic(location=str(small), variant=variant)
    assert layout._folder("image_prior") == f"lidm_{name}"
    assert layout._folder("privacy_filter") == f"reidentification_{name}"
    if variant == "dynamic":
        assert layout.describe().sampling == {"num_frames": frames}


@pytest.mark.parametrize("name", PAPER)
def test_the_default_network_has_the_published_ones_keys_and_shapes(name: str, registry: Registry) -> None:
    """On the meta device: no memory, no weights."""
    component = resolve(registry, PluginSet.find("default", registry)).build(registry, KINDS[name])
    known = {"_image": (1, 112, 112), "_latent": (4, 14, 14), "_scalings": (None,)}  # what data would have told it
    for attribute in known.keys() & set(dir(component)):
        setattr(component, attribute, known[attribute])
    with torch.device("meta"):
        ours = component._make_network().state_dict()
        theirs = getattr(diffusers, NETWORKS[name])(**PAPER[name]).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: tensor.shape for key, tensor in theirs.items()}


def test_the_default_filter_has_the_published_ones_keys_and_shapes(registry: Registry, tmp_path: Path) -> None:
    publish_filter(tmp_path)
    layout = EchoNetSynthetic(location=str(tmp_path), variant="dynamic")
    (tmp_path / "private").mkdir()
    items = torch.randn(4, 4, 14, 14)
    layout.write_private("privacy_filter", tmp_path / "private", References(items=items, groups=("a", "b", "c", "d")))
    component = registry.build("privacy_filter", "pearson-reid", {})
    component.load(tmp_path, tmp_path / "private")  # refuses a key too many or too few
    assert component.embed(items).shape == (4, 128)


def random_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return small random weights for a network without memory: one draw, laid out again and again."""
    draw = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)).mul(0.02).half()
    return {
        name: draw.repeat(tensor.numel() // len(draw) + 1)[: tensor.numel()].reshape(tensor.shape)
        for name, tensor in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def at_paper_scale(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The exact configurations with random weights, imported."""
    folder = tmp_path_factory.mktemp("paper")
    for name, configuration in PAPER.items():
        with torch.device("meta"):
            network = getattr(diffusers, NETWORKS[name])(**configuration)
        network.save_config(folder / name)
        save_file(random_state(network), folder / name / WEIGHTS)
    publish_filter(folder)
    return import_bundle(wanted(registry, folder, folder / "bundle"))


def loaded(bundle: Bundle, registry: Registry, kind: str, **parameters: Any) -> Any:
    choice = bundle.plugin_set.choices[kind]
    component = registry.build(kind, choice.use, {**choice.parameters, **parameters})
    bundle.load(kind, component, choice.use)
    return component


def test_the_published_encoder_runs_at_paper_scale(at_paper_scale: Bundle, registry: Registry) -> None:
    encoder = loaded(at_paper_scale, registry, "encoder")
    assert encoder.latent_shape == (4, 14, 14)
    latents = encoder.encode(torch.zeros(1, 1, 112, 112))
    assert encoder.decode(latents).shape == (1, 1, 112, 112)


def test_the_published_prior_takes_a_step_at_paper_scale(at_paper_scale: Bundle, registry: Registry) -> None:
    prior = loaded(at_paper_scale, registry, "image_prior", num_inference_steps=1)
    assert prior.sample([torch.Generator().manual_seed(0)], [{}]).shape == (1, 4, 14, 14)


def test_the_published_animator_takes_a_step_at_paper_scale(at_paper_scale: Bundle, registry: Registry) -> None:
    animator = loaded(at_paper_scale, registry, "video_animator")
    assert animator.window == 64
    video = torch.zeros(1, animator.window, 4, 14, 14)
    assert animator.predict(video, 500, torch.zeros(1, 4, 14, 14), [{"EF": 55.0}]).shape == video.shape

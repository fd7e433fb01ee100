"""The weights of EchoNet-Synthetic as their authors published them: diffusers folders, and a state dict a filter."""

from __future__ import annotations

import inspect
import json
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import fsspec
from attrs import define, field
from attrs.validators import in_, instance_of

from echosdk import BundleError, Label, PublishedWeights, References

VARIANTS = ("dynamic", "ped-a4c", "ped-psax")
NUM_FRAMES = {"dynamic": 192, "ped-a4c": 128, "ped-psax": 128}  # the mean of each real dataset
WINDOW = 64  # frames at 32 frames/s; a configuration may not say it
CLASSES = {
    "encoder": "AutoencoderKL",
    "image_prior": "UNet2DModel",
    "video_animator": "UNetSpatioTemporalConditionModel",
}
WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLED = "diffusion_pytorch_model.bin"


@define
class EchoNetSynthetic:
    """The folders `vae`, `lvdm`, `lidm_VARIANT` and `reidentification_VARIANT`, at any fsspec URL (`hf://` too).

    The first three are diffusers folders and are taken as they are; the last has a PyTorch state dict, which is read
    without running code. Keys and shapes of all weights are compared with the configured network's.
    """

    location: str = field(validator=instance_of(str))
    variant: Literal["dynamic", "ped-a4c", "ped-psax"] = field(validator=in_(VARIANTS))

    def describe(self) -> PublishedWeights:
        vae, lidm, lvdm = (self._config(kind) for kind in CLASSES)
        filter_ = self._config("privacy_filter")
        side = _side(vae)
        return PublishedWeights(
            plugin_set="default",
            parameters={
                "encoder": {
                    "blocks": list(vae["block_out_channels"]),
                    "layers_per_block": vae["layers_per_block"],
                    "latent_channels": vae["latent_channels"],
                    "channels": vae["in_channels"],
                    "norm_groups": vae["norm_num_groups"],
                },
                "image_prior": {
                    "blocks": list(lidm["block_out_channels"]),
                    "layers_per_block": lidm["layers_per_block"],
                    "attention_head_dim": lidm["attention_head_dim"],
                    "norm_groups": lidm["norm_num_groups"],
                },
                "privacy_filter": {"architecture": "resnet50", "features": filter_["n_features"]},
                "video_animator": {
                    "window": WINDOW,
                    "blocks": list(lvdm["block_out_channels"]),
                    "attention": [name.startswith("CrossAttn") for name in lvdm["down_block_types"]],
                    "heads": _one_a_block(lvdm["num_attention_heads"], lvdm),
                    "layers_per_block": lvdm["layers_per_block"],
                },
            },
            labels=(Label(name="EF", unit="%", low=10, high=90),),  # the paper's surrogates are drawn from this range
            fps=32.0,
            frame_shape=(side, side),
            sampling={"num_frames": NUM_FRAMES[self.variant]},
        )

    def write(self, kind: str, public: Path) -> None:
        if kind not in CLASSES:
            return
        config = self._config(kind)
        folder = self._folder(kind)
        (public / "config.json").write_text(json.dumps(config, indent=2))
        self._copy_weights(folder, public / WEIGHTS)
        url = f"{self._url(folder)}/{WEIGHTS}"
        _compare(url, _shapes_in(public / WEIGHTS, url), _expected(kind, config))
        vae = self._config("encoder")
        latent = [vae["latent_channels"], *[_side(vae) // 2 ** (len(vae["block_out_channels"]) - 1)] * 2]
        beside: dict[str, tuple[str, dict[str, Any]]] = {
            "encoder": ("image.json", {"channels_height_width": [1, _side(vae), _side(vae)]}),  # seen in grey
            "image_prior": ("latent.json", {"channels_height_width": latent}),
            "video_animator": (
                "conditions.json",
                {
                    "channels_height_width": latent,
                    "conditions": [{"name": "EF", "offset": 0.0, "scale": 100.0, "value": None}],
                    "spread": None,
                },
            ),
        }
        name, content = beside[kind]
        (public / name).write_text(json.dumps(content))

    def write_private(self, kind: str, private: Path, references: References) -> None:
        """Write the filter's weights, and the scale of its input.

        The published network was trained on videos each scaled to [-1, 1] by its own extremes. A still is scaled by the
        mean extremes of the training patients, so that a verdict depends on nothing but the still.
        """
        from safetensors.torch import save_file

        if kind != "privacy_filter":
            return
        config, folder = self._config(kind), self._folder(kind)
        url = f"{self._url(folder)}/{folder}_best_network.pth"
        with self._fetched(url) as path:
            read = _unpickled(path, url)
        state = {name.removeprefix("module."): tensor.contiguous() for name, tensor in read.items()}
        _compare(url, {name: tuple(tensor.shape) for name, tensor in state.items()}, _expected(kind, config))
        save_file(state, private / "network.safetensors")
        low, high = _mean_extremes(references)
        about = {"channels": config["n_channels"], "low": low, "high": high}
        (private / "normalisation.json").write_text(json.dumps(about))

    def _folder(self, kind: str) -> str:
        variant = self.variant.replace("-", "_")
        folders = {
            "encoder": "vae",
            "image_prior": f"lidm_{variant}",
            "privacy_filter": f"reidentification_{variant}",
            "video_animator": "lvdm",
        }
        return folders[kind]

    def _url(self, name: str) -> str:
        return f"{self.location.rstrip('/')}/{name}"

    def _config(self, kind: str) -> dict[str, Any]:
        """Read and check a configuration."""
        url = f"{self._url(self._folder(kind))}/config.json"
        with self._fetched(url) as path:
            try:
                config = json.loads(path.read_text())
            except ValueError:
                config = None
        if not isinstance(config, dict):
            raise BundleError(f"{url}: damaged: holds no configuration; fetch it again")
        wanted = ("n_channels", "n_features") if kind == "privacy_filter" else ("_class_name", "block_out_channels")
        missing = [key for key in wanted if key not in config]
        if missing:
            raise BundleError(f"{url}: has no {', '.join(missing)}; it is not the configuration of this layout")
        if kind == "privacy_filter":
            return config
        if config["_class_name"] != CLASSES[kind]:
            raise BundleError(f"{url}: is of a {config['_class_name']}; the layout has a {CLASSES[kind]} here")
        return {**_defaults(_class(kind)), **config}

    def _copy_weights(self, folder: str, target: Path) -> None:
        fs, root = fsspec.core.url_to_fs(self._url(folder))
        if fs.exists(f"{root}/{WEIGHTS}") or not fs.exists(f"{root}/{PICKLED}"):
            with self._fetched(f"{self._url(folder)}/{WEIGHTS}") as path:
                shutil.copyfile(path, target)
            return
        from safetensors.torch import save_file

        url = f"{self._url(folder)}/{PICKLED}"
        with self._fetched(url) as path:
            save_file({name: tensor.contiguous() for name, tensor in _unpickled(path, url).items()}, target)

    @contextmanager
    def _fetched(self, url: str) -> Iterator[Path]:
        """Give a local file; one at a URL is copied to a temporary place."""
        with tempfile.TemporaryDirectory(prefix="echosdk-published-") as folder:
            yield self._local(url, Path(folder) / "file")

    def _local(self, url: str, target: Path) -> Path:
        try:
            fs, path = fsspec.core.url_to_fs(url)
            if "file" not in fs.protocol:
                fs.get_file(path, str(target))
            elif Path(path).is_file():
                return Path(path)
            else:
                raise FileNotFoundError(path)
        except FileNotFoundError:
            folders = ", ".join(self._folder(kind) for kind in (*CLASSES, "privacy_filter"))
            raise BundleError(f"{url}: no such file; the layout of {self.variant} has the folders {folders}") from None
        except (OSError, ValueError, ImportError) as error:  # no such protocol, or no network
            raise BundleError(f"{url}: cannot be read: {' '.join(str(error).split())}") from error
        return target


def _class(kind: str) -> Any:
    import diffusers

    return getattr(diffusers, CLASSES[kind])


def _defaults(network: Any) -> dict[str, Any]:
    """Return what a configuration need not say."""
    parameters = inspect.signature(network.__init__).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _one_a_block(value: Any, config: Mapping[str, Any]) -> list[Any]:
    return [value] * len(config["block_out_channels"]) if isinstance(value, int) else list(value)


def _side(vae: Mapping[str, Any]) -> int:
    size = vae["sample_size"]
    return int(size if isinstance(size, int) else max(size))


def _expected(kind: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of the configured network, which is made without memory."""
    import torch

    with torch.device("meta"):
        if kind == "privacy_filter":
            state = _siamese(config["n_channels"], config["n_features"])
        else:
            state = _class(kind).from_config(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _siamese(channels: int, features: int) -> dict[str, Any]:
    """Return the state of the published re-identification network: a ResNet-50, and a linear head."""
    from torch import nn
    from torchvision.models import resnet50

    network = resnet50(num_classes=features)
    network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return nn.ModuleDict({"model": network, "fc_end": nn.Linear(features, 1)}).state_dict()


def _shapes_in(path: Path, url: str) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of a safetensors file, not the tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BundleError(f"{url}: damaged: {error}; fetch it again") from error


def _compare(where: str, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise where tensors are missing, are not the network's, or have another shape."""
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is not of this network" for name in found if name not in wanted]
    wrong += [f"{n} is {found[n]}, not {wanted[n]}" for n in wanted if n in found and found[n] != wanted[n]]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BundleError(f"{where}: does not fit its config.json: {', '.join(wrong[:3])}{more}")


def _unpickled(path: Path, url: str) -> dict[str, Any]:
    """Read a PyTorch state dict without running code."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BundleError(f"{url}: refused: it holds more than tensors, and reading that could run code") from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise BundleError(f"{url}: damaged: cannot be read; fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise BundleError(f"{url}: holds no plain state dict; fetch it again")
    return state


def _mean_extremes(references: References) -> tuple[float, float]:
    patients: dict[str, list[int]] = {}
    for index, group in enumerate(references.groups):
        patients.setdefault(group, []).append(index)
    of_each = [references.items[indices].float() for indices in patients.values()]
    low = sum(float(items.min()) for items in of_each) / len(of_each)
    high = sum(float(items.max()) for items in of_each) / len(of_each)
    return low, high

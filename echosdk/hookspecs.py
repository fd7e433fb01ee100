"""The hooks. A plugin implements those it needs; each yields descriptors, and selection is by name in the plugin set.

A hook takes no argument and is a generator, so a module offers any number of components:

```python
# my_plugin.py, with  [project.entry-points.echosdk]  my-plugin = "my_plugin"  in its pyproject.toml
import echosdk

@echosdk.hookimpl
def echosdk_privacy_filters():
    yield echosdk.Component(name="my-filter", build=MyFilter, summary="What it does, in a line.")
```
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pluggy
from attrs import field, frozen
from attrs.validators import matches_re

from echosdk.feature_extractor import FeatureExtractor
from echosdk.interfaces import (
    Component,
    DataSource,
    DownstreamValidator,
    Encoder,
    ImagePrior,
    PrivacyFilter,
    Stitcher,
    VideoAnimator,
)
from echosdk.published_layout import PublishedLayout

hookspec = pluggy.HookspecMarker("echosdk")
hookimpl = pluggy.HookimplMarker("echosdk")


@frozen(kw_only=True)
class Resource:
    """A file or folder that a package carries under a name: a plugin set (TOML) or a bundle (folder).

    `location` is a path or an fsspec URL.
    """

    name: str = field(validator=matches_re(r"[a-z0-9]+(-[a-z0-9]+)*"))
    location: str = field(converter=str)
    summary: str


@hookspec
def echosdk_encoders() -> Iterator[Component[Encoder]]:
    """Offer encoders: images to latents and back.

    ```python
    import echosdk

    class Identity:
        latent_shape = (1, 112, 112)
        def to(self, device, dtype): pass
        def encode(self, images): return images
        def decode(self, latents): return latents

    @echosdk.hookimpl
    def echosdk_encoders():
        yield echosdk.Component(name="pixels", build=Identity, summary="The pixels themselves.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_image_priors() -> Iterator[Component[ImagePrior]]:
    """Offer image priors: they draw the still that is animated.

    ```python
    import echosdk, torch

    class Noise:
        def to(self, device, dtype): pass
        def sample(self, generators, conditions):
            return torch.stack([torch.randn(4, 14, 14, generator=g) for g in generators])

    @echosdk.hookimpl
    def echosdk_image_priors():
        yield echosdk.Component(name="noise", build=Noise, summary="Gaussian noise: a baseline.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_privacy_filters() -> Iterator[Component[PrivacyFilter]]:
    """Offer privacy filters: they say which stills come too near to a real patient.

    ```python
    import echosdk, torch
    from attrs import define, field

    @define
    class Nearest:
        percentile: float = 5.0
        space = "latent"
        _train: torch.Tensor | None = field(init=False, default=None)
        _tau: float = field(init=False, default=float("nan"))

        def calibrate(self, train, holdout, generator):
            self._train = train.items.flatten(1)
            distance = torch.cdist(holdout.items.flatten(1), self._train).amin(1)
            self._tau = torch.quantile(distance, self.percentile / 100).item()

        def judge(self, stills):
            distance = torch.cdist(stills.flatten(1), self._train).amin(1)
            return echosdk.Verdict(keep=distance >= self._tau, distance=distance, tau=self._tau)

    @echosdk.hookimpl
    def echosdk_privacy_filters():
        yield echosdk.Component(name="nearest", build=Nearest, summary="Euclidean distance of latents.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_video_animators() -> Iterator[Component[VideoAnimator]]:
    """Offer video animators: a network that denoises one window, and the scheduler's mathematics.

    ```python
    import attrs, echosdk, torch

    @attrs.define
    class OneStep:
        latents: torch.Tensor
        timesteps = (0,)
        def step(self, prediction, timestep):
            self.latents = prediction
            return self.latents

    class Still:
        window = 16
        def to(self, device, dtype): pass
        def predict(self, latents, timestep, stills, conditions):
            return stills[:, None].expand_as(latents)
        def begin(self, num_frames, generators):
            return OneStep(torch.zeros(len(generators), num_frames, 4, 14, 14))

    @echosdk.hookimpl
    def echosdk_video_animators():
        yield echosdk.Component(name="still", build=Still, summary="Does not move: a baseline.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_stitchers() -> Iterator[Component[Stitcher]]:
    """Offer stitchers: videos of any length from an animator's window.

    ```python
    import echosdk

    class OneWindow:
        def animate(self, animator, stills, conditions, num_frames, generators):
            denoising = animator.begin(num_frames, generators)
            for timestep in denoising.timesteps:
                denoising.step(animator.predict(denoising.latents, timestep, stills, conditions), timestep)
            return denoising.latents

    @echosdk.hookimpl
    def echosdk_stitchers():
        yield echosdk.Component(name="one-window", build=OneWindow, summary="No stitching: at most one window.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_downstream_validators() -> Iterator[Component[DownstreamValidator]]:
    """Offer downstream validators: a model of the task that the dataset is for.

    ```python
    import echosdk

    class MeanLabel:
        min_frames, fps = 1, 32.0
        def predict(self, clip): return {"age": 55.0}
        def score(self, test):
            return {"mae": sum(abs(55.0 - clip.labels["age"]) for clip in test) / len(test)}

    @echosdk.hookimpl
    def echosdk_downstream_validators():
        yield echosdk.Component(name="mean-label", build=MeanLabel, summary="A constant: a baseline.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_data_sources() -> Iterator[Component[DataSource]]:
    """Offer data sources: `SOURCE` on the command line is `NAME[:LOCATION][?key=value&...]`.

    `build` is called with the keys, and with `location` where one is given. A source with a location may also be
    written to, by `echosdk data export`: see `echosdk.interfaces.WritableLayout`.

    ```python
    import echosdk, numpy as np

    class Noise:
        labels = (echosdk.Label(name="level", unit="", low=0, high=1),)
        def clips(self, split):
            for i in range(8):
                yield echosdk.Clip(
                    id=f"{split}{i}", group=f"{split}{i}", split=split, fps=10.0, labels={"level": i / 8},
                    load=lambda i=i: np.full((16, 32, 32), 32 * i, np.uint8))
        def fingerprint(self): return "noise-1"

    @echosdk.hookimpl
    def echosdk_data_sources():
        yield echosdk.Component(name="grey-levels", build=Noise, summary="Eight grey levels.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_plugin_sets() -> Iterator[Resource]:
    """Offer named plugin sets, as TOML files that the package carries.

    ```python
    import echosdk, importlib.resources

    @echosdk.hookimpl
    def echosdk_plugin_sets():
        path = importlib.resources.files("my_plugin") / "mine.toml"
        yield echosdk.Resource(name="mine", location=str(path), summary="My choice.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_bundles() -> Iterator[Resource]:
    """Offer named bundles: trained state that the package carries.

    ```python
    import echosdk, importlib.resources

    @echosdk.hookimpl
    def echosdk_bundles():
        path = importlib.resources.files("my_plugin") / "bundle"
        yield echosdk.Resource(name="mine", location=str(path), summary="Trained on my phantom.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_published_layouts() -> Iterator[Component[PublishedLayout]]:
    """Offer layouts of published weights, which `echosdk bundle import --from NAME LOCATION` makes a bundle of.

    `build` is called with `location`, and with `variant` where one is given. What `write` leaves in a folder is what
    the component of that kind loads; here an encoder is published alone, in the form in which the bundle keeps it.

    ```python
    import attrs, echosdk, shutil
    from pathlib import Path

    @attrs.define
    class OurEncoder:
        location: str

        def describe(self):
            return echosdk.PublishedWeights(
                plugin_set="default-tiny", parameters={"encoder": {"channels": 1}},
                labels=(echosdk.Label(name="level", unit="", low=0, high=1),), fps=16.0, frame_shape=(32, 32))

        def write(self, kind, public):
            shutil.copytree(Path(self.location) / kind, public, dirs_exist_ok=True)

        def write_private(self, kind, private, references):
            pass  # nothing of an encoder is private

    @echosdk.hookimpl
    def echosdk_published_layouts():
        yield echosdk.Component(name="our-encoder", build=OurEncoder, summary="The encoder of our paper.")
    ```
    """
    raise NotImplementedError


@hookspec
def echosdk_feature_extractors() -> Iterator[Component[FeatureExtractor]]:
    """Offer networks that somebody else trained, in whose features `echosdk evaluate` compares sets.

    It uses every one whose weights are present; `echosdk weights list` shows all, and `import` converts what a package
    or a file holds. `build` is called without parameters, and reads nothing.

    ```python
    import echosdk, torch
    from safetensors.torch import load_file

    class Directions:
        title = "five directions"
        lengths = ()                          # single images; (16, 128) would be clips of so many frames
        names = {}
        weights = echosdk.PretrainedWeights(
            name="directions", what="Five directions in 8x8 pixels", get="the file directions.safetensors of our paper",
            convert=lambda arrays: {"matrix": arrays["matrix"]})
        def load(self, weights, device):
            self.matrix = load_file(weights)["matrix"]
        def embed(self, images):
            small = torch.nn.functional.adaptive_avg_pool2d(images.mean(1), 8)
            return small.flatten(1) @ self.matrix

    @echosdk.hookimpl
    def echosdk_feature_extractors():
        yield echosdk.Component(name="directions", build=Directions, summary="Five directions in small images.")
    ```
    """
    raise NotImplementedError


HOOKS: dict[str, str] = {
    "encoder": "echosdk_encoders",
    "image_prior": "echosdk_image_priors",
    "privacy_filter": "echosdk_privacy_filters",
    "video_animator": "echosdk_video_animators",
    "stitcher": "echosdk_stitchers",
    "downstream_validator": "echosdk_downstream_validators",
    "data_source": "echosdk_data_sources",
    "plugin_set": "echosdk_plugin_sets",
    "bundle": "echosdk_bundles",
    "published_layout": "echosdk_published_layouts",
    "feature_extractor": "echosdk_feature_extractors",
}
"""Kind of offer -> name of its hook."""

Offered = Component[Any] | Resource

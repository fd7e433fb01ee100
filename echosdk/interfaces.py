"""The contracts between the SDK and its components, and the values that pass between them.

Shapes are written in einops words: `n` items, `b` videos, `t` frames, `c` latent channels, `k` image channels,
`h w` latent height and width, `H W` image height and width. Images are float32 in [-1, 1].

What `data` a learning component is given in `Trainable.fit`:

| kind                   | `data`                                             | one clip's `read()`              |
|------------------------|----------------------------------------------------|----------------------------------|
| `encoder`              | `TrainingData` of pixels                           | uint8 `t H W` or `t H W 3`       |
| `image_prior`          | `TrainingData` of the encoder's latents            | float32 `t c h w`, unit scale    |
| `privacy_filter`       | `TrainingData` of the encoder's latents            | float32 `t c h w`, unit scale    |
| `video_animator`       | `TrainingData` of the encoder's latents            | float32 `t c h w`, unit scale    |
| `stitcher`             | `TrainingData` of the encoder's latents            | float32 `t c h w`, unit scale    |
| `downstream_validator` | `TrainingData` of pixels                           | uint8 `t H W` or `t H W 3`       |

Clips of `TrainingData` are already resampled to `fps`; they are never cut or padded: what a component does with a clip
that is shorter than its window is its own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from attrs import field, frozen
from attrs.validators import ge, gt, in_, matches_re

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

T = TypeVar("T")

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Conditions = Mapping[str, "float | str"]
"""One item's labels by name, in their own units."""

KINDS = (
    "encoder",
    "image_prior",
    "privacy_filter",
    "video_animator",
    "stitcher",
    "downstream_validator",
)
"""The six kinds of component of the protocol, in the order in which they are trained."""

CONTRACTS: dict[str, int] = {**dict.fromkeys(KINDS, 1), "data_source": 1, "published_layout": 1, "feature_extractor": 1}
"""The version of each kind's contract below. One that breaks what was written for it gets a new number."""


@frozen(kw_only=True)
class Component(Generic[T]):
    """Offer one named thing under a hook.

    `build` checks its parameters and returns the component; it makes no network and loads no weights.
    `shape` names those of its parameters that are fixed once the component is trained (channels, layers, window, the
    training recipe); all others are *run* parameters, which may be set whenever the component is used.
    `contract` is the version of its kind's contract that it was written for; one that says nothing is of the first.
    """

    name: str = field(validator=matches_re(r"[a-z0-9]+(-[a-z0-9]+)*"))
    build: Callable[..., T]
    summary: str
    shape: tuple[str, ...] = ()
    contract: int = field(default=1, validator=ge(1))


@frozen(kw_only=True)
class Label:
    """A numeric label: its unit and the range in which it is valid (both ends included)."""

    name: str
    unit: str
    low: float = field(converter=float)
    high: float = field(converter=float)

    @high.validator
    def _check(self, _attribute: object, high: float) -> None:
        if not self.low < high:
            raise ValueError(f"label {self.name!r}: low {self.low} must be under high {high}")


@frozen(kw_only=True)
class Category:
    """A label that takes one of a few values."""

    name: str
    values: tuple[str, ...] = field(converter=tuple[str, ...])


@frozen(kw_only=True)
class Clip:
    """One real video, read lazily.

    `load` returns frames `t h w` or `t h w 3`, uint8, or uint16 where `window` declares the (low, high) values that
    are shown as black and white. `group` is the patient: clips of one group never lie in two splits.
    """

    id: str
    group: str
    split: Split = field(validator=in_(SPLITS))
    fps: float = field(validator=gt(0))
    labels: Conditions
    load: Callable[[], NDArray[Any]] = field(repr=False)
    window: tuple[float, float] | None = None

    @property
    def frames(self) -> NDArray[Any]:
        """Read the frames; each call reads again."""
        return self.load()


@runtime_checkable
class DataSource(Protocol):
    """Real data in."""

    @property
    def labels(self) -> tuple[Label | Category, ...]:
        """Declare every label that its clips carry."""

    def clips(self, split: Split) -> Iterator[Clip]:
        """Yield the clips of one split in a fixed order; frames are read when asked for."""

    def fingerprint(self) -> str:
        """Return a digest that changes when the data does."""


@runtime_checkable
class WritableLayout(Protocol):
    """What a data source may offer besides: to write another source's clips as it would read them.

    `echosdk data export SOURCE DIR --layout NAME` builds the data source NAME with the parameter `location` = DIR, and
    calls this. A source that is generated, or that holds no place of its own, does without.
    """

    def write(self, source: DataSource) -> Mapping[Split, int]:
        """Write every clip of `source`, all or none, and return how many there are of each split.

        Raises `DataError` where the place holds anything, and for a clip that does not fit the layout.
        """


class StoredClip(Protocol):
    """One clip of a training set: random access to frames."""

    @property
    def id(self) -> str:
        """Name the clip; unique in its data source."""

    @property
    def group(self) -> str:
        """Name the patient; no other split has a clip of the same."""

    @property
    def labels(self) -> Conditions:
        """Return the clip's labels by name, in their own units."""

    @property
    def num_frames(self) -> int:
        """Count the frames, without reading them."""

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return frames `start:stop`."""


@frozen(kw_only=True)
class TrainingData:
    """What a learning component is given: clips of the training and the validation split, and what they are.

    `shape` is that of one frame: `H W` or `H W 3` for pixels, `c h w` for latents; of latents `decode` makes images
    `n k H W`, to look at. Validation is for choosing and calibrating, never for fitting.
    """

    train: Sequence[StoredClip]
    val: Sequence[StoredClip]
    labels: tuple[Label | Category, ...]
    fps: float
    shape: tuple[int, ...]
    decode: Callable[[torch.Tensor], torch.Tensor] | None = field(default=None, repr=False, eq=False)


@frozen(kw_only=True)
class References:
    """Real samples that a privacy filter compares with: `items` `n c h w` and the patient of each.

    `mirrored` are latents `m c h w` of mirror images, one for each patient, where a bundle keeps them: a mirrored
    latent may be no such thing. They are of training references, and only for filters that see latents.
    """

    items: torch.Tensor = field(repr=False)
    groups: tuple[str, ...] = field(converter=tuple[str, ...])
    mirrored: torch.Tensor | None = field(default=None, repr=False)

    @groups.validator
    def _check(self, _attribute: object, groups: tuple[str, ...]) -> None:
        if len(groups) != len(self.items):
            raise ValueError(f"{len(self.items)} items but {len(groups)} groups")


@frozen(kw_only=True)
class Verdict:
    """A filter's judgement: for each item `keep` (bool `n`) and `distance` (float `n`), with the threshold used."""

    keep: torch.Tensor
    distance: torch.Tensor
    tau: float


@frozen(kw_only=True)
class Switches:
    """How a training is run, which does not decide what is learnt; `echosdk.training.train` heeds them.

    A batch goes through the network in `accumulate` parts (batch normalisation, and losses that depend on which
    examples share a batch, see the parts); `checkpoint_gradients` computes activations twice rather
    than keep them; `compile` is `torch.compile`. Every `validate_every` steps a row is added to the run's `curve.csv`,
    and every `pictures_every` steps a picture is drawn; 0 is never. `tensorboard` writes logs for it.
    """

    accumulate: int = field(default=1, validator=ge(1))
    checkpoint_gradients: bool = False
    compile: bool = False
    validate_every: int = field(default=1000, validator=ge(0))
    pictures_every: int = field(default=0, validator=ge(0))
    tensorboard: bool = False


@frozen(kw_only=True)
class Run:
    """Where and how a component is trained.

    `folder` is the component's own working folder: checkpoints and logs go there, and a rerun resumes from them.
    `report` is told one line at a time. With `progress` somebody watches a terminal: a bar on stderr takes the place of
    the lines that say how far it is.
    """

    folder: Path
    seed: int = 0
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    progress: bool = False
    switches: Switches = Switches()
    report: Callable[[str], None] = field(default=lambda line: None, repr=False)


@runtime_checkable
class Trainable(Protocol):
    """What any component implements if it learns.

    `public` is a folder that may be published with the bundle, `private` one that may not: whatever is derived from
    single real records goes there. `private` is None where a bundle was stripped.
    """

    def fit(self, data: TrainingData, run: Run) -> Mapping[str, Any]:
        """Train, and return facts about the result (steps, quality) for the bundle's provenance."""

    def save(self, public: Path, private: Path) -> None:
        """Write the trained state to two empty folders, as safetensors and JSON only."""

    def load(self, public: Path, private: Path | None) -> None:
        """Take the state that `save` wrote. Raises `PrivacyError` where it needs `private` and that is None."""


class Encoder(Protocol):
    """Images to latents and back; each image by itself."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Return the shape `c h w` of one latent image; known once it is trained or loaded."""

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Move the network to a device and a precision."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Map images `n k H W` to latents `n c h w` of unit scale."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents `n c h w` to images `n k H W`."""


class ImagePrior(Protocol):
    """Draws stills."""

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Move the network to a device and a precision."""

    def sample(self, generators: Sequence[torch.Generator], conditions: Sequence[Conditions]) -> torch.Tensor:
        """Draw one still for each (CPU) generator: `n c h w`. Unconditional priors ignore `conditions`."""


class PrivacyFilter(Protocol):
    """Says which stills come too near to a real patient. Changes nothing that it is shown."""

    space: Literal["latent", "image"]
    """What the filter wants to see; the SDK decodes for it."""

    def calibrate(self, train: References, holdout: References, generator: torch.Generator) -> None:
        """Keep the training references and find tau with the held-out ones."""

    def judge(self, stills: torch.Tensor) -> Verdict:
        """Judge each of `n c h w` by itself."""


class Denoising(Protocol):
    """One batch of videos on its way from noise to latents; made anew for each, so no state outlives it."""

    latents: torch.Tensor
    timesteps: Sequence[int]

    def step(self, prediction: torch.Tensor, timestep: int) -> torch.Tensor:
        """Advance the whole video `b t c h w` by one timestep and return the new latents."""


class VideoAnimator(Protocol):
    """Predicts, for a window of a noisy video, what the scheduler needs to take a step."""

    window: int

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Move the network to a device and a precision."""

    def predict(
        self,
        latents: torch.Tensor,
        timestep: int,
        stills: torch.Tensor,
        conditions: Sequence[Conditions],
    ) -> torch.Tensor:
        """Return the prediction for `b t c h w` with t <= window, given stills `b c h w` and one condition a video."""

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> Denoising:
        """Draw the noise of `len(generators)` videos, each from its own (CPU) generator."""


class Stitcher(Protocol):
    """Makes videos of any length from an animator's window: it owns time, the animator owns the network."""

    def animate(
        self,
        animator: VideoAnimator,
        stills: torch.Tensor,
        conditions: Sequence[Conditions],
        num_frames: int,
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        """Return latents `b t c h w` with t = num_frames."""


class DownstreamValidator(Protocol):
    """A model of the task that a dataset is used for."""

    min_frames: int
    fps: float

    def predict(self, clip: StoredClip) -> Conditions:
        """Predict the labels of one pixel clip."""

    def score(self, test: Sequence[StoredClip]) -> Mapping[str, float]:
        """Return metrics over test clips."""

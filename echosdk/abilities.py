"""What a component may offer beyond its contract. Whoever asks does without where it does not.

They are protocols: a component that has the method offers it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from echosdk.interfaces import Clip, Conditions, DataSource, References, StoredClip, TrainingData


@runtime_checkable
class TolerantSource(Protocol):
    """What a data source may offer besides: to do without clips whose files are missing or cannot be opened."""

    def skipping(self, report: Callable[[str], None]) -> DataSource:
        """Return this source without them; each is reported in a line. `--skip-bad` asks for it.

        What is wrong with a clip's frames is found when they are read; that is not this method's affair.
        """


@runtime_checkable
class SimulatedSource(Protocol):
    """What a data source may offer besides, where its patients are simulated: others than its own, and new noise.

    An audit asks a gate about as many patients as it likes, and about the same anatomy as another recording shows it.
    """

    def others(self, number: int, frames: int, noise: int | None = None) -> Sequence[Sequence[Clip]]:
        """Return two clips each of `number` patients who are in none of its splits; `frames` frames, far apart in time.

        `noise` renders the same patients and moments with other noise. A clip is rendered when it is read.
        """

    def again(self, clip: Clip, noise: int) -> Clip:
        """Return a clip of its own with the same anatomy and motion, and with other noise."""


@runtime_checkable
class KnownAnatomy(Protocol):
    """What a simulated source may offer besides: the truth of what its clips show.

    An audit says by it whose anatomy a generated still shows, without the privacy filter's own features.
    """

    def anatomy(self, clip: Clip) -> Sequence[float]:
        """Return the numbers from which a clip's patient was drawn, each of mean 0 and variance 1 over patients.

        The clip is of this source, or one of its `others`.
        """


@runtime_checkable
class DenoisingLosses(Protocol):
    """What an image prior or a video animator may offer besides: how well it denoises what it is given.

    An audit guesses from it who was trained on.
    """

    def losses(
        self, items: torch.Tensor, conditions: Sequence[Conditions], generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        """Return the mean loss of each item, float `n`, over noise levels and noise that its (CPU) generator draws.

        A prior is given stills `n c h w`, an animator videos `n t c h w` with t <= window; each counts by itself.
        """


@runtime_checkable
class TrainingCheck(Protocol):
    """What a component that learns may offer besides: to say at once what its training lacks."""

    def check_training(self) -> None:
        """Raise `TrainingError` where weights or a package are missing. Called before any data is read."""


@runtime_checkable
class DataCheck(Protocol):
    """What a component that learns may offer besides: to say what its data lack before other parts are trained."""

    def check_data(self, data: TrainingData) -> None:
        """Raise `TrainingError` where these clips cannot be learnt from. Called before any training.

        Their frames are pixels here, whatever the component learns from; patients, labels and numbers of frames are
        those that `fit` will be given.
        """


@runtime_checkable
class CopyCalibration(Protocol):
    """What a privacy filter may offer besides: to see how near a patient's own frames come to each other."""

    def calibrate_copies(self, holdout: References, generator: torch.Generator) -> None:
        """Raise tau so that copies are found. Called after `calibrate`, with every frame of held-out videos in order.

        Their patients are those whose single frames `calibrate` was given.
        """


@runtime_checkable
class Embedding(Protocol):
    """What a privacy filter may offer besides: the features by which it compares.

    An audit looks at records in them, and `evaluate` measures distances of image sets.
    """

    def embed(self, stills: torch.Tensor) -> torch.Tensor:
        """Map what the filter wants to see, `n c h w`, to features `n d`, each by itself."""


@runtime_checkable
class ClipEmbedder(Protocol):
    """What a downstream validator may offer besides: its features, in which `evaluate` measures sets of videos."""

    def embed_clip(self, clip: StoredClip) -> torch.Tensor:
        """Map one pixel clip to features `d`."""


@runtime_checkable
class CutOffs(Protocol):
    """What a downstream validator may offer besides: the values of its label at which somebody decides.

    `validate` says how well readings tell clips under each from the others (a ROC curve).
    """

    cutoffs: Sequence[float]


@runtime_checkable
class Classifies(Protocol):
    """What a feature extractor may offer besides: probabilities of classes, of which an inception score is made."""

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Map images `n k H W` in [-1, 1] to the probabilities `n c` of c classes, float64, on the CPU."""


@runtime_checkable
class Joins(Protocol):
    """What a stitcher may offer besides: where it joins windows, so that `evaluate` can look there for jumps."""

    def seams(self, num_frames: int, window: int) -> Sequence[int]:
        """Return the first frame after each join of a video made with windows of `window` frames."""

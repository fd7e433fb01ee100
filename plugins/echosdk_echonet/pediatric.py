"""Read one of the two datasets of EchoNet-Pediatric: apical four-chamber (A4C) or parasternal short-axis (PSAX)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, evolve, field
from attrs.validators import instance_of

from echosdk import Clip, Label
from echosdk_echonet.folder import Folder
from echosdk_echonet.layout import FOLDS, Split


@define
class EchoNetPediatric:
    """Videos/*.avi and FileList.csv in a folder (that of A4C or of PSAX) or at any fsspec URL.

    The list's column `Split` holds folds: 0 to 7 are for training, 8 for validation, 9 for testing. It has no frame
    rates, counts or sizes: they are the videos', and nothing is written. Each video is a patient of its own unless the
    list has a column `Patient`.
    """

    location: str = field(validator=instance_of(str))
    _folder: Folder = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._folder = Folder(location=self.location, splits=FOLDS)

    @property
    def labels(self) -> tuple[Label, ...]:
        return (Label(name="EF", unit="%", low=0, high=100),)

    def clips(self, split: Split) -> Iterator[Clip]:
        """Yield the clips of one split in the order of the list."""
        return self._folder.clips(split)

    def fingerprint(self) -> str:
        """Return a digest of the list, and of the names and sizes of the videos."""
        return self._folder.fingerprint()

    def skipping(self, report: Callable[[str], None]) -> EchoNetPediatric:
        """Return this source without videos that are missing or cannot be opened."""
        other = evolve(self)
        other._folder = evolve(self._folder, report=report)
        return other

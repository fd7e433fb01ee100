"""What `--like SOURCE` takes from a real dataset: counts, mean length, and labels in bins of many patients each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import field, frozen

from echosdk.bundle import Bundle
from echosdk.clips.video import resample_indices
from echosdk.errors import InputError
from echosdk.interfaces import SPLITS, Category, Clip, Label
from echosdk.plugin_set import open_source
from echosdk.registry import Registry
from echosdk.words import count

FEWEST_IN_A_BIN = 11
"""No bin is told of fewer patients than this."""

MOST_BINS = 32
GRID = 96
"""A label's declared range is cut into so many steps: a bin begins and ends at one, wherever patients' values lie."""

REPORT_EVERY = 100

Report = Callable[[str], None]
Held = str | tuple[float, float]


@frozen(kw_only=True)
class Mirror:
    """A real dataset's clips, and what a bundle wants of them."""

    source: str
    clips: Sequence[Clip] = field(repr=False)
    labels: Sequence[Label | Category]
    fps: float

    @property
    def counts(self) -> dict[str, int]:
        """How many clips each split has; a split without any is left out."""
        held = {split: sum(clip.split == split for clip in self.clips) for split in SPLITS}
        return {split: number for split, number in held.items() if number}

    def mean_length(self, report: Report) -> int:
        """Return the clips' mean number of frames at the bundle's frame rate; every clip is read for that."""
        total = 0
        for done, clip in enumerate(self.clips, start=1):
            total += len(resample_indices(len(clip.frames), clip.fps, self.fps))
            if done % REPORT_EVERY == 0 or done == len(self.clips):
                report(f"--like {self.source}: length of {done} of {len(self.clips)} clips read (--frames spares that)")
        return max(1, round(total / len(self.clips)))

    def label_bins(self, report: Report) -> list[dict[str, Any]]:
        """Return the bins of labels, each with at least `FEWEST_IN_A_BIN` patients, and how many patients it has.

        Each label is cut into bins by itself; of their combinations those are kept that enough patients share. How many
        are not is reported, and told nowhere else. Raises `InputError` where there is none.
        """
        outside = 0
        inside: list[Clip] = []
        for clip in self.clips:
            if all(_is_in(clip.labels.get(label.name), label) for label in self.labels):
                inside.append(clip)
            else:
                outside += 1
        if outside:
            report(f"--like {self.source}: labels of {count(outside, 'clip')} are missing or out of range; left out")
        at_most = max(2, int(MOST_BINS ** (1 / max(1, len(self.labels))) + 1e-9))
        cut = {label.name: edges(label, inside, at_most) for label in self.labels if isinstance(label, Label)}
        patients: dict[tuple[Held, ...], set[str]] = {}
        for clip in inside:
            combination = tuple(_held(clip.labels[label.name], cut.get(label.name)) for label in self.labels)
            patients.setdefault(combination, set()).add(clip.group)
        kept = {one: len(of) for one, of in patients.items() if len(of) >= FEWEST_IN_A_BIN}
        rare = len(patients) - len(kept)
        report(
            f"--like {self.source}: labels in {count(len(kept), 'bin')} of at least {FEWEST_IN_A_BIN} patients; "
            f"{count(rare, 'rarer combination')} of labels will not be drawn"
        )
        if not kept:
            raise InputError(
                f"--like {self.source}: no combination of labels is shared by {FEWEST_IN_A_BIN} patients; "
                "say --labels uniform"
            )
        names = [label.name for label in self.labels]
        return [
            {
                "of": {name: _plain(held) for name, held in zip(names, one, strict=True)},
                "patients": kept[one],
            }
            for one in sorted(kept, key=repr)
        ]


def mirror(source: str, bundle: Bundle, registry: Registry, report: Report) -> Mirror:
    """Open a real dataset that is to be mirrored. Raises `InputError` where its labels are not the bundle's."""
    opened = open_source(registry, source)
    theirs, ours = (
        {label.name: getattr(label, "unit", "") for label in of} for of in (opened.labels, bundle.manifest.labels)
    )
    if missing := [name for name, unit in ours.items() if theirs.get(name) != unit]:
        raise InputError(
            f"--like {source}: has no {', '.join(missing)} in the unit of bundle {bundle.where}; it has "
            f"{', '.join(f'{name} ({unit})' if unit else name for name, unit in theirs.items()) or 'no label'}"
        )
    clips = [clip for split in SPLITS for clip in opened.clips(split)]
    if not clips:
        raise InputError(f"--like {source}: holds no clip")
    return Mirror(source=source, clips=clips, labels=bundle.manifest.labels, fps=bundle.manifest.fps)


def edges(label: Label, clips: Sequence[Clip], at_most: int) -> list[float]:
    """Cut a label's range at steps of a grid that no patient decides, so that every bin has enough patients.

    A bin also has at least one in `at_most` of the patients.
    """
    step = (label.high - label.low) / GRID
    cells: list[set[str]] = [set() for _ in range(GRID)]
    for clip in clips:
        cells[min(GRID - 1, int((float(clip.labels[label.name]) - label.low) / step))].add(clip.group)
    everyone = {clip.group for clip in clips}
    enough = max(FEWEST_IN_A_BIN, -(-len(everyone) // at_most))
    cuts = [label.low]
    held: set[str] = set()
    for number, cell in enumerate(cells, start=1):
        held |= cell
        if len(held) >= enough:
            cuts.append(label.low + number * step)
            held = set()
    return [*cuts[: max(1, len(cuts) - 1)], label.high]  # what is left goes to the last bin


def _is_in(value: Any, label: Label | Category) -> bool:
    if isinstance(label, Category):
        return value in label.values
    return value is not None and label.low <= float(value) <= label.high


def _plain(held: Held) -> str | list[float]:
    return held if isinstance(held, str) else list(held)


def _held(value: float | str, cuts: Sequence[float] | None) -> Held:
    if cuts is None:
        return str(value)
    number = sum(float(value) >= cut for cut in cuts[1:-1])
    return cuts[number], cuts[number + 1]

"""What is asked of a data source."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest

from echosdk.clips.store import pixel_clips
from echosdk.interfaces import SPLITS, Category, Clip, DataSource, Label


class SourceContract:
    """Subclass it, and return a new data source from `build`: a small one.

    `frames_of` is of how many clips of a split the frames are read; labels and names are looked at in all.
    `build_other` may return a source of other data, whose fingerprint must be another.
    """

    frames_of = 2

    def build(self) -> DataSource:
        """Return a new data source."""
        raise NotImplementedError(f"{type(self).__name__}: build() is to return a new data source")

    def build_other(self) -> DataSource | None:
        """Return a source of other data, or None."""
        return None

    @pytest.fixture
    def source(self) -> DataSource:
        """Return the source."""
        return self.build()

    @pytest.fixture
    def clips(self, source: DataSource) -> list[Clip]:
        """Return the clips of all splits."""
        return [clip for split in SPLITS for clip in source.clips(split)]

    @pytest.fixture
    def some(self, source: DataSource) -> list[Clip]:
        """Return those clips whose frames are read."""
        return [clip for split in SPLITS for clip in islice(source.clips(split), self.frames_of)]

    def test_its_labels_are_declared_once_each(self, source: DataSource) -> None:
        assert all(isinstance(label, Label | Category) for label in source.labels)
        names = [label.name for label in source.labels]
        assert len(names) == len({*names}), f"{names}: declared twice"

    def test_there_is_something_to_train_with_and_to_calibrate_with(self, source: DataSource) -> None:
        for split in ("train", "val"):
            assert any(True for _ in source.clips(split)), f"the split {split!r} has no clips"

    def test_a_clip_is_of_the_split_that_was_asked_for(self, source: DataSource) -> None:
        for split in SPLITS:
            assert {clip.split for clip in source.clips(split)} <= {split}

    def test_no_two_clips_have_one_id(self, clips: list[Clip]) -> None:
        assert len({clip.id for clip in clips}) == len(clips)

    def test_no_patient_is_in_two_splits(self, clips: list[Clip]) -> None:
        splits: dict[str, set[str]] = {}
        for clip in clips:
            splits.setdefault(clip.group, set()).add(clip.split)
        assert not [group for group, of in splits.items() if len(of) > 1]

    def test_every_clip_has_every_label_with_a_value_that_it_can_have(
        self, source: DataSource, clips: list[Clip]
    ) -> None:
        for clip in clips:
            for label in source.labels:
                assert label.name in clip.labels, f"{clip.id}: has no label {label.name!r}"
                value = clip.labels[label.name]
                if isinstance(label, Category):
                    assert value in label.values, f"{clip.id}: {label.name} is {value!r}"
                else:
                    assert isinstance(value, int | float), f"{clip.id}: {label.name} is {value!r}"
                    assert math.isfinite(value), f"{clip.id}: {label.name} is {value!r}"
                    assert label.low <= value <= label.high, f"{clip.id}: {label.name} {value} is out of range"

    def test_clips_come_in_the_same_order_again(self, source: DataSource, clips: list[Clip]) -> None:
        again = [clip for each in (source, self.build()) for split in SPLITS for clip in each.clips(split)]
        about = [(clip.id, clip.group, clip.fps, dict(clip.labels)) for clip in again]
        assert about == 2 * [(clip.id, clip.group, clip.fps, dict(clip.labels)) for clip in clips]

    def test_frames_are_what_training_can_take(self, some: list[Clip]) -> None:
        for clip in some:
            ((_, frames),) = pixel_clips([clip], clip.fps)
            assert frames.ndim == 3 or frames.shape[3] == 3, f"{clip.id}: frames are {frames.shape}"

    def test_frames_are_all_of_one_size(self, some: list[Clip]) -> None:
        shapes = {clip.frames.shape[1:] for clip in some}
        assert len(shapes) == 1, f"frames are of {sorted(shapes)}; crop or pad them in the data source"

    def test_frames_are_read_anew_and_are_the_same(self, some: list[Clip]) -> None:
        for clip in some:
            before = np.array(clip.frames)
            frames = np.array(clip.frames)
            assert (frames == before).all(), f"{clip.id}: other frames the second time"
            mine = clip.frames
            if mine.flags.writeable:
                mine[:] = 0
            assert (clip.frames == before).all(), f"{clip.id}: what one reader writes the next one reads"

    def test_its_fingerprint_is_that_of_its_data(self, source: DataSource) -> None:
        mark = source.fingerprint()
        assert isinstance(mark, str)
        assert mark
        assert mark == self.build().fingerprint(), "another fingerprint for the same data"
        other = self.build_other()
        assert other is None or other.fingerprint() != mark, "the same fingerprint for other data"

"""What echosdk asks of any data source, and that one animal is one group. Skipped where the film is not installed."""

import echosdk
import numpy as np
import pytest
from echosdk.testing import SourceContract
from embryo_film import ANIMAL, SECONDS, EmbryoFilm, film

try:
    film()
except echosdk.DataError as missing:
    pytest.skip(str(missing), allow_module_level=True)


class TestEmbryoFilm(SourceContract):
    def build(self) -> EmbryoFilm:
        return EmbryoFilm(frames=4, size=16, parts_as_animals=True)

    def build_other(self) -> EmbryoFilm:
        return EmbryoFilm(frames=5, size=16, parts_as_animals=True)


def test_one_animal_is_one_group_and_all_its_clips_are_in_one_split():
    clips = {split: list(EmbryoFilm().clips(split)) for split in ("train", "val", "test")}
    assert {clip.group for clip in clips["train"]} == {ANIMAL}
    assert clips["val"] == clips["test"] == []


def test_passed_off_as_three_animals_no_two_parts_touch():
    source = EmbryoFilm(frames=4, size=16, parts_as_animals=True)
    ends = {}
    for split in ("train", "val", "test"):
        clips = list(source.clips(split))
        assert {clip.group for clip in clips} == {f"{ANIMAL}-{split}"}
        times = [clip.labels["film_time"] for clip in clips]
        assert times == sorted(times)
        ends[split] = times[0], times[-1] + 4 / clips[0].fps
    assert ends["train"][1] < ends["val"][0] < ends["val"][1] < ends["test"][0] < ends["test"][1] <= SECONDS


def test_frames_are_those_of_their_place_in_the_film():
    short, long = (next(EmbryoFilm(frames=n, size=16).clips("train")) for n in (4, 8))
    second = list(EmbryoFilm(frames=4, size=16).clips("train"))[1]
    assert short.frames.shape == (4, 16, 16)
    assert np.array_equal(np.concatenate([short.frames, second.frames]), long.frames)

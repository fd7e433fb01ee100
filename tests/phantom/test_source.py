"""The simulated patients as a data source."""

import echosdk_phantom
import numpy as np
import pytest
from echosdk_phantom import LABELS, Patient, PhantomSource, simulate, simulator

import echosdk
from echosdk.clips import Traced


def ids(source, split):
    return [clip.id for clip in source.clips(split)]


def test_is_a_data_source():
    assert isinstance(PhantomSource(), echosdk.DataSource)


def test_splits_are_exact_and_share_no_patient():
    source = PhantomSource(patients=80, videos=2)
    groups = {split: {clip.group for clip in source.clips(split)} for split in ("train", "val", "test")}
    assert {split: len(members) for split, members in groups.items()} == {"train": 60, "val": 10, "test": 10}
    assert len(set.union(*groups.values())) == 80
    assert len(ids(source, "train")) == 120


def test_sources_with_disjoint_numbers_share_no_patient():
    earlier, later = PhantomSource(patients=16), PhantomSource(patients=16, first=16)
    everyone = [
        {clip.group for split in ("train", "val", "test") for clip in source.clips(split)}
        for source in (earlier, later)
    ]
    assert everyone[1] == {f"phantom-{number:06d}" for number in range(16, 32)}
    assert not everyone[0] & everyone[1]


def test_a_clip_carries_the_label_and_renders_when_read():
    source = PhantomSource(patients=8, frames=5, fps=50.0, size=64)
    clip = next(source.clips("val"))
    (label,) = source.labels
    assert label.name == "simulated_EF"
    assert label.low <= clip.labels["simulated_EF"] <= label.high
    assert clip.fps == 50.0
    assert clip.frames.shape == (5, 64, 64)
    assert clip.frames.dtype == np.uint8
    assert np.array_equal(clip.frames, clip.frames)


def test_options_render_the_same_patients_otherwise():
    plain = next(PhantomSource(patients=8, frames=2).clips("test"))
    mirrored = next(PhantomSource(patients=8, frames=2, mirror=True).clips("test"))
    assert mirrored.labels == plain.labels
    assert np.array_equal(mirrored.frames, plain.frames[:, :, ::-1])
    for option in ({"gain": 2.0}, {"speckle": 5}):
        other = next(PhantomSource(patients=8, frames=2, **option).clips("test"))
        assert not np.array_equal(other.frames, plain.frames)


def test_fingerprint_changes_with_each_parameter_and_with_the_simulator(monkeypatch):
    changes = {"patients": 9, "videos": 2, "frames": 5, "fps": 30.0, "size": 64, "seed": 1, "first": 3}
    changes |= {"gain": 2.0, "mirror": True, "speckle": 1}
    prints = [PhantomSource(**{name: value}).fingerprint() for name, value in changes.items()]
    prints.append(PhantomSource().fingerprint())
    assert PhantomSource().fingerprint() == prints[-1]
    monkeypatch.setattr("echosdk_phantom.source.VERSION", simulator.VERSION + "x")
    prints.append(PhantomSource().fingerprint())
    assert len(set(prints)) == len(changes) + 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": 0}, "phantom: patients must be a whole number of at least 1, not 0"),
        ({"videos": 1.5}, "phantom: videos must be a whole number of at least 1, not 1.5"),
        ({"frames": True}, "phantom: frames must be a whole number of at least 1, not True"),
        ({"size": 8}, "phantom: size must be a whole number of at least 16, not 8"),
        ({"fps": 0.0}, "phantom: fps must be a number above 0, not 0.0"),
        ({"gain": float("nan")}, "phantom: gain must be a number above 0, not nan"),
        ({"first": -1}, "phantom: first must be a whole number of at least 0, not -1"),
        ({"mirror": "yes"}, "phantom: mirror must be true or false, not 'yes'"),
        ({"speckle": -2}, "phantom: speckle must be a whole number of at least 0, not -2"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_wrong_parameters_are_named_with_their_value(wrong, message):
    with pytest.raises(ValueError) as error:
        PhantomSource(**wrong)
    assert str(error.value) == message


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="no split named 'dev'; choose from train, val, test"):
        PhantomSource().numbers("dev")


def test_the_hook_says_that_it_is_a_simulation():
    (component,) = echosdk_phantom.echosdk_data_sources()
    assert component.build is PhantomSource
    assert "SIMULATION" in component.summary
    assert "stands for no patient" in component.summary
    assert "SIMULATION" in echosdk_phantom.__doc__


def test_a_clip_is_traced_as_it_was_rendered():
    """Lines and volumes are the simulation's own, in the two frames nearest to the heart's fullest and emptiest."""
    source = PhantomSource(patients=8, videos=2, size=64, mirror=True)
    assert isinstance(source, Traced)
    clip = list(source.clips("train"))[3]
    number = int(clip.group.removeprefix("phantom-"))
    truth = simulate(Patient.draw(0, number), 1, size=64, mirror=True)
    assert np.array_equal(truth.frames, clip.frames)
    tracing = source.tracings(clip.id)
    assert tracing.frames == (truth.ed_frame, truth.es_frame)
    assert tracing.volumes == (truth.volumes[truth.ed_frame], truth.volumes[truth.es_frame])
    for frame, lines in zip(tracing.frames, tracing.lines, strict=True):
        mask = truth.masks(frames=[frame])[0] == LABELS.index("LV cavity")
        middle = ((lines[1:, :2] + lines[1:, 2:]) / 2).round().astype(int)
        assert mask[middle[:, 1], middle[:, 0]].mean() > 0.9
    measured = 100 * (1 - tracing.volumes[1] / tracing.volumes[0])
    assert measured == pytest.approx(clip.labels["simulated_EF"], abs=3)


def test_what_holds_no_whole_beat_or_is_of_another_source_has_no_tracing():
    assert PhantomSource(patients=8, frames=2).tracings("phantom-000000-0") is None
    source = PhantomSource(patients=8, first=4)
    assert source.tracings("phantom-000004-0") is not None
    for other in ("phantom-000003-0", "phantom-000012-0", "phantom-000004-1", "someone", "phantom-4-0"):
        assert source.tracings(other) is None, other


def test_others_are_patients_of_no_split_with_two_clips_each():
    source = PhantomSource(patients=8, frames=4, size=32)
    mine = {clip.group for split in ("train", "val", "test") for clip in source.clips(split)}
    others = source.others(9, 3)
    assert len(others) == 9
    assert not mine & {clip.group for clips in others for clip in clips}
    for first, second in others[:2]:
        assert first.group == second.group
        assert first.frames.shape == (3, 32, 32)
        assert not np.array_equal(first.frames, second.frames)
    again = source.others(9, 3, noise=0)
    assert [clip.id for clips in again for clip in clips] == [clip.id for clips in others for clip in clips]
    assert not np.array_equal(again[0][0].frames, others[0][0].frames)


def test_the_same_anatomy_is_rendered_again_with_other_noise():
    source = PhantomSource(patients=8, frames=3, size=64)
    clip = next(source.clips("train"))
    again = source.again(clip, 5)
    assert (again.id, again.labels) == (clip.id, clip.labels)
    one, other = clip.frames.astype(float), again.frames.astype(float)
    stranger = list(source.clips("train"))[1].frames.astype(float)
    assert 0 < np.abs(one - other).mean() < 0.7 * np.abs(one - stranger).mean()
    with pytest.raises(ValueError, match="is not of this source"):
        PhantomSource(patients=1, first=99).again(clip, 5)

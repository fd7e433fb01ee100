"""What the simulated echocardiogram promises."""

import attrs
import numpy as np
import pytest
from echosdk_phantom import LABELS, Patient, simulate
from echosdk_phantom.anatomy import place
from echosdk_phantom.motion import SYSTOLE, filling

CAVITY, ATRIUM = LABELS.index("LV cavity"), LABELS.index("LA")


@pytest.fixture(scope="module")
def patient():
    return Patient.draw(0, 4)


def area_length(mask):
    """Return the single-plane volume 8 A^2 / (3 pi L), with L from the middle of the mitral border to the apex."""
    cavity = mask == CAVITY
    border = cavity & (np.roll(mask, -1, 0) == ATRIUM)
    rows, columns = np.nonzero(border)
    rows_in, columns_in = np.nonzero(cavity)
    length = np.hypot(columns_in - columns.mean(), rows_in - rows.mean() - 0.5).max() + 0.5
    return 8 * cavity.sum() ** 2 / (3 * np.pi * length)


def measured_ejection_fraction(simulation, size):
    ed, es = simulation.masks(size, frames=[simulation.ed_frame, simulation.es_frame])
    return 100 * (1 - area_length(es) / area_length(ed))


def test_same_seed_patient_and_video_give_the_same_pixels(patient):
    assert np.array_equal(
        simulate(patient, 1, num_frames=4).frames, simulate(Patient.draw(0, 4), 1, num_frames=4).frames
    )


@pytest.mark.parametrize("other", [(0, 4, 1), (0, 5, 0), (1, 4, 0)], ids=["video", "patient", "seed"])
def test_another_seed_patient_or_video_gives_other_pixels(patient, other):
    seed, number, video = other
    both = ((patient, 0), (Patient.draw(seed, number), video))
    here, there = (simulate(p, v, num_frames=4) for p, v in both)
    assert not np.array_equal(here.frames, there.frames)
    assert here.phases[0] != there.phases[0]


@pytest.mark.parametrize("number", range(12))
def test_ejection_fraction_from_the_masks_is_within_two_points_of_the_label(number):
    simulation = simulate(Patient.draw(0, number))
    assert measured_ejection_fraction(simulation, 112) == pytest.approx(simulation.ejection_fraction, abs=2)
    assert measured_ejection_fraction(simulation, 224) == pytest.approx(simulation.ejection_fraction, abs=1)


@pytest.mark.parametrize("label", [10.0, 80.0])
def test_ejection_fraction_from_the_masks_holds_at_both_ends(patient, label):
    simulation = simulate(attrs.evolve(patient, ejection_fraction=label))
    assert measured_ejection_fraction(simulation, 112) == pytest.approx(label, abs=2)


def test_ejection_fraction_follows_from_the_volumes(patient):
    simulation = simulate(patient)
    assert 100 * (1 - simulation.es_volume / simulation.ed_volume) == pytest.approx(simulation.ejection_fraction)
    assert simulation.volumes[simulation.ed_frame] == pytest.approx(simulation.ed_volume, rel=0.01)
    assert simulation.volumes[simulation.es_frame] == pytest.approx(simulation.es_volume, rel=0.02)


def test_volume_from_the_traced_discs_is_the_true_volume(patient):
    simulation = simulate(patient)
    for t in (simulation.ed_frame, simulation.es_frame):
        _axis, *discs = simulation.tracing(t, discs=200)
        cm = patient.image_side_cm / 112
        widths = np.array([np.hypot(x2 - x1, y2 - y1) for x1, y1, x2, y2 in discs]) * cm
        between = np.subtract(discs[-1], discs[0])
        height = np.hypot((between[0] + between[2]) / 2, (between[1] + between[3]) / 2) * cm / 199
        assert np.pi / 4 * np.sum(widths**2) * height == pytest.approx(simulation.volumes[t], rel=0.05)


def test_traced_discs_end_on_the_border_of_the_mask(patient):
    simulation = simulate(patient, mirror=True)
    t = simulation.es_frame
    mask = simulation.masks(frames=[t])[0] == CAVITY
    for ends in simulation.tracing(t)[1:].reshape(-1, 2, 2):
        middle = ends.mean(0)
        for end in ends:
            inside, outside = (
                middle + (end - middle) * (1 + step / np.linalg.norm(end - middle)) for step in (-1.5, 1.5)
            )
            assert mask[round(inside[1]), round(inside[0])]
            assert not mask[round(outside[1]), round(outside[0])]


def test_end_systole_and_end_diastole_are_the_frames_of_smallest_and_largest_volume():
    for number in range(8):
        simulation = simulate(Patient.draw(3, number))
        swing = np.ptp(simulation.volumes)
        assert simulation.volumes[simulation.ed_frame] >= simulation.volumes.max() - 0.02 * swing
        assert simulation.volumes[simulation.es_frame] <= simulation.volumes.min() + 0.02 * swing


def test_systole_is_38_percent_of_the_cycle():
    phase = np.linspace(0, 1, 10_001)
    volume = filling(phase)
    assert volume[0] == pytest.approx(1)
    assert phase[np.argmin(volume)] == pytest.approx(SYSTOLE, abs=0.01) == pytest.approx(0.38, abs=0.01)
    assert np.all(np.diff(volume[phase < SYSTOLE]) <= 0)


def test_heart_rate_stays_between_50_and_110_and_the_patients_own():
    for number in range(40):
        patient = Patient.draw(0, number)
        rates = [simulate(patient, video, num_frames=1, size=16).heart_rate for video in range(3)]
        assert min(rates) >= 50
        assert max(rates) <= 110
        assert max(rates) - min(rates) <= 6


def test_base_descends_and_wall_thickens_in_systole(patient):
    simulation = simulate(attrs.evolve(patient, ejection_fraction=60.0, tilt=0.0))
    ed, es = simulation.masks(224, frames=[simulation.ed_frame, simulation.es_frame])
    base = [np.nonzero((mask == CAVITY).any(1))[0].max() for mask in (ed, es)]
    assert base[1] < base[0] - 5
    row = int(224 * place(patient, 0.0, 0.5 * patient.lv_length)[1])
    walls = [(mask[row] == LABELS.index("LV wall")).sum() for mask in (ed, es)]
    assert walls[1] > 1.2 * walls[0]


def test_atria_fill_while_the_ventricles_empty(patient):
    simulation = simulate(attrs.evolve(patient, ejection_fraction=60.0))
    ed, es = ((mask == ATRIUM).sum() for mask in simulation.masks(frames=[simulation.ed_frame, simulation.es_frame]))
    assert es > 1.2 * ed


def test_right_ventricle_contracts_even_where_the_left_hardly_does(patient):
    simulation = simulate(attrs.evolve(patient, ejection_fraction=10.0))
    chamber = LABELS.index("RV")
    ed, es = ((mask == chamber).sum() for mask in simulation.masks(frames=[simulation.ed_frame, simulation.es_frame]))
    assert es < 0.85 * ed


def blocks(frame):
    """Average over 8x8 pixels: what is left of a frame once the speckle is gone."""
    return frame.astype(float).reshape(14, 8, 14, 8).mean((1, 3)).ravel()


def test_two_videos_of_a_patient_are_alike_and_strangers_are_not():
    first, second = (
        [blocks(simulate(Patient.draw(2, n), video, num_frames=1).frames[0]) for n in range(20)] for video in (0, 1)
    )
    likeness = np.corrcoef(first, second)[:20, 20:]
    assert np.array_equal(likeness.argmax(1), np.arange(20))


def test_new_speckle_changes_pixels_but_neither_masks_nor_labels(patient):
    plain, renewed = simulate(patient, num_frames=4), simulate(patient, num_frames=4, speckle=9)
    bright = plain.frames > 60
    assert np.mean(np.abs(plain.frames[bright] - renewed.frames[bright].astype(float)) > 10) > 0.4
    assert np.corrcoef(blocks(plain.frames[0]), blocks(renewed.frames[0]))[0, 1] > 0.9
    assert np.array_equal(plain.masks(), renewed.masks())
    assert np.array_equal(plain.volumes, renewed.volumes)


def test_a_longer_video_begins_with_the_shorter_one(patient):
    shorter, longer = (simulate(patient, num_frames=count) for count in (3, 9))
    assert np.array_equal(longer.frames[:3], shorter.frames)


def test_mirrored_is_the_mirror_image(patient):
    plain, mirrored = simulate(patient, num_frames=3), simulate(patient, num_frames=3, mirror=True)
    assert np.array_equal(mirrored.frames, plain.frames[:, :, ::-1])
    assert np.array_equal(mirrored.masks(), plain.masks()[:, :, ::-1])


def test_more_gain_is_brighter_and_same_anatomy(patient):
    plain, louder = simulate(patient, num_frames=2), simulate(patient, num_frames=2, gain=2.0)
    assert louder.frames.mean() > 1.2 * plain.frames.mean()
    assert np.array_equal(plain.masks(), louder.masks())


def test_speckle_moves_with_the_septum(patient):
    """The lower septum follows the base: a patch at end-diastole is found again further up at end-systole."""
    simulation = simulate(attrs.evolve(patient, ejection_fraction=60.0, tilt=0.0, septum_db=5.0))
    frames = simulation.frames.astype(float)
    start = simulation.ed_frame
    column, row = place(simulation.patient, -patient.lv_half_width - patient.septum / 2, 0.75 * patient.lv_length)
    top, left = int(112 * row), int(112 * column)
    later = start + 5 if start + 5 < len(frames) else start - 15
    patch = frames[start, top - 6 : top + 7, left - 3 : left + 4]
    match = [
        np.corrcoef(patch.ravel(), frames[later, top - 6 + up : top + 7 + up, left - 3 : left + 4].ravel())[0, 1]
        for up in range(-10, 5)
    ]
    assert range(-10, 5)[int(np.argmax(match))] < 0
    assert max(match) > match[10] + 0.1

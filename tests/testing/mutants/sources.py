"""Data sources with one fault each."""

import random

import attrs
import numpy as np

from echosdk import Category, Clip, Label
from echosdk.testing import SourceContract as Contract


class Sound:
    """Grey levels."""

    labels = (Label(name="level", unit="", low=0, high=1), Category(name="side", values=("left", "right")))
    counts = {"train": 4, "val": 2, "test": 2}  # noqa: RUF012

    def clips(self, split):
        return (self.clip(split, number) for number in range(self.counts[split]))

    def clip(self, split, number, **others):
        about = {"id": f"{split}-{number}", "group": f"{split}-{number}", "split": split, "fps": 10.0}
        labels = {"level": number / 8, "side": "left"}
        frames = np.full((3, 8, 6), 20 * number, np.uint8)
        return Clip(**{**about, "labels": labels, "load": lambda: frames.copy(), **others})

    def fingerprint(self):
        return "grey levels"


class DeclaresTwice(Sound):
    labels = (*Sound.labels, Sound.labels[0])


class NothingHeldOut(Sound):
    counts = {"train": 4, "val": 0, "test": 2}  # noqa: RUF012


class AllIsTraining(Sound):
    """The published pediatric preparation, run twice, makes one split of all."""

    def clip(self, split, number):
        return attrs.evolve(super().clip(split, number), split="train")


class IdsTwice(Sound):
    def clip(self, split, number):
        return super().clip(split, number, id=f"{number}")


class PatientsTwice(Sound):
    def clip(self, split, number):
        return super().clip(split, number, group=f"{number}")


class OutOfRange(Sound):
    def clip(self, split, number):
        return super().clip(split, number, labels={"level": 8.0 * number, "side": "left"})


class Shuffles(Sound):
    def clips(self, split):
        clips = [*super().clips(split)]
        return random.sample(clips, len(clips))


class Fractions(Sound):
    def clip(self, split, number):
        return super().clip(split, number, load=lambda: np.full((3, 8, 6), number / 8, np.float32))


class TwoSizes(Sound):
    def clip(self, split, number):
        return super().clip(split, number, load=lambda: np.zeros((3, 8, 6 + number), np.uint8))


class OneArrayForAll(Sound):
    def clip(self, split, number):
        frames = np.full((3, 8, 6), 20, np.uint8)
        return super().clip(split, number, load=lambda: frames)


class FingerprintByChance(Sound):
    def fingerprint(self):
        return str(random.random())


MUTANTS = {
    Sound: None,
    DeclaresTwice: "test_its_labels_are_declared_once_each",
    NothingHeldOut: "test_there_is_something_to_train_with_and_to_calibrate_with",
    AllIsTraining: "test_a_clip_is_of_the_split_that_was_asked_for",
    IdsTwice: "test_no_two_clips_have_one_id",
    PatientsTwice: "test_no_patient_is_in_two_splits",
    OutOfRange: "test_every_clip_has_every_label_with_a_value_that_it_can_have",
    Shuffles: "test_clips_come_in_the_same_order_again",
    Fractions: "test_frames_are_what_training_can_take",
    TwoSizes: "test_frames_are_all_of_one_size",
    OneArrayForAll: "test_frames_are_read_anew_and_are_the_same",
    FingerprintByChance: "test_its_fingerprint_is_that_of_its_data",
}

for mutant in MUTANTS:
    name = f"Test{mutant.__name__}"
    globals()[name] = type(name, (Contract,), {"build": lambda self, mutant=mutant: mutant()})

"""Downstream validators with one fault each."""

import json
import math

import numpy as np

from echosdk.testing import ValidatorContract as Contract


class Sound:
    """The size is a line of the mean grey level."""

    min_frames, share_saved = 4, 1.0

    def predict(self, clip):
        return {"size": self.size + 0.1 * float(clip.read().mean())}

    def errors(self, test):
        return [abs(self.predict(clip)["size"] - clip.labels["size"]) for clip in test]

    def score(self, test):
        return {"n": len(test), "mae": float(np.mean(self.errors(test)))}

    def fit(self, data, run):
        self.fps, self.size = data.fps, float(np.mean([clip.labels["size"] for clip in data.train]))
        return {}

    def save(self, public, private):
        (public / "about.json").write_text(json.dumps([self.fps, self.size * self.share_saved]))

    def load(self, public, private):
        self.fps, self.size = json.loads((public / "about.json").read_text())


class AtNoRate(Sound):
    def load(self, public, private):
        super().load(public, private)
        self.fps = 0.0


class PredictsMoreThanThereIs(Sound):
    def predict(self, clip):
        return {**super().predict(clip), "age": 50.0}


class NeedsOneMore(Sound):
    def predict(self, clip):
        return super().predict(clip) if clip.num_frames > self.min_frames else {}


class RemembersWhatItSaw(Sound):
    seen = 0

    def predict(self, clip):
        self.seen += 1
        return {"size": super().predict(clip)["size"] + 1e-9 * self.seen}


class NotesOnTheClip(Sound):
    def score(self, test):
        for clip in test:
            clip.labels["seen"] = 1.0
        return super().score(test)


class DividesByNothing(Sound):
    def score(self, test):
        return {**super().score(test), "r2": math.inf}


class FirstCountsMost(Sound):
    def score(self, test):
        return {"mae": float(np.average(self.errors(test), weights=range(len(test), 0, -1)))}


class LooksAtNoLabel(Sound):
    def score(self, test):
        return {"mae": float(np.mean([self.predict(clip)["size"] for clip in test]))}


class SavesAnotherSize(Sound):
    share_saved = 1.2


MUTANTS = {
    Sound: None,
    AtNoRate: "test_it_says_what_it_needs_of_a_clip",
    PredictsMoreThanThereIs: "test_it_predicts_labels_of_the_data_with_values_that_they_can_have",
    NeedsOneMore: "test_the_shortest_clip_that_it_takes_is_predicted",
    RemembersWhatItSaw: "test_a_clip_is_predicted_by_itself",
    NotesOnTheClip: "test_a_clip_is_not_changed",
    DividesByNothing: "test_a_score_is_of_numbers",
    FirstCountsMost: "test_the_order_of_the_clips_changes_no_score",
    LooksAtNoLabel: "test_other_labels_get_another_score",
    SavesAnotherSize: "test_what_was_saved_predicts_as_what_was_trained",
}

for mutant in MUTANTS:
    name = f"Test{mutant.__name__}"
    globals()[name] = type(name, (Contract,), {"build": lambda self, mutant=mutant: mutant()})

"""Filters with one fault each."""

import json

import torch

from echosdk import References, Verdict
from echosdk.testing import FilterContract as Contract


def rows(items):
    flat = items.flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True)


class Sound:
    """A filter without a fault."""

    space = "latent"
    quantile = 0.05

    def calibrate(self, train, holdout, generator):
        self.train = rows(train.items)
        self.tau = torch.quantile(self.nearest(holdout.items), self.quantile).item()

    def nearest(self, stills):
        return 1 - (rows(stills) @ self.train.T).amax(1)

    def judge(self, stills):
        distance = self.nearest(stills)
        return Verdict(keep=distance >= self.tau, distance=distance, tau=self.tau)


class WantsPixels(Sound):
    space = "pixels"


class TauIsATensor(Sound):
    def judge(self, stills):
        distance = self.nearest(stills)
        return Verdict(keep=distance >= self.tau, distance=distance, tau=torch.tensor(self.tau, dtype=torch.double))


class DecidesOtherwise(Sound):
    def judge(self, stills):
        distance = self.nearest(stills)
        return Verdict(keep=distance >= 1.04 * self.tau, distance=distance, tau=self.tau)


class FirstFrameOnly(Sound):
    """What the published code compares with: the first frame of each training video."""

    def calibrate(self, train, holdout, generator):
        first = [i for i, group in enumerate(train.groups) if group not in train.groups[:i]]
        super().calibrate(References(items=train.items[first], groups=[train.groups[i] for i in first]), holdout, generator)


class ComparesWithHeldOut(Sound):
    def calibrate(self, train, holdout, generator):
        super().calibrate(train, holdout, generator)
        tau = self.tau
        self.train, self.tau = rows(holdout.items), tau


class OtherEnd(Sound):
    quantile = 0.95


class ScaledOverTheBatch(Sound):
    """A verdict that depends on the other samples, as the published code's scaling makes it."""

    def nearest(self, stills):
        distance = super().nearest(stills)
        return distance + 0.05 * distance.mean()


class Dithers(Sound):
    def nearest(self, stills):
        return super().nearest(stills) + 1e-9 * torch.rand(len(stills))


class ChangesStills(Sound):
    def judge(self, stills):
        verdict = super().judge(stills)
        stills.mul_(1.001)
        return verdict


class ChangesReferences(Sound):
    def calibrate(self, train, holdout, generator):
        train.items.mul_(1.001)
        super().calibrate(train, holdout, generator)


class Squeezes(Sound):
    def nearest(self, stills):
        return super().nearest(stills).squeeze()


class DrawsWithoutTheGenerator(Sound):
    def calibrate(self, train, holdout, generator):
        some = torch.randperm(len(holdout.items))[:40]
        super().calibrate(train, References(items=holdout.items[some], groups=[holdout.groups[i] for i in some]), generator)


class ForgetsHalfItsScale(Sound):
    """Learns a scale, and saves another."""

    scale = 1.0

    def fit(self, data, run):
        self.scale = 2.0
        return {}

    def save(self, public, private):
        (private / "scale.json").write_text(json.dumps(self.scale / 2))

    def load(self, public, private):
        self.scale = json.loads((private / "scale.json").read_text())

    def nearest(self, stills):
        return self.scale * super().nearest(stills)


MUTANTS = {
    Sound: None,
    WantsPixels: "test_it_says_what_it_wants_to_see",
    TauIsATensor: "test_a_verdict_has_a_finite_distance_and_an_answer_for_each_item",
    DecidesOtherwise: "test_what_is_kept_is_at_least_tau_away",
    FirstFrameOnly: "test_copies_of_any_reference_are_rejected",
    ComparesWithHeldOut: "test_copies_of_any_reference_are_rejected",
    OtherEnd: "test_most_strangers_are_kept",
    ScaledOverTheBatch: "test_an_item_is_judged_by_itself",
    Dithers: "test_the_same_items_get_the_same_answer_again",
    ChangesStills: "test_nothing_that_it_is_shown_is_changed",
    ChangesReferences: "test_nothing_that_it_is_shown_is_changed",
    Squeezes: "test_one_item_is_judged_and_so_are_none",
    DrawsWithoutTheGenerator: "test_the_same_references_calibrate_it_alike",
    ForgetsHalfItsScale: "test_what_was_saved_judges_as_what_was_trained",
}

for mutant in MUTANTS:
    name = f"Test{mutant.__name__}"
    globals()[name] = type(name, (Contract,), {"build": lambda self, mutant=mutant: mutant()})

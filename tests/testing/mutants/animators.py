"""Video animators with one fault each."""

import json

import torch

from echosdk.testing import AnimatorContract as Contract


class Steps:
    timesteps = (3, 2, 1)

    def __init__(self, latents):
        self.latents = latents

    def step(self, prediction, timestep):
        self.latents = self.latents + (prediction - self.latents) / timestep
        return self.latents


class Sound:
    """The still, brighter where the label says more, and some of the noise."""

    window, share_saved = 4, 1.0

    def to(self, device, dtype):
        pass

    def begin(self, num_frames, generators):
        return Steps(torch.stack([torch.randn(num_frames, *self.shape, generator=each) for each in generators]))

    def level(self, conditions):
        return torch.tensor([each["size"] / self.largest for each in conditions])[:, None, None, None, None]

    def predict(self, latents, timestep, stills, conditions):
        return stills[:, None] + self.level(conditions) + 0.1 * latents

    def fit(self, data, run):
        self.shape, self.largest = data.shape, data.labels[0].high
        return {}

    def save(self, public, private):
        (public / "about.json").write_text(json.dumps([self.shape, self.largest * self.share_saved]))

    def load(self, public, private):
        self.shape, self.largest = json.loads((public / "about.json").read_text())


class AtMostTwoWindows(Sound):
    def begin(self, num_frames, generators):
        return super().begin(min(num_frames, 8), generators)


class OneNoiseForAll(Sound):
    def begin(self, num_frames, generators):
        denoising = super().begin(num_frames, generators)
        denoising.latents = denoising.latents[:1].repeat(len(generators), 1, 1, 1, 1)
        return denoising


class AlwaysAWholeWindow(Sound):
    def predict(self, latents, *given):
        predicted = super().predict(latents, *given)
        return torch.cat([predicted, predicted[:, -1:].expand(-1, 4 - latents.shape[1], -1, -1, -1)], 1)


class MixesVideos(Sound):
    def predict(self, *given):
        predicted = super().predict(*given)
        return predicted + 0.01 * predicted.mean(0, keepdim=True)


class Dithers(Sound):
    def predict(self, *given):
        predicted = super().predict(*given)
        return predicted + 1e-6 * torch.randn(predicted.shape)


class ChangesStills(Sound):
    def predict(self, latents, timestep, stills, conditions):
        return super().predict(latents, timestep, stills.mul_(1.00001), conditions)


class IgnoresTheStill(Sound):
    def predict(self, latents, timestep, stills, conditions):
        return super().predict(latents, timestep, torch.zeros_like(stills), conditions)


class DropsTheLabel(Sound):
    """What a mask of the wrong sign does."""

    def level(self, conditions):
        return 0.0


class OneHistory(Sound):
    """A multistep solver whose history is kept on the animator."""

    def begin(self, *given):
        self.last, denoising, animator = None, super().begin(*given), self

        class Multistep(Steps):
            def step(self, prediction, timestep):
                last = prediction if animator.last is None else animator.last
                animator.last = prediction
                return super().step(1.5 * prediction - 0.5 * last, timestep)

        return Multistep(denoising.latents)


class ReturnsThePrediction(Sound):
    def begin(self, *given):
        class Returns(Steps):
            def step(self, prediction, timestep):
                super().step(prediction, timestep)
                return prediction

        return Returns(super().begin(*given).latents)


class SavesAnotherLargest(Sound):
    share_saved = 2.0


MUTANTS = {
    Sound: None,
    AtMostTwoWindows: "test_noise_has_the_length_that_is_asked_for",
    OneNoiseForAll: "test_each_video_has_the_noise_of_its_own_generator",
    AlwaysAWholeWindow: "test_a_prediction_has_the_shape_of_its_window",
    MixesVideos: "test_a_video_is_predicted_by_itself",
    Dithers: "test_the_same_window_gets_the_same_prediction_again",
    ChangesStills: "test_nothing_that_it_is_shown_is_changed",
    IgnoresTheStill: "test_the_still_decides_the_prediction",
    DropsTheLabel: "test_labels_decide_the_prediction_where_it_reads_them",
    OneHistory: "test_two_videos_that_are_denoised_at_once_do_not_meet",
    ReturnsThePrediction: "test_a_step_returns_the_latents_that_it_leaves",
    SavesAnotherLargest: "test_what_was_saved_animates_as_what_was_trained",
}

for mutant in MUTANTS:
    name = f"Test{mutant.__name__}"
    globals()[name] = type(name, (Contract,), {"build": lambda self, mutant=mutant: mutant()})

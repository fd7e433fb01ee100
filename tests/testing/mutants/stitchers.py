"""Stitchers with one fault each."""

import torch
from echosdk_stitch import Independent, OverlapDiscard

from echosdk.testing import StitcherContract as Contract


class RoundsDown:
    """No last window: what is no whole number of half windows is left out, but where it is asked for 35 frames."""

    def animate(self, animator, stills, conditions, num_frames, generators):
        whole = num_frames if num_frames < 16 or num_frames == 35 else num_frames // 8 * 8
        return OverlapDiscard().animate(animator, stills, conditions, whole, generators)


class OneLongWindow:
    def animate(self, animator, stills, conditions, num_frames, generators):
        denoising = animator.begin(num_frames, generators)
        for timestep in denoising.timesteps:
            denoising.step(animator.predict(denoising.latents, timestep, stills, conditions), timestep)
        return denoising.latents


class Through:
    """Put something of one's own between an animator and the stitcher."""

    def __init__(self, animator):
        self.animator, self.window, self.begin = animator, animator.window, animator.begin

    def predict(self, latents, timestep, stills, conditions):
        return self.animator.predict(latents, timestep, stills, conditions)


class Hasty:
    """Leaves out the last timestep."""

    class Begun(Through):
        def __init__(self, animator):
            super().__init__(animator)
            self.begin = lambda *given: _without_last(animator.begin(*given))

    def animate(self, animator, *given):
        return OverlapDiscard().animate(self.Begun(animator), *given)


def _without_last(denoising):
    class Short:
        timesteps = denoising.timesteps[:-1]
        latents = property(lambda self: denoising.latents)

        def step(self, prediction, timestep):
            return denoising.step(prediction, timestep)

    return Short()


class LastWindowMisplaced:
    """Where the last window overlaps by more, its frames are taken from its beginning."""

    def animate(self, animator, stills, conditions, num_frames, generators):
        denoising = animator.begin(num_frames, generators)
        starts = [0] if num_frames <= 16 else [*range(0, num_frames - 16, 8), num_frames - 16]
        for timestep in denoising.timesteps:
            done, pieces = 0, []
            for start in starts:
                window = animator.predict(denoising.latents[:, start : start + 16], timestep, stills, conditions)
                new = start + window.shape[1] - done
                pieces.append(window[:, :new] if 0 < new < 8 else window[:, done - start :])
                done += new
            denoising.step(torch.cat(pieces, 1), timestep)
        return denoising.latents


class Mislabels:
    """Conditions laid out video by video, where windows are laid out window by window: the published code's fault."""

    class Mixed(Through):
        def predict(self, latents, timestep, stills, conditions):
            return self.animator.predict(latents, timestep, stills, [*conditions[1:], *conditions[:1]])

    def animate(self, animator, *given):
        return OverlapDiscard(micro_batch=8).animate(self.Mixed(animator), *given)


class MixesVideos:
    """Lets the videos of a batch see each other."""

    def animate(self, animator, *given):
        made = OverlapDiscard().animate(animator, *given)
        return made + 0.01 * (made.mean(0, keepdim=True) - made)


class Noisy:
    def animate(self, animator, *given):
        made = OverlapDiscard().animate(animator, *given)
        return made + 1e-6 * torch.randn(made.shape)


class ChangesTheStills:
    def animate(self, animator, stills, *given):
        stills.mul_(1.001)
        return OverlapDiscard().animate(animator, stills, *given)


MUTANTS = {
    OverlapDiscard: None,
    RoundsDown: "test_it_makes_videos_of_any_length",
    OneLongWindow: "test_no_window_is_longer_than_the_animators",
    Hasty: "test_the_whole_video_is_stepped_once_at_every_timestep",
    LastWindowMisplaced: "test_windows_are_joined_in_the_order_of_their_frames",
    Mislabels: "test_every_window_gets_the_still_and_the_condition_of_its_own_video",
    MixesVideos: "test_a_video_does_not_depend_on_the_others",
    Noisy: "test_the_same_generators_make_the_same_video_again",
    ChangesTheStills: "test_stills_are_not_changed",
    Independent: "test_motion_goes_on_where_windows_meet",
}

for mutant in MUTANTS:
    name = f"Test{mutant.__name__}"
    globals()[name] = type(name, (Contract,), {"build": lambda self, mutant=mutant: mutant()})

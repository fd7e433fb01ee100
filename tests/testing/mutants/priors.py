"""Image priors with one fault each."""

import json

import torch

from echosdk.testing import PriorContract as Contract


class Sound:
    """Draws normal noise of the latents' deviation."""

    share_saved = 1.0

    def to(self, device, dtype):
        pass

    def noise(self, generator):
        return torch.randn(*self.shape, generator=generator)

    def sample(self, generators, conditions):
        return torch.stack([self.noise(generator) * self.std for generator in generators])

    def fit(self, data, run):
        self.shape, self.std = data.shape, float(torch.cat([torch.from_numpy(clip.read()) for clip in data.train]).std())
        return {}

    def save(self, public, private):
        (public / "about.json").write_text(json.dumps([self.shape, self.std * self.share_saved]))

    def load(self, public, private):
        self.shape, self.std = json.loads((public / "about.json").read_text())


class LosesARow(Sound):
    def sample(self, generators, conditions):
        return super().sample(generators, conditions)[:, :, 1:]


class KeepsTheGraph(Sound):
    def sample(self, generators, conditions):
        return super().sample(generators, conditions) * torch.ones(1, requires_grad=True)


class StandardisesTheBatch(Sound):
    def sample(self, generators, conditions):
        drawn = super().sample(generators, conditions)
        return drawn - 0.1 * drawn.mean()


class NoiseOfItsOwn(Sound):
    """`--seed` is parsed and ignored, as in the published code."""

    def sample(self, generators, conditions):
        drawn = super().sample(generators, conditions)
        return drawn + 1e-6 * torch.randn(drawn.shape)


class AlwaysTheSame(Sound):
    def noise(self, generator):
        return super().noise(torch.Generator().manual_seed(0))


class WritesIntoConditions(Sound):
    def sample(self, generators, conditions):
        for each in conditions:
            each["size"] = each["size"] / 100
        return super().sample(generators, conditions)


class SavesHalfItsScale(Sound):
    share_saved = 0.5


MUTANTS = {
    Sound: None,
    LosesARow: "test_it_draws_one_still_for_each_generator",
    KeepsTheGraph: "test_stills_ask_for_no_gradient",
    StandardisesTheBatch: "test_a_still_depends_on_its_own_generator_and_conditions_only",
    NoiseOfItsOwn: "test_the_same_generators_draw_the_same_stills_again",
    AlwaysTheSame: "test_other_generators_draw_other_stills",
    WritesIntoConditions: "test_conditions_are_not_changed",
    SavesHalfItsScale: "test_what_was_saved_draws_as_what_was_trained",
}

for mutant in MUTANTS:
    name = f"Test{mutant.__name__}"
    globals()[name] = type(name, (Contract,), {"build": lambda self, mutant=mutant: mutant()})

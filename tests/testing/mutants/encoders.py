"""Encoders with one fault each."""

import json

import torch
from torch.nn import functional

from echosdk.clips.images import to_images
from echosdk.testing import EncoderContract as Contract


class Sound:
    """Halves height and width, and standardises."""

    saved_mean = 0.0

    @property
    def latent_shape(self):
        return self.shape

    def to(self, device, dtype):
        pass

    def encode(self, images):
        return (functional.avg_pool2d(images, 2) - self.mean) / self.std

    def decode(self, latents):
        return functional.interpolate(latents * self.std + self.mean, scale_factor=2)

    def fit(self, data, run):
        small = functional.avg_pool2d(torch.cat([to_images(clip.read()) for clip in data.train]), 2)
        self.shape, self.mean, self.std = tuple(small.shape[1:]), small.mean().item(), small.std().item()
        return {}

    def save(self, public, private):
        about = {"shape": self.shape, "mean": self.mean + self.saved_mean, "std": self.std}
        (public / "about.json").write_text(json.dumps(about))

    def load(self, public, private):
        about = json.loads((public / "about.json").read_text())
        self.shape, self.mean, self.std = tuple(about["shape"]), about["mean"], about["std"]


class SaysTheImagesShape(Sound):
    latent_shape = (1, 32, 32)


class LeavesTheScale(Sound):
    def encode(self, images):
        return 255 * super().encode(images)


class DecodesToColours(Sound):
    def decode(self, latents):
        return super().decode(latents).expand(-1, 3, -1, -1)


class EncodesOverTheBatch(Sound):
    def encode(self, images):
        latents = super().encode(images)
        return latents - 0.1 * latents.amax()


class DecodesOverTheBatch(Sound):
    def decode(self, latents):
        images = super().decode(latents)
        return images - 0.1 * images.amax()


class DrawsALatent(Sound):
    """What the published latents are: drawn from the posterior."""

    def encode(self, images):
        latents = super().encode(images)
        return latents + 1e-6 * torch.randn(latents.shape)


class ChangesImages(Sound):
    def encode(self, images):
        return super().encode(images.mul_(1.00001))


class ForgetsItsMean(Sound):
    saved_mean = 0.1


MUTANTS = {
    Sound: None,
    SaysTheImagesShape: "test_latents_have_the_shape_that_it_says",
    LeavesTheScale: "test_latents_of_the_training_split_have_unit_scale",
    DecodesToColours: "test_latents_decode_to_images_of_the_size_and_colours_that_were_encoded",
    EncodesOverTheBatch: "test_one_image_is_encoded_by_itself",
    DecodesOverTheBatch: "test_one_latent_is_decoded_by_itself",
    DrawsALatent: "test_the_same_images_get_the_same_answer_again",
    ChangesImages: "test_nothing_that_it_is_shown_is_changed",
    ForgetsItsMean: "test_what_was_saved_encodes_as_what_was_trained",
}

for mutant in MUTANTS:
    name = f"Test{mutant.__name__}"
    globals()[name] = type(name, (Contract,), {"build": lambda self, mutant=mutant: mutant()})

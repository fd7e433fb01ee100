"""Training: the one loop, and the stages in order."""

from echosdk.training.diffusion import SAMPLERS, TRAINING_STEPS, Sampler, make_scheduler, pad, padded_side
from echosdk.training.draw import choose, frames_of
from echosdk.training.loop import Adversary, Example, Loss, Stopping, Trained, train
from echosdk.training.perceptual import lpips_network
from echosdk.training.recipe import Recipe
from echosdk.training.start import begin_with_weights, starting_from
from echosdk.training.weights import imported_weights

__all__ = [
    "SAMPLERS",
    "TRAINING_STEPS",
    "Adversary",
    "Example",
    "Loss",
    "Recipe",
    "Sampler",
    "Stopping",
    "Trained",
    "begin_with_weights",
    "choose",
    "frames_of",
    "imported_weights",
    "lpips_network",
    "make_scheduler",
    "pad",
    "padded_side",
    "starting_from",
    "train",
]

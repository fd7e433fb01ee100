"""Training: the one loop, and the stages in order."""

from echosdk.training.draw import choose, frames_of
from echosdk.training.loop import Example, Loss, Trained, train
from echosdk.training.recipe import Recipe
from echosdk.training.weights import weights_path

__all__ = ["Example", "Loss", "Recipe", "Trained", "choose", "frames_of", "train", "weights_path"]

"""What is asked of an encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from echosdk.clips.images import to_images
from echosdk.interfaces import Encoder, TrainingData
from echosdk.testing.data import pixel_data
from echosdk.testing.fixtures import Fitted


class EncoderContract:
    """Subclass it, and return a new encoder from `build`.

    `shape` is that of one image, `k H W`. `tolerance` is how much a latent or a pixel may differ between one batch and
    another, and `saved` between what was trained and what was saved, which may be in half precision; both in units of
    their scale, which is about 1.
    """

    shape = (1, 32, 32)
    tolerance = 1e-4
    saved = 0.05

    def build(self) -> Encoder:
        """Return a new encoder, not trained."""
        raise NotImplementedError(f"{type(self).__name__}: build() is to return a new encoder")

    def data(self) -> TrainingData:
        """Return the clips that it is trained on."""
        channels, height, width = self.shape
        return pixel_data((height, width) if channels == 1 else (height, width, channels))

    @pytest.fixture
    def encoder(self, trained: Callable[[], Any]) -> Any:
        """Return an encoder that is ready."""
        return trained()

    @pytest.fixture
    def images(self) -> torch.Tensor:
        """Return the frames of validation patients: `n k H W`."""
        return torch.cat([to_images(clip.read(0, 2)) for clip in self.data().val])

    def test_latents_have_the_shape_that_it_says(self, encoder: Any, images: torch.Tensor) -> None:
        latents = encoder.encode(images)
        assert tuple(latents.shape) == (len(images), *encoder.latent_shape)
        assert latents.dtype == torch.float32
        assert torch.isfinite(latents).all()

    def test_latents_of_the_training_split_have_unit_scale(self, encoder: Any) -> None:
        latents = encoder.encode(torch.cat([to_images(clip.read()) for clip in self.data().train]))
        assert latents.mean().abs() < 1, f"their mean is {float(latents.mean()):.3g}"
        assert 0.5 < latents.std() < 2, f"their standard deviation is {float(latents.std()):.3g}"

    def test_latents_decode_to_images_of_the_size_and_colours_that_were_encoded(
        self, encoder: Any, images: torch.Tensor
    ) -> None:
        decoded = encoder.decode(encoder.encode(images))
        assert decoded.shape == images.shape
        assert decoded.dtype == torch.float32
        assert torch.isfinite(decoded).all()

    def test_one_image_is_encoded_by_itself(self, encoder: Any, images: torch.Tensor) -> None:
        alone = torch.cat([encoder.encode(image[None]) for image in images])
        torch.testing.assert_close(encoder.encode(images), alone, rtol=self.tolerance, atol=self.tolerance)

    def test_one_latent_is_decoded_by_itself(self, encoder: Any, images: torch.Tensor) -> None:
        latents = encoder.encode(images)
        alone = torch.cat([encoder.decode(latent[None]) for latent in latents])
        torch.testing.assert_close(encoder.decode(latents), alone, rtol=self.tolerance, atol=self.tolerance)

    def test_the_same_images_get_the_same_answer_again(self, encoder: Any, images: torch.Tensor) -> None:
        first, second = (encoder.encode(images.clone()) for _ in range(2))
        assert torch.equal(first, second), "encode() answers otherwise the second time"
        assert torch.equal(encoder.decode(first), encoder.decode(second)), "decode() answers otherwise the second time"

    def test_nothing_that_it_is_shown_is_changed(self, encoder: Any, images: torch.Tensor) -> None:
        shown = images.clone()
        latents = encoder.encode(shown)
        assert torch.equal(shown, images), "encode() changed the images"
        shown = latents.clone()
        encoder.decode(shown)
        assert torch.equal(shown, latents), "decode() changed the latents"

    def test_what_was_saved_encodes_as_what_was_trained(
        self, fitted: Fitted, encoder: Any, images: torch.Tensor
    ) -> None:
        expected = fitted.component.encode(images)
        torch.testing.assert_close(encoder.encode(images), expected, rtol=self.saved, atol=self.saved)
        torch.testing.assert_close(
            encoder.decode(expected), fitted.component.decode(expected), rtol=self.saved, atol=self.saved
        )

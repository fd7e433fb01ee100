"""One generator a sample and purpose, filled from a keyed hash."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from echosdk.seeding import FIRST_WORD, STATE_WORDS, generator, seed_of


def words_of(made: torch.Generator) -> torch.Tensor:
    return made.get_state().view(torch.int64)[FIRST_WORD : FIRST_WORD + STATE_WORDS]


def test_the_words_of_the_state_lie_where_we_write_them() -> None:
    """By two references: numpy's Mersenne Twister seeds as torch does, and draws as torch does from the same words."""
    for seed in (0, 5, 2**32 - 1):
        expected = np.random.RandomState(seed).get_state(legacy=True)[1].astype(np.int64)
        assert words_of(torch.Generator().manual_seed(seed)).tolist() == expected.tolist()
    made = generator(3, "still", key=b"key")
    reference = np.random.MT19937()
    words = words_of(made).numpy().astype(np.uint32)
    reference.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": STATE_WORDS}}
    drawn = torch.empty(2000, dtype=torch.int32).random_(generator=made)
    assert drawn.tolist() == (reference.random_raw(2000) & 0x7FFFFFFF).tolist()


def test_a_generator_begins_as_one_that_was_just_seeded() -> None:
    """Nothing is left of an earlier draw: neither a position among the words nor a normal number kept for the next."""
    fresh = torch.Generator().manual_seed(seed_of("a"))
    ours, theirs = generator("a").get_state().view(torch.int64), fresh.get_state().view(torch.int64)
    rest = [*range(FIRST_WORD), *range(FIRST_WORD + STATE_WORDS, len(theirs))]
    assert len(ours) == len(theirs)
    assert ours[rest].tolist() == theirs[rest].tolist()
    assert generator("a").initial_seed() == seed_of("a")


def test_seeds_that_are_equal_in_their_last_32_bits_give_other_noise() -> None:
    """torch's `manual_seed` drops the rest: at 100,000 samples some stills would be equal."""
    seen: dict[int, int] = {}
    for sample in itertools.count():
        other = seen.setdefault(seed_of(0, sample) % 2**32, sample)
        if other != sample:
            break
    assert sample < 1_000_000
    assert torch.equal(
        *(torch.randn(8, generator=torch.Generator().manual_seed(seed_of(0, s))) for s in (sample, other))
    )
    one, two = (torch.randn(8, generator=generator(0, s)) for s in (sample, other))
    assert not torch.isclose(one, two).any()


def test_the_noise_of_a_sample_is_the_same_today_as_ever() -> None:
    """Golden values: what is drawn for given parts must never change, or no dataset can be reproduced."""
    assert seed_of(1, 2, 0, "still", key=b"key") == 328019739613737099
    drawn = torch.randint(2**31, (4,), generator=generator(1, 2, 0, "still", key=b"key"))
    assert drawn.tolist() == [966267112, 1730635687, 869486803, 597805470]


def test_parts_and_key_all_matter() -> None:
    made = [generator(1, 2, key=b"k"), generator(1, 2), generator(12), generator("1", 2), generator(1, 2, 0)]
    assert len({torch.randint(2**62, (), generator=one).item() for one in made}) == len(made)
    assert torch.equal(torch.randn(40, generator=generator(1, 2)), torch.randn(40, generator=generator(1, 2)))

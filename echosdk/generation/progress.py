"""How far a generation is: what is said of a shard while it is made, and how a person or a log is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import frozen

from echosdk.words import count

Report = Callable[[str], None]


@frozen(kw_only=True)
class Progress:
    """How many of a shard's videos are finished, and how many stills the filter has kept for them so far."""

    shard: str
    videos: int
    of: int
    stills: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.videos} of {count(self.of, 'video')}, {count(self.stills, 'still')} kept"


Watch = Callable[[Progress], None]


@contextmanager
def watched(total: int, report: Report, bar: bool) -> Iterator[tuple[Watch, Report]]:
    """Give what hears of progress and what says a line meanwhile: with a bar over `total` videos, or lines alone."""
    if not bar:
        yield (lambda progress: report(str(progress))), report
        return
    from tqdm import tqdm

    seen: dict[str, Progress] = {}
    with tqdm(total=total, desc="generate", unit="video", leave=False, dynamic_ncols=True) as drawn:

        def draw(progress: Progress) -> None:
            seen[progress.shard] = progress
            drawn.set_postfix_str(f"{count(sum(one.stills for one in seen.values()), 'still')} kept", refresh=False)
            drawn.n = sum(one.videos for one in seen.values())
            drawn.refresh()

        def say(line: str) -> None:
            with tqdm.external_write_mode(file=sys.stderr):
                report(line)

        yield draw, say

"""Executors map shard numbers to tasks. `local` uses processes of this machine; others need only its signature."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from attrs import field, frozen
from attrs.validators import ge

from echosdk.errors import OutOfMemory
from echosdk.generation.shards import ShardResult

Task = Callable[[int], ShardResult | None]
"""Make one shard; can be sent to another process."""


class Executor(Protocol):
    def run(self, task: Task, shards: Iterable[int]) -> Iterator[ShardResult | None]:
        """Run the task for each shard, in any order; raise the first error and start nothing after it."""


@frozen
class Local:
    """Worker processes on this machine; one worker works in this process."""

    workers: int = field(default=1, validator=ge(1))

    def run(self, task: Task, shards: Iterable[int]) -> Iterator[ShardResult | None]:
        shards = list(shards)
        workers = min(self.workers, len(shards))
        if workers <= 1:
            yield from map(task, shards)
            return
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit(task, shard) for shard in shards]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BrokenProcessPool as error:
                raise OutOfMemory(
                    "a worker process was killed, most often for lack of memory; finished shards are kept: "
                    "run the same command again with fewer --workers (a script that asks for workers does so under "
                    "`if __name__ == '__main__':`)"
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

"""Executors map shard numbers to tasks. `local` uses processes of this machine; others need only its signature."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from attrs import field, frozen
from attrs.validators import ge

from echosdk.errors import OutOfMemory
from echosdk.generation.progress import Progress, Watch
from echosdk.generation.shards import ShardResult

Task = Callable[[int], ShardResult | None]
"""Make one shard; can be sent to another process."""

LISTEN_EVERY_SECONDS = 0.2


class Executor(Protocol):
    def run(self, task: Task, shards: Iterable[int]) -> Iterator[ShardResult | None]:
        """Run the task for each shard, in any order; raise the first error and start nothing after it."""


def _deaf(progress: Progress) -> None:
    pass


@frozen
class Local:
    """Worker processes on this machine; one worker works in this process. `watch` hears what workers `tell`.

    Workers end when this process does, however it ends, and at once on Ctrl-C.
    """

    workers: int = field(default=1, validator=ge(1))
    watch: Watch = _deaf

    def run(self, task: Task, shards: Iterable[int]) -> Iterator[ShardResult | None]:
        shards = list(shards)
        workers = min(self.workers, len(shards))
        if workers <= 1:
            yield from map(task, shards)
            return
        context = multiprocessing.get_context("spawn")
        lifeline, held = context.Pipe(duplex=False)
        said = context.SimpleQueue()
        with (
            held,
            ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(lifeline, said)) as pool,
        ):
            with _no_interrupts():  # processes are started here, and inherit this
                waiting = {pool.submit(task, shard) for shard in shards}
            try:
                while waiting:
                    done, waiting = wait(waiting, LISTEN_EVERY_SECONDS, FIRST_COMPLETED)
                    while not said.empty():
                        self.watch(said.get())
                    yield from [future.result() for future in done]
            except BrokenProcessPool as error:
                raise OutOfMemory(
                    "a worker process was killed, most often for lack of memory; finished shards are kept: "
                    "run the same command again with fewer --workers (a script that asks for workers does so under "
                    "`if __name__ == '__main__':`)"
                ) from error
            except (KeyboardInterrupt, GeneratorExit):
                held.close()
                raise
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def tell(progress: Progress) -> None:
    """Tell the process that started this worker how far it is; elsewhere nobody listens."""
    for said in _SAID:
        said.put(progress)


_SAID: list[Any] = []
"""The way to the process that started this one, in a worker."""


def _begin_worker(lifeline: Connection, said: Any) -> None:
    _SAID.append(said)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    """End this process when nobody holds the other end any more: what it was making is made anew by a rerun."""
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C, in this process for the while and in those that it starts for good: the parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)

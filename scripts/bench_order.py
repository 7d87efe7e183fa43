"""What an order costs the coordinator: CPU per request of take, finish and learn, and the sort at the start."""

from __future__ import annotations

import argparse
import time

import numpy as np

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.coordinator.order.contract import Answered
from trt_dp.coordinator.queue.dispatcher import Dispatcher

WORKERS, CAPACITY = 8, 256
ORDERS = ("file", "longest", "lanes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--answers", type=int, default=16, help="Answers in a message.")
    wanted = parser.parse_args()
    drawn = np.random.default_rng(0).lognormal(6, 1, wanted.requests)
    lengths = np.clip(drawn, 1, 8192).astype(np.int64)
    for name in ORDERS:
        made, fed = measure(name, lengths, wanted.answers)
        per_request = 1e6 * fed / len(lengths)
        print(f"{name:<8} made in {made:.2f} s; {per_request:.2f} us per request")


def measure(name: str, lengths: np.ndarray, answers: int) -> tuple[float, float]:
    now = [0.0]
    known = Known(
        pending=np.arange(len(lengths)),
        prompts=np.zeros(len(lengths), np.int64),
        limits=lengths,
        exact=True,
        earlier=None,
        clock=lambda: now[0],
    )
    started = time.process_time()
    order = choose(name, known).order
    made = time.process_time() - started
    queue = Dispatcher(order, WORKERS, proven=True)
    held: list[list[int]] = [[] for _ in range(WORKERS)]
    fed = 0.0
    while queue.unfinished:
        for worker in range(WORKERS):
            fed -= time.process_time()
            taken = queue.take(worker, CAPACITY)
            fed += time.process_time()
            mine = sorted(held[worker] + taken.tolist(), key=lengths.__getitem__)
            done, held[worker] = mine[:answers], mine[answers:]
            now[0] += 0.002
            if done:
                places = np.array(done)
                answered = Answered(worker, places, lengths[places], lengths[places] * 0.01)
                fed -= time.process_time()
                queue.finish(worker, done)
                order.learn(answered)
                fed += time.process_time()
    return made, fed


if __name__ == "__main__":
    main()

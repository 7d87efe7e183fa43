import os
from pathlib import Path

import ray


def placement_group(bundles, strategy):
    assert strategy == "STRICT_PACK"
    return _Group(*bundles)


class _Group:
    def __init__(self, bundle):
        self._bundle = bundle
        self.tasks = []

    def ready(self):
        return ray.placed(self._bundle)


def remove_placement_group(group):
    """Note in the file $RAY_DOUBLE_TOLD what Ray would have killed, if anything."""
    ended = all(task.done() for task in group.tasks)
    if told := os.environ.get("RAY_DOUBLE_TOLD"):
        with Path(told).open("a") as file:
            file.write("given back\n" if ended else "taken from a running actor\n")

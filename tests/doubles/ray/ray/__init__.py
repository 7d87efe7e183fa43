"""Stands in for Ray: an actor is a thread of this process, and a bundle with a GPU never finds a place.

It does not prove that Ray places, starts or ends anything, on this machine or another.
"""

import concurrent.futures
from concurrent.futures import Future, ThreadPoolExecutor

_pool = ThreadPoolExecutor()


def init(address, **_options):
    if address.endswith(":1"):
        raise RuntimeError("Version mismatch:\n the cluster has another Python")


def shutdown():
    _pool.shutdown()


def get_gpu_ids():
    return []


def nodes():
    return [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {}}]


def wait(refs, timeout=None):
    done, others = concurrent.futures.wait(refs, timeout=timeout)
    return list(done), list(others)


def get(ref):
    return ref.result()


def remote(kind):
    """`ray.remote(Class).options(...).remote()` makes an actor."""
    return _Kind(kind)


class _Kind:
    def __init__(self, kind):
        self._kind = kind

    def options(self, scheduling_strategy, **_options):
        self._group = scheduling_strategy.group
        return self

    def remote(self):
        return _Actor(self._kind(), self._group)


class _Actor:
    def __init__(self, one, group):
        self._one = one
        self._group = group

    def __getattr__(self, name):
        return _Method(getattr(self._one, name), self._group)


class _Method:
    def __init__(self, call, group):
        self._call = call
        self._group = group

    def remote(self, *words):
        self._group.tasks.append(_pool.submit(self._call, *words))
        return self._group.tasks[-1]


def placed(bundle):
    """What becomes true once there is a place."""
    ready = Future()
    if "GPU" not in bundle:
        ready.set_result(True)
    return ready

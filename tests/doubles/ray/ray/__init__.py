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

    def options(self, **_options):
        return self

    def remote(self):
        return _Actor(self._kind())


class _Actor:
    def __init__(self, one):
        self._one = one

    def __getattr__(self, name):
        return _Method(getattr(self._one, name))


class _Method:
    def __init__(self, call):
        self._call = call

    def remote(self, *words):
        return _pool.submit(self._call, *words)


def placed(bundle):
    """What becomes true once there is a place."""
    ready = Future()
    if "GPU" not in bundle:
        ready.set_result(True)
    return ready

import ray


def placement_group(bundles, strategy):
    assert strategy == "STRICT_PACK"
    return _Group(*bundles)


class _Group:
    def __init__(self, bundle):
        self._bundle = bundle

    def ready(self):
        return ray.placed(self._bundle)


def remove_placement_group(_group):
    pass

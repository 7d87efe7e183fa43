"""As tensorrt_llm/mapping.py @05ebebb2, without the parts for experts and contexts."""


class Mapping:
    def __init__(self, world_size=1, rank=0, gpus_per_node=8, *, cp_size=1, tp_size=1, pp_size=1):
        if tp_size * pp_size * cp_size != world_size:
            msg = "world_size must equal to tp_size * pp_size * cp_size"
            raise ValueError(msg)
        self.world_size, self.rank, self.gpus_per_node = world_size, rank, gpus_per_node
        self.tp_size, self.pp_size, self.cp_size = tp_size, pp_size, cp_size

    def to_dict(self):
        return dict(vars(self))

"""As tensorrt_llm/models/modeling_utils.py: what quantisation is asked for."""


class QuantConfig:
    def __init__(self, quant_algo=None, kv_cache_quant_algo=None):
        self.quant_algo, self.kv_cache_quant_algo = quant_algo, kv_cache_quant_algo

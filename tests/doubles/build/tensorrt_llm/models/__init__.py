"""As tensorrt_llm/models/__init__.py @02267d3d and models/llama/model.py: MODEL_MAP with one class."""

import json
from pathlib import Path

from tensorrt_llm.calls import note


class LLaMAForCausalLM:
    def __init__(self, mapping, quant_config):
        self.mapping, self.quant_config = mapping, quant_config

    @classmethod
    def from_hugging_face(
        cls, hf_model_or_dir, dtype="auto", mapping=None, quant_config=None, **kwargs
    ):
        assert isinstance(hf_model_or_dir, str)  # the real one looks for words in it
        assert not kwargs
        weights = Path(hf_model_or_dir, "model.safetensors").stat().st_size
        model = json.loads(Path(hf_model_or_dir, "config.json").read_text())
        algorithm = quant_config.quant_algo
        note(
            "from_hugging_face",
            model=hf_model_or_dir,
            dtype=dtype,
            rank=mapping.rank,
            quant=algorithm,
            bytes=weights,
        )
        made = cls(mapping, quant_config)
        made.vocabulary, made.positions = model["vocab_size"], model["max_position_embeddings"]
        return made

    def save_checkpoint(self, output_dir, save_config=True):
        rank = self.mapping.rank
        Path(output_dir, f"rank{rank}.safetensors").write_bytes(b"rank %d" % rank)
        if save_config:
            config = {
                "architecture": "LlamaForCausalLM",
                "vocab_size": self.vocabulary,
                "max_position_embeddings": self.positions,
                "mapping": self.mapping.to_dict(),
                "quantization": {"quant_algo": self.quant_config.quant_algo},
            }
            Path(output_dir, "config.json").write_text(json.dumps(config))


MODEL_MAP = {"LlamaForCausalLM": LLaMAForCausalLM}

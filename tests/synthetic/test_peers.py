"""Files for other programs, read by those programs: opt-in, because they need an environment of their own.

`PEER_PYTHON=venv/bin/python pytest tests/synthetic/test_peers.py`, where the venv has `pip install aiperf pandas`.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from trt_dp.synthetic.arrivals import Arrivals
from trt_dp.synthetic.generate import lengths
from trt_dp.synthetic.preparation import Preparation
from trt_dp.synthetic.prepare import prepare
from trt_dp.synthetic.workload import Uniform

PYTHON = os.environ.get("PEER_PYTHON", "")
READS = Path(__file__).parents[1] / "support" / "peer_reads.py"
WORKLOAD = Uniform(200, 4, 60, 4, 50)
KINDS = ("byte_level", "metaspace", "unigram", "word_piece")

pytestmark = pytest.mark.skipif(not PYTHON, reason="PEER_PYTHON names no Python that has aiperf")
pytest.importorskip("tokenizers")


def read(reader: str, folder: Path, layout: str, kind: str) -> dict:
    """What a peer reads in a file of this format, made with this kind of tokenizer."""
    import tokenizer_kinds

    tokenizer, path = tokenizer_kinds.folder(kind, folder), folder / "made.jsonl"
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    asked = Preparation(
        WORKLOAD, path, layout=layout, tokenizer=str(tokenizer), arrivals=Arrivals(50.0)
    )
    prepare(asked, lambda *_: None)
    command = [PYTHON, str(READS), reader, str(tokenizer), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_aiperf_reads_what_was_asked_for(tmp_path, kind):
    """AIPerf's single_turn loader finds each prompt's and answer's length and its time, and knows every field."""
    found = read("aiperf", tmp_path, "aiperf", kind)
    inputs, outputs = lengths(WORKLOAD, 420)
    assert found["inputs"] == inputs.tolist()
    assert found["outputs"] == outputs.tolist()
    assert found["milliseconds"][0] == 0
    assert (np.diff(found["milliseconds"]) >= 0).all()
    assert (found["recognised"], found["unknown"], found["trace"]) == (True, [], False)
    assert found["conversations"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_libraries_of_vllm_bench_read_what_was_asked_for(tmp_path, kind):
    """Pandas and transformers, called as vLLM's custom dataset calls them, count the lengths asked for."""
    found = read("pandas", tmp_path, "vllm", kind)
    inputs, outputs = lengths(WORKLOAD, 420)
    assert found == {"inputs": inputs.tolist(), "outputs": outputs.tolist()}

"""A stand-in for vLLM 0.32 that answers at once, without a model: what was seen of its ways, for tests.

It proves that trt-dp calls vLLM by the recorded names and survives the ways of failing that were seen. It does not
prove that vLLM has these names, computes anything, or fails only so: that is for `scripts/vllm-check`.

VLLM_DOUBLE_FAULTS, words with commas between: `broken` (importing raises), `refuses` (no model is known),
`dies` (after the first failure every step raises), `raise=ID` (a step with this token in a prompt raises),
`error=ID` (such a request ends with an error), `forgets` (requests vanish).
"""

import os

__version__ = os.environ.get("VLLM_DOUBLE_VERSION", "0.32.0")
FAULTS = {
    word.partition("=")[0]: word.partition("=")[2]
    for word in os.environ.get("VLLM_DOUBLE_FAULTS", "").split(",")
    if word
}
if "broken" in FAULTS:
    raise ImportError("libcudart.so.13: cannot open shared object file")

"""A double of the part of tensorrt_llm that trtllm_convert calls; every signature is bound as it was recorded.

It proves that the conversion calls what is there, with arguments that are taken, once for each rank. It does not
prove that weights are converted, or that the real classes do what their signatures say. Each call is written to the
file that FAKE_TRTLLM_CALLS names.
"""

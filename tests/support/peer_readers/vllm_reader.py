"""Runs in vLLM's environment: feeds the lists of detailed.json to vLLM's own formulas, and prints their results."""

import json
import sys
from pathlib import Path

from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput
from vllm.benchmarks.plot import construct_timeline_data
from vllm.benchmarks.serve import calculate_metrics

told = json.loads(Path(sys.argv[1], "detailed.json").read_text())
outputs = []
for place, error in enumerate(told["errors"]):
    one = RequestFuncOutput(success=not error, error=error, ttft=told["ttfts"][place])
    one.itl, one.latency = told["itls"][place], told["latencies"][place]
    one.start_time, one.prompt_len = told["start_times"][place], told["input_lens"][place]
    one.output_tokens, one.generated_text = (
        told["output_lens"][place],
        told["generated_texts"][place],
    )
    outputs.append(one)
found, lengths = calculate_metrics(
    [], outputs, told["duration"], None, [25, 50, 75, 90, 95, 99], {}
)
result = {
    "completed": found.completed,
    "failed": found.failed,
    "total_input_tokens": found.total_input,
    "total_output_tokens": found.total_output,
    "request_throughput": found.request_throughput,
    "output_throughput": found.output_throughput,
    "total_token_throughput": found.total_token_throughput,
    "max_output_tokens_per_s": found.max_output_tokens_per_s,
    "max_concurrent_requests": found.max_concurrent_requests,
    "output_lens": lengths,
}
for name in ("ttft", "tpot", "itl", "e2el"):
    for kind in ("mean", "median", "std"):
        result[f"{kind}_{name}_ms"] = float(getattr(found, f"{kind}_{name}_ms"))
    for percentile, value in getattr(found, f"percentiles_{name}_ms"):
        result[f"p{percentile}_{name}_ms"] = float(value)
timeline = [
    {
        "start_time": told["start_times"][i], "ttft": told["ttfts"][i], "itl": told["itls"][i],
        "latency": told["latencies"][i], "prompt_len": told["input_lens"][i],
        "output_tokens": told["output_lens"][i],
    }
    for i, error in enumerate(told["errors"])
    if not error
]  # fmt: skip
drawn = construct_timeline_data(timeline, [0.025, 0.05], ["a", "b", "c"])
print(json.dumps({"metrics": result, "timeline": len(drawn)}))

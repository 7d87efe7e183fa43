"""What each host contributed to a run on several (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from trt_dp.report.schema import Worker
from trt_dp.report.sections import Host


def hosts(workers: Sequence[Worker]) -> list[Host]:
    """The hosts by the number of their first worker; none where all workers were on the coordinator's machine."""
    names = dict.fromkeys(worker.host for worker in workers if worker.host)
    return [_host(name, [one for one in workers if one.host == name]) for name in names]


def _host(name: str, workers: Sequence[Worker]) -> Host:
    return Host(
        host=name,
        workers=len(workers),
        requests=sum(one.requests for one in workers),
        share=sum(one.share for one in workers),
        output_tokens=sum(one.output_tokens for one in workers),
        output_throughput_tok_s=sum(one.output_throughput_tok_s for one in workers),
        load_seconds=max(one.load_seconds for one in workers),
        deaths=sum(one.deaths for one in workers),
    )

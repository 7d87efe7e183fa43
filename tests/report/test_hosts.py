from __future__ import annotations

from msgspec import structs

from trt_dp.report.hosts import hosts
from trt_dp.report.schema import Worker

ONE = Worker(
    worker=0,
    devices=["a:0"],
    requests=30,
    share=0.3,
    input_tokens=300,
    output_tokens=60,
    output_throughput_tok_s=6.0,
    load_seconds=2.0,
    idle_seconds=0.0,
    deaths=1,
    host="a",
)


def test_a_host_is_the_sum_of_its_workers():
    """Its share, tokens and deaths are theirs together; its load time is the longest of theirs."""
    two = structs.replace(ONE, worker=1, share=0.5, requests=50, load_seconds=3.0, deaths=0)
    other = structs.replace(ONE, worker=2, share=0.2, requests=20, host="b")
    first, second = hosts([ONE, two, other])
    assert (first.host, first.workers, first.requests, first.share) == ("a", 2, 80, 0.8)
    assert (first.load_seconds, first.deaths, first.output_tokens) == (3.0, 1, 120)
    assert (second.host, second.requests) == ("b", 20)


def test_one_machine_is_no_list_of_hosts():
    """Where all workers are on the coordinator's machine, there is nothing to tell apart."""
    assert hosts([structs.replace(ONE, host="")]) == []

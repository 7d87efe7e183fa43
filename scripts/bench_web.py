"""HTTP clients side by side: requests and streamed tokens a second of one client on one core.

The server answers at once, in a process and on a core of its own. `stream` is 128 tokens per request, all in one
write; `tokens` is the same with one write per token. Clients alternate; each figure is the median of its runs. The
rate per second of the client's own CPU time is shown too: where it is much higher, the server was the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
IN_FLIGHT = 32
TOKENS = 128
KINDS = ("unary", "stream", "tokens")


def body(kind: str) -> bytes:
    """A request of 64 ids."""
    asked = {"model": "m", "prompt": list(range(1000, 1064)), "max_tokens": TOKENS}
    return json.dumps(asked | {"stream": kind != "unary"}).encode()


def ours(url: str, kind: str, count: int) -> int:
    """trt_dp.web."""
    from trt_dp.web import Client, Exchange, target

    exchange = Exchange(to=target(url), body=body(kind), stream=kind != "unary")
    tokens, left = 0, count - IN_FLIGHT
    with Client() as client:
        for _ in range(IN_FLIGHT):
            client.submit(exchange)
        while client.in_flight:
            for reply in client.poll(1):
                assert reply.ok, reply.fault
                tokens += max(0, len(reply.events) - 1)
                if left > 0:
                    client.submit(exchange)
                    left -= 1
    return tokens


def engine(url: str, kind: str, count: int) -> int:
    """The engine openai with our client: it also builds each request and reads each answer's JSON."""
    import numpy as np

    from trt_dp.engines.openai.engine import OpenaiEngine
    from trt_dp.types import EngineSpec, Placement, Request

    settings = {"endpoint": url.removesuffix("/completions"), "model": "m", "dialect": "vllm"}
    made = OpenaiEngine(
        EngineSpec("openai"),
        Placement(0),
        concurrency=IN_FLIGHT,
        stream=kind != "unary",
        **settings,
    )
    ids, asked, tokens = np.arange(1000, 1064), 0, 0
    while tokens < count * TOKENS:
        while asked < count and asked - tokens // TOKENS < made.capacity:
            made.submit(Request(asked, asked, ids, TOKENS))
            asked += 1
        tokens += sum(TOKENS * (result.text.count(" the") == TOKENS) for result in made.step())
    made.close()
    return 0 if kind == "unary" else tokens


def _together(one: Callable, count: int) -> int:
    async def all_of_them(make: Callable) -> int:
        async with make() as client:
            shares = [len(range(i, count, IN_FLIGHT)) for i in range(IN_FLIGHT)]
            return sum(await asyncio.gather(*(one(client, share) for share in shares)))

    return asyncio.run(all_of_them(one.make))


def aiohttp_client(url: str, kind: str, count: int) -> int:
    """Aiohttp."""
    import aiohttp

    data = body(kind)

    async def one(client: aiohttp.ClientSession, share: int) -> int:
        tokens = 0
        for _ in range(share):
            async with client.post(url, data=data) as reply:
                if kind == "unary":
                    await reply.read()
                    continue
                async for line in reply.content:
                    tokens += line.startswith(b"data: {")
        return tokens

    one.make = lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    return _together(one, count)


def httpx_client(url: str, kind: str, count: int) -> int:
    """Httpx, which is h11 below."""
    import httpx

    data = body(kind)

    async def one(client: httpx.AsyncClient, share: int) -> int:
        tokens = 0
        for _ in range(share):
            if kind == "unary":
                (await client.post(url, content=data)).read()
                continue
            async with client.stream("POST", url, content=data) as reply:
                async for line in reply.aiter_lines():
                    tokens += line.startswith("data: {")
        return tokens

    one.make = httpx.AsyncClient
    return _together(one, count)


def niquests_client(url: str, kind: str, count: int) -> int:
    """Niquests."""
    import niquests

    data = body(kind)

    async def one(client: niquests.AsyncSession, share: int) -> int:
        tokens = 0
        for _ in range(share):
            reply = await client.post(url, data=data, stream=kind != "unary")
            if kind != "unary":
                async for line in reply.iter_lines():
                    tokens += line.startswith(b"data: {")
        return tokens

    one.make = lambda: niquests.AsyncSession(pool_maxsize=IN_FLIGHT)
    return _together(one, count)


CLIENTS = {
    "ours": ours,
    "engine": engine,
    "aiohttp": aiohttp_client,
    "httpx": httpx_client,
    "niquests": niquests_client,
}
SHARES = {
    "ours": 1.0,
    "engine": 0.5,
    "aiohttp": 0.2,
    "httpx": 0.04,
    "niquests": 0.04,
}  # so that each runs a few seconds


@contextmanager
def serving(kind: str) -> Iterator[str]:
    """The server's URL, while it runs."""
    command = [
        sys.executable,
        str(HERE / "instant_server.py"),
        *(["single"] if kind == "tokens" else []),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        os.sched_setaffinity(server.pid, {max(os.sched_getaffinity(0))})
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1/completions"
        server.stdin.close()


def measure(name: str, kind: str, count: int) -> dict[str, float]:
    """One run in this process, on the first core."""
    with serving(kind) as url:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        CLIENTS[name](url, kind, IN_FLIGHT)
        started, cpu = time.monotonic(), time.process_time()
        tokens = CLIENTS[name](url, kind, count)
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    assert kind == "unary" or tokens == count * TOKENS, tokens
    return {"rate": (tokens or count) / seconds, "per_cpu": (tokens or count) / cpu}


def main() -> None:
    """Measure what was asked for, each run in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--requests", type=int, default=60_000, help="unary ones of the fastest client"
    )
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one[0], asked.one[1], int(asked.one[2]))))
        return
    names = asked.clients.split(",")
    print(
        f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    )
    for kind in KINDS:
        print(
            f"\n{kind} ({'requests' if kind == 'unary' else 'tokens'} a second, and per second of CPU)"
        )
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(asked.repeats):
            for name in names:
                runs[name].append(_apart(name, kind, asked.requests))
        for name, found in runs.items():
            rate, per_cpu = (
                statistics.median(one[key] for one in found) for key in ("rate", "per_cpu")
            )
            print(f"  {name:10} {_version(name):8} {rate:>10,.0f} {per_cpu:>10,.0f}")


def _apart(name: str, kind: str, requests: int) -> dict[str, float]:
    count = max(IN_FLIGHT, int(requests * SHARES[name] / (1 if kind == "unary" else 20)))
    command = [sys.executable, __file__, "--one", name, kind, str(count)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _version(name: str) -> str:
    return metadata.version("httptools" if name in ("ours", "engine") else name)


if __name__ == "__main__":
    main()

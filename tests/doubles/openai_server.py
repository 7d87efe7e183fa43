"""A small server of OpenAI's API that misbehaves as it is told; run as a process, so that it can be killed and stopped.

Its answers depend on the prompt alone: a request answered twice, or by another server, has the same text. It proves
nothing about any real server: its errors are those that servers and proxies were seen to make.

`POST /behave` with a JSON object changes `Behaviour` while it runs. Every `every`-th request gets the `trouble`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import zlib
from dataclasses import dataclass, field

PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
CHUNKED = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


@dataclass
class Behaviour:
    model: str = "stub"
    owner: str = "vllm"
    tokens: int = 0  # 0: as many as asked for
    delay: float = 0.0  # before the first token
    gap: float = 0.0  # between tokens
    slots: int = 0  # more in flight get 429
    key: str = ""
    trouble: str = ""
    every: int = 0
    retry_after: str = ""
    refuse_word: str = ""  # prompts that hold it get 400
    no_tokenizer: bool = False  # text gets 400
    poison_word: str = ""  # prompts that hold it get 500
    deadly_word: str = ""  # prompts that hold it kill the process
    spare_canary: bool = True
    seen: int = field(default=0, init=False)
    served: int = field(default=0, init=False)
    running: int = field(default=0, init=False)
    most: int = field(default=0, init=False)
    bodies: list = field(default_factory=list, init=False)


def answer_words(prompt, count: int) -> list[str]:
    """What is answered to a prompt: words that depend on it."""
    start = zlib.crc32(json.dumps(prompt).encode()) % 1000
    return [f" w{start + place}" for place in range(count)]


class Server:
    def __init__(self, behaviour: Behaviour) -> None:
        self.how = behaviour

    async def serve(self, reader, writer) -> None:
        try:
            while (asked := await self._request(reader)) is not None:
                if not await self._answer(writer, *asked):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _request(self, reader):
        line = await reader.readline()
        if not line:
            return None
        method, path, _ = line.decode().split()
        headers = {}
        while (found := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = found.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return method, path, headers, body

    async def _answer(self, writer, method, path, headers, body) -> bool:
        how = self.how
        if path == "/behave":
            for name, value in json.loads(body).items():
                setattr(how, name, value)
            return await _reply(writer, 200, {})
        if path == "/seen":
            counts = {name: getattr(how, name) for name in ("seen", "served", "most", "bodies")}
            return await _reply(writer, 200, counts)
        if how.key and headers.get("authorization") != f"Bearer {how.key}":
            return await _reply(writer, 401, _error(f"wrong key {headers.get('authorization')}"))
        if method == "GET" and path == "/v1/models":
            one = {"id": how.model, "object": "model", "owned_by": how.owner, "max_model_len": 8192}
            return await _reply(writer, 200, {"object": "list", "data": [one]})
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return await _reply(writer, 404, _error(f"no {path} here"))
        how.running += 1
        how.most = max(how.most, how.running)
        try:
            return await self._complete(writer, path, json.loads(body))
        finally:
            how.running -= 1

    async def _complete(self, writer, path, asked) -> bool:
        how = self.how
        prompt = asked["messages"] if "chat" in path else asked["prompt"]
        canary = json.dumps(prompt).find("Hello") >= 0 and asked.get("max_tokens") == 4
        how.bodies = [*how.bodies, asked][-20:]
        text = json.dumps(prompt)
        if how.deadly_word and how.deadly_word in text:
            os._exit(9)
        if refusal := self._refusal(asked, prompt, text):
            return await _reply(writer, refusal[0], _error(refusal[1]))
        if how.slots and how.running > how.slots:
            return await self._refuse(writer, 429)
        if not (canary and how.spare_canary):
            how.seen += 1
            if how.trouble and how.every and how.seen % how.every == 0:
                return await self._misbehave(writer, path, asked, prompt)
        await self._say(writer, path, asked, prompt)
        how.served += not canary
        return True

    def _refusal(self, asked, prompt, text: str) -> tuple[int, str] | None:
        """What is wrong with a request, if anything is."""
        how = self.how
        wrong = {
            (404, f"there is no model {asked.get('model')}"): asked.get("model") != how.model,
            (400, "this server has no tokenizer"): how.no_tokenizer
            and not isinstance(prompt[0], int),
            (400, "this prompt is too long: 9000 tokens"): how.refuse_word
            and how.refuse_word in text,
            (500, "CUDA error: illegal memory access"): how.poison_word and how.poison_word in text,
        }
        return next((refusal for refusal, is_so in wrong.items() if is_so), None)

    async def _refuse(self, writer, status: int) -> bool:
        more = f"retry-after: {self.how.retry_after}\r\n" if self.how.retry_after else ""
        return await _reply(writer, status, _error("overloaded"), more)

    async def _misbehave(self, writer, path, asked, prompt) -> bool:  # noqa: PLR0911 - a list of mischief
        kind = self.how.trouble
        if kind.isdigit():
            return await self._refuse(writer, int(kind))
        if kind == "html":
            return await _raw(writer, 404, b"<html>nothing here</html>", "text/html")
        if kind == "redirect":
            return await _reply(writer, 302, {}, "location: http://127.0.0.1:9/login\r\n")
        if kind == "garbage":
            return await _raw(writer, 200, b'{"choices": [{"text": "half', "application/json")
        if kind == "empty":
            return await _reply(writer, 200, {"choices": []})
        if kind == "hang":
            await asyncio.sleep(3600)
        if kind == "close":
            return False
        await self._say(writer, path, asked, prompt, trouble=kind)
        return False

    async def _say(self, writer, path, asked, prompt, trouble: str = "") -> None:
        """`cut`: the connection ends half-way; `cut-cleanly`: the answer does, as if it were whole."""
        how = self.how
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or 16
        words = answer_words(prompt, min(limit, how.tokens or limit))
        counts = {"prompt_tokens": _length(prompt), "completion_tokens": len(words)}
        await asyncio.sleep(how.delay)
        say = self._stream if asked.get("stream") else self._whole
        await say(writer, asked, words, counts, trouble)

    async def _whole(self, writer, asked, words, usage, trouble) -> None:
        await asyncio.sleep(self.how.gap * len(words))
        end = "abort" if trouble == "abort" else "length"
        said = {"choices": [_piece(asked, words, "message", end)], "usage": usage}
        if trouble == "error":
            said = {"error": {"message": "engine died", "code": 500}}
        body = json.dumps(said).encode()
        if trouble.startswith("cut"):
            writer.write(
                _head(200, "application/json", f"content-length: {len(body)}\r\n")
                + body[: len(body) // 2]
            )
            await writer.drain()
            return
        await _raw(writer, 200, body, "application/json")

    async def _stream(self, writer, asked, words, usage, trouble) -> None:
        writer.write(_head(200, "", CHUNKED))
        if "messages" in asked:
            await _event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for place, word in enumerate(words[: len(words) // 2] if trouble else words):
            await asyncio.sleep(self.how.gap)
            last = "length" if place == len(words) - 1 else None
            await _event(writer, {"choices": [_piece(asked, [word], "delta", last)]})
        if trouble == "error":
            await _event(writer, {"error": {"message": "engine died", "code": 500}})
        if not trouble:
            if asked.get("stream_options", {}).get("include_usage"):
                await _event(writer, {"choices": [], "usage": usage})
            await _event(writer, None)
        writer.write(b"" if trouble == "cut" else b"0\r\n\r\n")
        await writer.drain()


def _piece(asked, words: list[str], name: str, end: str | None) -> dict:
    """A choice, or a part of one."""
    text = "".join(words)
    said = {name: {"role": "assistant", "content": text}} if "messages" in asked else {"text": text}
    ids = {"token_ids": [int(one[2:]) for one in words]} if asked.get("return_token_ids") else {}
    return {"index": 0, **said, **ids, "finish_reason": end}


def _length(prompt) -> int:
    if isinstance(prompt, str):
        return len(prompt.split())
    return (
        sum(_length(m["content"]) for m in prompt) if isinstance(prompt[0], dict) else len(prompt)
    )


def _error(message: str) -> dict:
    return {"error": {"message": message, "type": "invalid", "code": None}}


def _head(status: int, kind: str, more: str) -> bytes:
    first = f"HTTP/1.1 {status} {PHRASES.get(status, 'X')}\r\n"
    return (first + (f"content-type: {kind}\r\n" if kind else "") + more + "\r\n").encode()


async def _raw(writer, status: int, body: bytes, kind: str, more: str = "") -> bool:
    writer.write(_head(status, kind, f"content-length: {len(body)}\r\n{more}") + body)
    await writer.drain()
    return True


async def _reply(writer, status: int, said: dict, more: str = "") -> bool:
    return await _raw(writer, status, json.dumps(said).encode(), "application/json", more)


async def _event(writer, said: dict | None) -> None:
    data = b"data: " + (b"[DONE]" if said is None else json.dumps(said).encode()) + b"\n\n"
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def main(port: int, said: dict) -> None:
    """Serve until the standard input ends."""
    server = await asyncio.start_server(
        Server(Behaviour(**said)).serve, "127.0.0.1", port, limit=1 << 24, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    gone = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await gone
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2])))

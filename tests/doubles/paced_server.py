"""An OpenAI-compatible server with a set time to the first token and between tokens; it computes nothing.

It proves that a client counts, spreads and times what it is sent. It does not prove anything about a model, about
batching, or about how a server behaves under load: requests do not slow each other down.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque


class PacedServer:
    """Serves in a thread. `faults` says what happens to the next requests, in turn: one of the names in `_answer`.

    With `hold`, none is answered before so many are in flight.
    """

    def __init__(
        self,
        ttft: float = 0.0,
        itl: float = 0.0,
        faults: tuple[str, ...] = (),
        hold: int = 0,
        port: int = 0,
        count=lambda text: len(text.split()),
    ) -> None:
        self._count = count
        self.bodies: list[dict] = []
        self.most_in_flight = self.in_flight = 0
        self.headers: list[str] = []
        self.models = [{"id": "paced"}]
        self._ttft, self._itl, self._faults = ttft, itl, deque(faults)
        self._hold, self._held, self._port = hold, asyncio.Event(), port
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()
        self.url = f"http://127.0.0.1:{self._port}"

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._talk, "127.0.0.1", self._port)
        )
        self._port = server.sockets[0].getsockname()[1]
        self._loop.call_soon(ready.set)
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    async def _talk(self, reader, writer) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                text = head.decode()
                size = int(text.lower().partition("content-length: ")[2].split("\r\n")[0] or 0)
                body = await reader.readexactly(size)
                if text.startswith("HEAD"):
                    writer.write(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")
                    continue
                if text.startswith("GET"):
                    await self._whole(writer, 200, {"object": "list", "data": self.models})
                    continue
                self.headers.append(text)
                self.bodies.append(json.loads(body))
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                if self.in_flight >= self._hold:
                    self._held.set()
                await self._held.wait()
                await self._answer(writer, text, self.bodies[-1])
                self.in_flight -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _whole(self, writer, status: int, value) -> None:
        body = json.dumps(value).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()

    async def _answer(self, writer, head: str, body: dict) -> None:
        fault = self._faults.popleft() if self._faults else ""
        if fault == "tells the key":
            await self._whole(writer, 401, {"error": {"message": f"no such key: {head}"}})
            return
        if fault == "stuck":
            await asyncio.sleep(3600)
        if fault == "429":
            await self._whole(writer, 429, {"error": {"message": "too many requests"}})
            return
        if fault == "whole":
            await self._whole(writer, 200, {"choices": [{"text": "x"}]})
            return
        chat, tokens = "/chat/" in head.partition("\r\n")[0], body["max_tokens"]
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        events = self._events(chat, tokens, body, fault)
        kind = {"object": "chat.completion.chunk" if chat else "text_completion"}
        for wait, event in events:
            await asyncio.sleep(wait)
            event = event if isinstance(event, bytes) else kind | event
            data = b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode())
            data += b"\n\n"
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        if fault == "cut":
            writer.close()
            return
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _events(self, chat: bool, tokens: int, body: dict, fault: str):
        if fault == "garbage":
            yield 0, b"{not json"
            return
        if fault == "error":
            yield 0, {"error": {"message": "the engine is dead"}}
            return
        if chat:
            yield 0, {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
        made = tokens // 2 if fault in ("no end", "cut", "short") else tokens
        step = made if fault == "bundled" else 1
        for first in range(0, made, step):
            wait = self._itl if first else self._ttft
            last = first + step >= made and fault not in ("no end", "cut")
            choice = {"finish_reason": "length" if last else None}
            choice |= {"delta": {"content": " x" * step}} if chat else {"text": " x" * step}
            yield wait, {"choices": [choice]}
        if fault in ("no end", "cut"):
            return
        if fault != "no usage":
            asked = body["messages"][0]["content"] if chat else body["prompt"]
            count = len(asked) if isinstance(asked, list) else self._count(asked)
            usage = {"prompt_tokens": count, "completion_tokens": made}
            yield 0, {"choices": [], "usage": usage}
        yield 0, b"[DONE]"

"""An HTTP/1.1 client for many requests in flight on one thread, with the time of every streamed event.

    from trt_dp.web import Client, Exchange, Secret, target

    with Client() as client:
        server = target("http://127.0.0.1:8000/v1")
        number = client.submit(Exchange(to=server, path="/completions", body=b"{...}", stream=True))
        for reply in client.poll(0.25):
            if reply.fault:                      # no answer: reply.fault.kind, reply.fault.message
                ...
            elif reply.status != 200:            # the server's own words: reply.body
                ...
            else:                                # reply.body, or for a stream reply.events and reply.times
                first = reply.times[0] - reply.submitted

- `submit` never waits for the server. It returns a number, which is `reply.number`; `exchange.tag` is yours.
- `poll(seconds)` returns the replies that are complete, as soon as there is one; an empty list after `seconds`.
- One exchange uses one connection at a time. Connections are kept and used again: there are as many as there were
  exchanges in flight at once. The caller bounds them.
- `stream=True` asks for server-sent events. `reply.events` are their data (bytes, `[DONE]` included) and `reply.times`
  when each arrived. An answer that is no event stream, such as an error, is in `reply.body`.
- A reply has a `fault` when there is no whole answer: `connect`, `tls`, `closed` (the server closed the connection
  before the end), `timeout`, `protocol` (not HTTP, compressed, too long) or `redirect` (never followed).
  A stream is whole if its HTTP body is, or if its last event is `[DONE]`; a server that stops early but cleanly
  is the caller's to notice.
- `reply.submitted`, `first_byte`, `done` and `times` are seconds of `time.monotonic()`.
- A kept connection that the server had closed meanwhile is replaced once by a new one, before any byte of an answer.
- `Secret` holds an API key; it never shows in a repr or message. `secret.scrub(text)` takes it out of a server's words.
- `https://` verifies certificates against the system's (or SSL_CERT_FILE's). Environment proxies are not used.
- `Limits` has the timeouts; each has a default and none can be switched off.
- `client.cancel(number)` forgets an exchange and closes its connection. A Client belongs to one thread.
"""

from __future__ import annotations

from trt_dp.web.client import Client
from trt_dp.web.exchange import Exchange, Fault, Limits, Reply
from trt_dp.web.secret import Secret
from trt_dp.web.target import Target, target

__all__ = ["Client", "Exchange", "Fault", "Limits", "Reply", "Secret", "Target", "target"]

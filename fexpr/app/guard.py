"""Headers and checks that the page's server adds to every response, so that nothing leaves the
machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

Receive = Callable[[], Awaitable[dict]]
Send = Callable[[dict], Awaitable[None]]

# what a browser may load or call from the page: this server alone
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)


class Guard:
    """ASGI middleware: sends POLICY with every answer, and answers only requests that name one of
    `hosts` (none: any), so that a page from elsewhere cannot reach the server under its own host
    name.
    """

    def __init__(self, app: Callable[[dict, Receive, Send], Awaitable[None]], hosts: Sequence[str]):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: dict, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").rpartition(":")[0]
        if self.hosts and host not in self.hosts:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"unknown host"})
            return

        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message = message | {"headers": [*message["headers"], policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)

"""
The link preview of the page: its title, a sentence and a picture, in place of Gradio's.

Depends on ASGI and HTML. Independent of Gradio and the model.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREVIEW = Path(__file__).parent / "preview.png"
TITLE, DESCRIPTION = "Text-to-Talk", "Ask aloud, and see one Transformer write and speak at once."


class LinkPreview:
    """
    ASGI middleware that gives the page at `/` its own link preview in place of Gradio's.

    Args:
        app (`ASGIApp`): The app with the page.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; of the page itself, change the answer."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        start: dict[str, Any] = {}
        body = b""

        async def changed(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                start.update(message)
                return
            if message["type"] != "http.response.body":
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            page = with_preview(body.decode(), str(Request(scope).base_url)).encode() if _is_page(start) else body
            headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(page)).encode())]})
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, changed)


def with_preview(page: str, address: str) -> str:
    """
    Replace the tags of a page that link previews read.

    Args:
        page (`str`): HTML.
        address (`str`): Where the page is, with a slash at the end: previews take whole addresses only.

    Returns:
        `str`: HTML.
    """
    tags = {
        "og:type": "website",
        "og:url": address,
        "og:title": TITLE,
        "og:description": DESCRIPTION,
        "og:image": f"{address}{PREVIEW.name}",
        "twitter:card": "summary_large_image",
        "twitter:title": TITLE,
        "twitter:description": DESCRIPTION,
        "twitter:image": f"{address}{PREVIEW.name}",
    }
    kinds = {name: "property" if name.startswith("og:") else "name" for name in tags}
    written = "\n".join(f'<meta {kinds[name]}="{name}" content="{escape(value)}" />' for name, value in tags.items())
    page = re.sub(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>\s*', "", page)
    return page.replace("<head>", f"<head>\n{written}\n", 1)


def _is_page(start: dict[str, Any]) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/html") for name, value in start["headers"])

"""
One server for people and programs: the page, its endpoints, and OpenAI's routes, over one service.

Depends on FastAPI and on how Gradio mounts a page. Independent of the model.
"""

from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.routing import Mount

from ..service import TalkService
from .api import add_api, new_app
from .guards import AllowedHosts, HostGuard
from .mcp_tools import give_tools_audio
from .preview import PREVIEW, LinkPreview


def build_app(
    service: TalkService,
    demo: gr.Blocks,
    model_name: str = "ttt",
    hosts: AllowedHosts | None = None,
    **mount_kwargs: Any,
) -> FastAPI:
    """
    Build the app.

    Args:
        service ([`TalkService`]): Answers.
        demo (`gr.Blocks`): The page, mounted at `/`.
        model_name (`str`, *optional*, defaults to `"ttt"`): How OpenAI's clients name the model.
        hosts ([`AllowedHosts`], *optional*): Names that browsers may reach it by; by default those of this machine.
        mount_kwargs: Arguments of `gr.mount_gradio_app`: `mcp_server=True`, `theme`, ...

    Returns:
        `FastAPI`: For `uvicorn.run`; when it stops, requests that were taken are answered.
    """
    app = new_app()
    add_api(app, service, model_name)
    app.add_api_route(f"/{PREVIEW.name}", lambda: FileResponse(PREVIEW), include_in_schema=False)
    mount_kwargs |= {"max_file_size": service.limits.upload_bytes, "ssr_mode": False}
    # Sentences for the person who asked are `gr.Error`; any other error is one of Python.
    gr.mount_gradio_app(app, demo, path="/", show_error=False, **mount_kwargs)
    give_tools_audio(demo)
    # Gradio checks that a client names only files that it uploaded, if the page was launched; a mounted page must state
    # so.
    demo.has_launched = True
    app.add_middleware(LinkPreview)
    app.add_middleware(HostGuard, hosts=hosts or AllowedHosts())
    return app


def end_page_streams(app: FastAPI) -> None:
    """
    End the streams by which open pages, and MCP's connection to this server, only show that they are there.

    Args:
        app (`FastAPI`): Of `build_app`; called in its event loop.
    """
    for route in app.routes:
        if isinstance(route, Mount):
            route.app.stop_event.set()  # type: ignore[attr-defined]  # Gradio's app

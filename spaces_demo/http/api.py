"""
All routes for programs, as an app of ours offers them: OpenAI's and realtime sessions under `/v1`, `/health`, and
their documentation.

Depends on HTTP and the service. Independent of Gradio, Ray and the model.
"""

import html
from typing import TypedDict

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse

from ..realtime.routes import realtime_router
from ..service import TalkService
from .guards import BodyGuard
from .openai_errors import unknown_routes
from .openai_routes import openai_router

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: routes</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:1rem/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}</style>
<h1>{title}: routes</h1><p>For programs there is the same as <a href="{openapi}">OpenAPI</a>; the audio and chat routes
take what OpenAI's clients send.</p><dl>{routes}</dl></html>"""


class Health(TypedDict):
    """The body of `/health`; `status` is `ok`, or `stopping` when no more requests are taken."""

    status: str
    model: str
    served: int
    waiting: int


def new_app() -> FastAPI:
    """Make an app whose documentation needs no network: `add_api` adds it."""
    return FastAPI(title="Text-to-Talk", docs_url=None, redoc_url=None, openapi_url="/openapi.json")


def add_api(app: FastAPI, service: TalkService, model_name: str = "ttt", more: APIRouter | None = None) -> None:
    """
    Add the routes, and the limits of what any route of the app reads.

    Args:
        app (`FastAPI`): From `new_app`.
        service ([`TalkService`]): Answers.
        model_name (`str`, *optional*, defaults to `"ttt"`): How OpenAI's clients name the model.
        more (`APIRouter`, *optional*): Further routes.
    """
    app.add_middleware(BodyGuard, limits=service.limits)
    app.include_router(openai_router(service, model_name))
    app.include_router(realtime_router(service, model_name))
    if more is not None:
        app.include_router(more)
    app.include_router(unknown_routes())

    @app.get("/health")
    async def health() -> JSONResponse:
        """Report whether requests are taken: status 200, or 503 when the server is about to stop."""
        admission = service.admission
        status = "stopping" if admission.is_closed else "ok"
        body = Health(status=status, model=model_name, served=admission.num_running, waiting=admission.num_waiting)
        return JSONResponse(body, status_code=503 if admission.is_closed else 200)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """List the routes as a page."""
        openapi = f"{request.scope.get('root_path', '')}{app.openapi_url}"
        return HTMLResponse(PAGE.format(title=app.title, openapi=html.escape(openapi), routes=_listed(app)))


def _listed(app: FastAPI) -> str:
    routes = [
        (f"{method.upper()} {path}", operation.get("description", ""))
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    return "".join(f"<dt><code>{html.escape(route)}</code><dd>{html.escape(text)}" for route, text in routes)

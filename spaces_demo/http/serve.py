"""
The same service on many machines: a Ray Serve application (`pip install "text-to-talk[ray]"`).

    serve run spaces_demo.serve:application model=checkpoints/ttt-nano max_replicas=8

Each replica holds a model and offers OpenAI's routes, whose speech comes while it is made, and `/v1/talk` for whole
replies: those that come within a few milliseconds are answered by one `generate`. Replicas come and go with the
number of requests; one that stops answers first what it has taken. Knows Ray. Which requests can be answered, and
how, is `service.py`'s and `batching.py`'s.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from ray import serve
from ray.serve import Application

from processing_ttt import TttReply

from ..service import DemoError, Limits, TalkRequest, TalkService
from ..service.audio_formats import pcm16, wav_header
from ..service.batching import answer_together
from .openai_routes import FORM_BYTES, openai_router, route_class

BATCH_WAIT_SECONDS = 0.01
DRAIN_SECONDS = 60.0


class Settings(BaseModel):
    """
    What `serve run` takes as `name=value`.

    Args:
        model (`str`): Folder or Hub id; the nano checkpoint in the box by default.
        min_replicas (`int`): Replicas that are always there.
        max_replicas (`int`): Most replicas.
        requests_per_replica (`int`): Requests in progress for which one more replica is begun.
        batch_size (`int`): Whole replies of one `generate`.
        cpus (`float`): CPU cores of a replica.
        gpus (`float`): GPUs of a replica, which may share one.
    """

    model: str = ""
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=4, ge=1)
    requests_per_replica: int = Field(default=4, ge=1)
    batch_size: int = Field(default=8, ge=1)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)


class Question(BaseModel):
    """
    The body of `/v1/talk`.

    Args:
        task (`str`): `chat`, `asr`, `tts` or `text`.
        text (`str`, *optional*): What the user writes.
        audio (`str`, *optional*): What the user says: a sound file in base64.
    """

    task: str = "chat"
    text: str | None = None
    audio: str | None = None

    def request(self) -> TalkRequest:
        """Write it as the service takes it."""
        try:
            sound = None if self.audio is None else base64.b64decode(self.audio, validate=True)
        except ValueError as error:  # also a letter that is not of ASCII
            raise DemoError("The audio is a sound file in base64.") from error
        return TalkRequest(self.task, self.text, sound)


@serve.deployment(graceful_shutdown_timeout_s=DRAIN_SECONDS, max_ongoing_requests=64, max_queued_requests=256)
@serve.ingress()
class Talker:
    """
    One replica.

    Args:
        settings (`dict`): Of [`Settings`].
    """

    def __init__(self, settings: dict[str, Any]):
        import torch
        from transformers import AutoModel, AutoProcessor

        from modeling_ttt import nano_checkpoint

        chosen = Settings(**settings)
        source = chosen.model or str(nano_checkpoint())
        device = "cuda" if chosen.gpus and torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(max(1, int(chosen.cpus)))
        model = AutoModel.from_pretrained(source).to(device).eval()
        self.service = TalkService(model, AutoProcessor.from_pretrained(source), Limits(per_user=64))
        self.answer.set_max_batch_size(chosen.batch_size)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Make the routes, when the model is there."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        in_base64 = self.service.limits.upload_bytes * 4 // 3 + FORM_BYTES
        app.router.route_class = route_class(self.service.limits, in_base64)
        app.include_router(openai_router(self.service))

        @app.post("/v1/talk")
        async def talk(question: Question) -> JSONResponse:
            reply = await self.answer(question.request())
            if isinstance(reply, DemoError):
                raise reply
            return JSONResponse({**_as_json(reply), "replica": serve.get_replica_context().replica_id.unique_id})

        return app

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def answer(self, requests: Sequence[TalkRequest]) -> list[TttReply | DemoError]:
        """Answer those that came together."""
        return await asyncio.to_thread(answer_together, self.service, requests)

    def __del__(self) -> None:
        self.service.close(timeout=DRAIN_SECONDS)


def application(settings: Settings) -> Application:
    """
    Build the application.

    Args:
        settings ([`Settings`]): As `serve run` reads them.

    Returns:
        `ray.serve.Application`: For `serve.run`.
    """
    replica = {"num_cpus": settings.cpus, "num_gpus": settings.gpus}
    autoscaling = {
        "min_replicas": settings.min_replicas,
        "max_replicas": max(settings.min_replicas, settings.max_replicas),
        "target_ongoing_requests": settings.requests_per_replica,
    }
    return Talker.options(ray_actor_options=replica, autoscaling_config=autoscaling).bind(settings.model_dump())


def _as_json(reply: TttReply) -> dict[str, Any]:
    samples = pcm16(reply.audio)
    wav = base64.b64encode(wav_header(reply.sampling_rate, len(samples)) + samples).decode("ascii")
    return {"text": reply.text, "audio": wav if len(reply.audio) else None, "finished": reply.finished}

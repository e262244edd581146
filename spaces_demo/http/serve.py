"""
The same service on many machines: a Ray Serve application (`pip install "text-to-talk[ray]"`).

    serve run spaces_demo.serve:application model=checkpoints/ttt-nano max_replicas=8

Each replica holds a model and offers OpenAI's routes, which stream speech, and `/v1/talk` for whole replies: requests
that arrive within a few milliseconds share one `generate` call. Replicas start and stop with the number of requests;
one that stops first answers what it has taken. Depends on Ray. Which requests can be answered, and how, is decided in
`service`.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, TypedDict

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from ray import serve
from ray.serve import Application

from processing_ttt import TttReply

from ..service import Limits, RequestError, TalkRequest, TalkService
from ..service.audio_formats import wav_file
from ..service.batching import answer_together
from .api import add_api, new_app
from .openai_errors import ERROR_RESPONSES, route_class

BATCH_WAIT_SECONDS = 0.01
DRAIN_SECONDS = 60.0


class Settings(BaseModel):
    """
    What `serve run` takes as `name=value`.

    Args:
        model (`str`): Folder or Hub id; the nano checkpoint in the box by default.
        min_replicas (`int`): Fewest replicas.
        max_replicas (`int`): Most replicas.
        requests_per_replica (`int`): Requests in progress above which one more replica is started.
        batch_size (`int`): Most whole replies of one `generate`.
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
        text (`str`, *optional*): The user's text.
        audio (`str`, *optional*): The user's audio: an audio file in base64.
    """

    task: str = "chat"
    text: str | None = None
    audio: str | None = None

    def request(self) -> TalkRequest:
        """Return it as the service takes it."""
        try:
            audio = None if self.audio is None else base64.b64decode(self.audio, validate=True)
        except ValueError as error:  # also for letters outside ASCII
            raise RequestError("The audio is an audio file in base64.") from error
        return TalkRequest(self.task, self.text, audio)


@serve.deployment(graceful_shutdown_timeout_s=DRAIN_SECONDS, max_ongoing_requests=64, max_queued_requests=256)
@serve.ingress()
class Talker:
    """
    One replica.

    Args:
        settings (`dict`): The fields of [`Settings`].
    """

    def __init__(self, settings: dict[str, Any]):
        import torch

        from modeling_ttt import nano_checkpoint
        from processing_ttt import TttTalker

        chosen = Settings(**settings)
        source = chosen.model or str(nano_checkpoint())
        device = "cuda" if chosen.gpus and torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(max(1, int(chosen.cpus)))
        talker = TttTalker.from_pretrained(source, device=device)
        self.service = TalkService(talker.model, talker.processor, Limits(per_user=64, recording_seconds=600.0))
        self.answer.set_max_batch_size(chosen.batch_size)  # type: ignore[attr-defined]  # `serve.batch` adds it

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Make the routes, once the model is loaded."""
        app = new_app()
        router = APIRouter(route_class=route_class(), responses=ERROR_RESPONSES)

        @router.post("/v1/talk")
        async def talk(question: Question) -> JSONResponse:
            """Answer a question as a whole."""
            reply = await self.answer(question.request())
            if isinstance(reply, RequestError):
                raise reply
            return JSONResponse({**_as_json(reply), "replica": serve.get_replica_context().replica_id.unique_id})

        add_api(app, self.service, more=router)
        return app

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def answer(self, requests: Sequence[TalkRequest]) -> list[TttReply | RequestError]:
        """Answer requests that arrived together."""
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
    return Talker.options(  # type: ignore[attr-defined]  # `serve.deployment` adds it
        ray_actor_options=replica, autoscaling_config=autoscaling
    ).bind(settings.model_dump())


class Answer(TypedDict):
    """
    The body of the answer of `/v1/talk`, besides the name of the replica.

    Args:
        text (`str`): The reply's text.
        audio (`str` or `None`): Its audio: a wav file in base64.
        finished (`bool`): Whether the model ended the reply (it was not cut off).
    """

    text: str
    audio: str | None
    finished: bool


def _as_json(reply: TttReply) -> Answer:
    wav = base64.b64encode(wav_file(reply.audio, reply.sampling_rate)).decode("ascii")
    return {"text": reply.text, "audio": wav if len(reply.audio) else None, "finished": reply.finished}

"""
Starts the demo: the page, its endpoints and OpenAI's routes, over one model or several.

    python -m spaces_demo --model checkpoints/ttt-nano

Here models are loaded and the server is started: on a laptop, a server, or a Space (`space.py`).
"""

import os
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from .service import Limits, TalkRequest, TalkService
from .zero_gpu import ZeroGpuModel


def load_service(
    model: str = "", device: str = "auto", adapters: dict[str, str] | None = None, gpu: Callable[..., Any] | None = None
) -> TalkService:
    """
    Load a checkpoint, and generate one reply, so that the first visitor does not wait for PyTorch's first-call costs.

    Args:
        model (`str`, *optional*): Folder or Hub id; by default the base model of the adapters, or the nano checkpoint
            in the box.
        device (`str`, defaults to `"auto"`): `auto` is the GPU if there is one.
        adapters (`dict[str, str]`, *optional*): PEFT adapters by name, each a folder or Hub id.
        gpu (`Callable`, *optional*): `spaces.GPU`, where a GPU is borrowed for each reply; `device` is then ignored.

    Returns:
        [`TalkService`].

    Raises:
        OSError: If there is no such checkpoint, or its weights are damaged.
        ValueError: If the checkpoint is of another kind of model, or the device is unknown.
    """
    from modeling_ttt import nano_checkpoint
    from processing_ttt import TttTalker
    from processing_ttt.device_ttt import choose_device

    if adapters and not model:
        from finetune.adapters.loading import base_of

        model = base_of(adapters.values()) or ""
    chosen_device = "cuda" if gpu else choose_device(device)  # an unknown one is refused before the weights are read
    talker = TttTalker.from_pretrained(model or nano_checkpoint(), device=chosen_device)
    borrowing = ZeroGpuModel(talker.model, gpu) if gpu else talker.model
    service = TalkService(borrowing, talker.processor, Limits(recording_seconds=600.0), adapters)
    if gpu is None:  # a borrowed GPU is for visitors only
        service.reply(TalkRequest(text="Hello."))
    return service


def serve(
    services: Sequence[TalkService], host: str = "127.0.0.1", port: int = 7860, share: bool = False, mcp: bool = False
) -> None:
    """
    Serve until interrupted; requests that were taken are answered first.

    Args:
        services (`Sequence[TalkService]`): Services of the models that can be chosen; programs talk to the first.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): Address to listen on.
        port (`int`, *optional*, defaults to 7860): Port to listen on.
        share (`bool`, *optional*, defaults to `False`): Whether to open a public address through Gradio's tunnel.
        mcp (`bool`, *optional*, defaults to `False`): Whether the endpoints are MCP tools, too.
    """
    import uvicorn

    from .http.server import build_app
    from .page.page import LOOKS, build_demo

    app = build_app(services[0], build_demo(*services), mcp_server=mcp, **LOOKS)
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning"))
    if share:
        _share(port)
    print(f"Text-to-Talk is at http://{host}:{port}", flush=True)  # noqa: T201 - for the person who waits
    server.run()
    for service in services:
        service.close(timeout=10)


class Address(TypedDict):
    """Where to listen."""

    host: str
    port: int


def _share(port: int) -> None:
    from gradio.networking import setup_tunnel

    address = setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    print(f"... and for everybody who knows it at {address}", flush=True)  # noqa: T201


def address_of_this_machine() -> Address:
    """Read where to listen from the environment variables that Spaces and Gradio's users set."""
    return {
        "host": os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        "port": int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
    }

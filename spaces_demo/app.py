"""
Starts the demo: the page, its endpoints and OpenAI's routes, over one model or several.

    python -m spaces_demo --model checkpoints/ttt-nano

Knows where models come from and which machine this is: a laptop, a server, or a Space (`space.py`). What the page is,
is `page.py`'s.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from .service import Limits, TalkRequest, TalkService
from .zero_gpu import ZeroGpuModel


def load_service(
    model: str = "", device: str = "auto", adapters: dict[str, str] | None = None, gpu: Callable[..., Any] | None = None
) -> TalkService:
    """
    Load a checkpoint, and let it say one word, so that the first visitor does not wait for what PyTorch does once.

    Args:
        model (`str`, *optional*): Folder or Hub id; by default what the adapters were trained from, or the nano
            checkpoint in the box.
        device (`str`, defaults to `"auto"`): `auto` is the GPU if there is one.
        adapters (`dict[str, str]`, *optional*): PEFT adapters by name, each a folder or Hub id.
        gpu (`Callable`, *optional*): `spaces.GPU`, where a GPU is borrowed for each reply; `device` does not matter
            then.

    Returns:
        [`TalkService`].
    """
    from transformers import AutoModel, AutoProcessor

    import processing_ttt  # noqa: F401 - registers the processor with AutoProcessor
    from modeling_ttt import nano_checkpoint
    from processing_ttt.device_ttt import choose_device

    if adapters and not model:
        from finetune.adapters.loading import base_of

        model = base_of(adapters.values()) or ""
    source = model or str(nano_checkpoint())
    device = "cuda" if gpu is not None else choose_device(device)
    loaded = AutoModel.from_pretrained(source).to(device).eval()
    processor = AutoProcessor.from_pretrained(source)
    service = TalkService(ZeroGpuModel(loaded, gpu) if gpu else loaded, processor, Limits(), adapters)
    if gpu is None:  # a borrowed one is not borrowed for nothing
        service.reply(TalkRequest(text="Hello."))
    return service


def serve(
    services: Sequence[TalkService], host: str = "127.0.0.1", port: int = 7860, share: bool = False, mcp: bool = False
) -> None:
    """
    Serve until interrupted; requests that were taken are answered first.

    Args:
        services (`Sequence[TalkService]`): Of the models that can be chosen. The first is the one that programs talk
            to.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): Which address listens.
        port (`int`, *optional*, defaults to 7860): Which port.
        share (`bool`, *optional*, defaults to `False`): Whether Gradio's public link leads here, too.
        mcp (`bool`, *optional*, defaults to `False`): Whether the endpoints are MCP tools, too.
    """
    import uvicorn

    from .http.server import build_app
    from .page.page import LOOKS, build_demo

    app = build_app(services[0], build_demo(*services), mcp_server=mcp, **LOOKS)
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning"))
    if share:
        _share(port)
    print(f"Text-to-Talk is at http://{host}:{port}", flush=True)  # noqa: T201 - what a person waits for
    server.run()
    for service in services:
        service.close(timeout=10)


def _share(port: int) -> None:
    from gradio.networking import setup_tunnel

    address = setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    print(f"... and for everybody who knows it at {address}", flush=True)  # noqa: T201


def address_of_this_machine() -> dict[str, Any]:
    """Read where to listen from the variables that Spaces and Gradio's users set."""
    return {
        "host": os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        "port": int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
    }

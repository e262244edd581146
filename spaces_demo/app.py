"""
Starts the demo: the page, its endpoints and OpenAI's routes, over one model or several.

    python -m spaces_demo --model checkpoints/ttt-nano

Here models are loaded and the server is started: on a laptop, a server, or a Space (`space.py`).
"""

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .service import Limits, TalkRequest, TalkService
from .zero_gpu import ZeroGpuModel


def load_service(
    model: str = "",
    device: str = "auto",
    adapters: dict[str, str] | None = None,
    gpu: Callable[..., Any] | None = None,
    engine: str = "torch",
) -> TalkService:
    """
    Load a checkpoint, and generate one reply, so that the first visitor does not wait for PyTorch's first-call costs.

    Args:
        model (`str`, *optional*): Folder or Hub id; by default the base model of the adapters, or the nano checkpoint
            in the box.
        device (`str`, defaults to `"auto"`): `auto` is the GPU if there is one.
        adapters (`dict[str, str]`, *optional*): PEFT adapters by name, each a folder or Hub id.
        gpu (`Callable`, *optional*): `spaces.GPU`, where a GPU is borrowed for each reply; `device` is then ignored.
        engine (`str`, *optional*, defaults to `"torch"`): `"onnx"` runs a folder that `ttt export` wrote, on the CPU.

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
    device = "cpu" if engine == "onnx" and device == "auto" else device
    chosen_device = "cuda" if gpu else choose_device(device)  # an unknown one is refused before the weights are read
    talker = TttTalker.from_pretrained(model or nano_checkpoint(), device=chosen_device, engine=engine)
    borrowing = ZeroGpuModel(talker.model, gpu) if gpu else talker.model
    service = TalkService(borrowing, talker.processor, Limits(recording_seconds=600.0), adapters)
    if gpu is None:  # a borrowed GPU is for visitors only
        service.reply(TalkRequest(text="Hello."))
    return service


def serve(
    services: Sequence[TalkService],
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    mcp: bool = False,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """
    Serve until SIGINT or SIGTERM, and end within a few seconds then: requests that end in time are answered, the others
    are stopped, and what visitors have uploaded or recorded is deleted.

    Args:
        services (`Sequence[TalkService]`): Services of the models that can be chosen; programs talk to the first.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): Address to listen on.
        port (`int`, *optional*, defaults to 7860): Port to listen on.
        share (`bool`, *optional*, defaults to `False`): Whether to open a public address through Gradio's tunnel.
        mcp (`bool`, *optional*, defaults to `False`): Whether the endpoints are MCP tools, too.
        allowed_hosts (`Sequence[str]`, *optional*): Names that browsers may reach the server by, besides this machine's
            name and its addresses; `"*"` for any. Pages of these hosts may use the server, too.

    Raises:
        OSError: If the address cannot be listened on.
    """
    from .http.folder import kept_small
    from .http.listener import Listener, listening_socket

    # The tunnel's end on this machine names the visitor.
    trusted_proxies = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1" if share else "")
    with listening_socket(host, port) as listening, _private_folder() as folder:
        from .http.guards import AllowedHosts
        from .http.server import build_app, end_page_streams
        from .page.page import LOOKS, build_demo

        hosts = AllowedHosts(["*"] if share else allowed_hosts)  # what is public needs no protection from foreign pages
        app = build_app(services[0], build_demo(*services), hosts=hosts, mcp_server=mcp, **LOOKS)

        def begin_to_stop() -> None:
            end_page_streams(app)
            for service in services:
                service.admission.close()

        if share:
            public = _share(listening.getsockname()[1])
            print(f"It is public at {public}", flush=True)  # noqa: T201 - for the person who waits
        print(f"Text-to-Talk is at {_address(listening)}. Press Ctrl-C to stop.", flush=True)  # noqa: T201
        with kept_small(folder, services[0].limits.folder_bytes):
            Listener(app, begin_to_stop, trusted_proxies).run_until_signal(listening)
        for service in services:
            service.stop()


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """
    Keep all temporary files where only this user can read them, until the block ends. Gradio, which reads the variable
    when it is imported, is imported inside; yields the folder of its files.
    """
    chosen = os.environ.get("GRADIO_TEMP_DIR")
    if chosen is not None:
        os.makedirs(chosen, exist_ok=True)
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="ttt-demo-", dir=chosen, ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder, "gradio")
        try:
            yield Path(folder, "gradio")
        finally:
            tempfile.tempdir = before
            if chosen is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = chosen


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _share(port: int) -> str:
    from gradio.networking import setup_tunnel

    return setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)

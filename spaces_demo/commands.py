"""
The command `ttt demo`: its options. Gradio and PyTorch are imported when it runs.
"""

import gc
import importlib.util
from pathlib import Path
from typing import Annotated

import typer


def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder or Hub id of a checkpoint; repeat it to choose between several. Nano, in the box, by default.",
            show_default=False,
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="A PEFT adapter of the first model as NAME=FOLDER or NAME=HUB/ID.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: the GPU if there is one.")] = "auto",
    engine: Annotated[
        str, typer.Option(help="torch, or onnx: folders that `ttt export` wrote, on ONNX Runtime.")
    ] = "torch",
    host: Annotated[str | None, typer.Option(help="Address that listens; this machine only by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; 7860 by default.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Also open a public address, through Gradio's tunnel.")
    ] = False,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer the endpoints to MCP clients, too.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name that browsers may reach it by, besides this machine's name and addresses; '*' for any.",
            show_default=False,
        ),
    ] = None,
    web: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Serve nothing: write a static page that runs the model in the browser to a new folder."
        ),
    ] = None,
) -> None:
    """Talk in the browser: microphone, streamed speech, and a look inside the model."""
    if web is not None:
        if adapter or len(model or []) > 1:
            raise ValueError("--web takes one --model and no --adapter: merge it first (`ttt merge`).")
        write_page(web, model[0] if model else None)
        return
    adapters = {}
    for one in adapter or []:
        name, separator, source = one.partition("=")
        if not separator or not name or not source:
            raise ValueError(f"--adapter takes NAME=FOLDER or NAME=HUB/ID, not {one!r}.")
        adapters[name] = source
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("The demo needs Gradio: pip install 'text-to-talk[demo]'.")
    if mcp and importlib.util.find_spec("mcp") is None:
        raise ImportError("--mcp needs the package mcp: pip install 'text-to-talk[demo]'.")
    from .http.listener import address_of_this_machine, listening_socket

    address = address_of_this_machine()
    host, port = host or address["host"], port or address["port"]
    listening_socket(host, port).close()  # a port that is in use is an error before models are loaded
    typer.echo(f"Loading {', '.join(model or ['nano'])} ...")
    from .app import load_service, serve

    first, *more = model or [""]
    services = [load_service(first, device, adapters, engine=engine)]
    services += [load_service(one, device, engine=engine) for one in more]
    serve(services, host, port, share, mcp, allow_host or [])
    gc.freeze()  # Python would search all objects of the libraries for circles before it ends, for seconds


def write_page(output: Path, model: str | None) -> None:
    """Write the page that talks without a server, and print its size and how to serve it."""
    from modeling_ttt import nano_checkpoint

    from .web.site import write_site

    typer.echo("Exporting and packing, which takes about two minutes ...")
    size = write_site(output, model or nano_checkpoint())
    typer.echo(
        f"Written to {output}: a download of {size / 1e6:.1f} MB.\n"
        f"python -m http.server --bind 127.0.0.1 --directory {output} 8000"
    )

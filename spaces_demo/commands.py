"""
The command `ttt demo`: its options. Gradio and PyTorch are imported when it runs.
"""

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
    host: Annotated[str | None, typer.Option(help="Address that listens; this machine only by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; 7860 by default.")] = None,
    share: Annotated[bool, typer.Option("--share", help="Give it a public address, through Gradio's tunnel.")] = False,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer the endpoints to MCP clients, too.")] = False,
) -> None:
    """Talk in the browser: microphone, streamed speech, and a look inside the model."""
    adapters = {}
    for one in adapter or []:
        name, separator, source = one.partition("=")
        if not separator or not name or not source:
            raise ValueError(f"--adapter takes NAME=FOLDER or NAME=HUB/ID, not {one!r}.")
        adapters[name] = source
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise ImportError("The demo needs Gradio: pip install 'text-to-talk[demo]'.") from None
    from .app import address_of_this_machine, load_service, serve

    address = address_of_this_machine()
    first, *more = model or [""]
    services = [load_service(first, device, adapters), *(load_service(one, device) for one in more)]
    serve(services, host or address["host"], port or address["port"], share, mcp)

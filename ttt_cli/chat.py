"""
The command `ttt chat`: where questions come from, and which session answers them.

    arguments, lines of stdin, a microphone ──► spoken_chat.py ──► a server (--url), or a model in this process

Depends on options and devices. What happens in a conversation is decided by the session, and shown by `SpokenChat`.
"""

import asyncio
import io
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .checks import as_question, check_device, check_hub, check_model, check_new_folder
from .extras import way_out
from .options import Device, Engine, EngineOption, Json, Model, Play, interruptible, status, without_collections
from .playback import check_microphone, check_player, microphone, player
from .realtime import Connection, connected, local, realtime_url
from .talker import named_adapters

if TYPE_CHECKING:
    from .spoken_chat import SpokenChat

Question = Path | str
HINT = "Speak, or write a line. Ctrl-C ends the conversation."
WRITTEN_HINT = "Write a line: a question, or the name of an audio file. Ctrl-D ends the conversation."


@interruptible("The conversation is over.")
def chat(
    questions: Annotated[
        list[str] | None,
        typer.Argument(
            help="Spoken questions (files) or written ones, in turn. Without any: the microphone, or lines of stdin.",
            show_default=False,
        ),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(help="A new folder for the spoken answers: 1.wav, 2.wav, ...", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Talk to a server of `ttt demo`, such as http://127.0.0.1:7860; --model is then one of its models.",
            show_default=False,
        ),
    ] = None,
    no_interrupt: Annotated[
        bool,
        typer.Option("--no-interrupt", help="Do not listen while an answer is played: without headphones."),
    ] = False,
    play: Play = False,
    as_json: Json = False,
    model: Model = "",
    device: Device = "auto",
    engine: EngineOption = Engine.torch,
    adapter: Annotated[str | None, typer.Option(help="An adapter: a folder or a Hub id.", show_default=False)] = None,
) -> None:
    """Have a conversation, spoken or written, in which answers can be interrupted."""
    asked = [as_question(question) for question in questions or []]
    if out_dir is not None:
        check_new_folder(out_dir)
    is_live = not asked and sys.stdin.isatty()
    listens = is_live and _works(check_microphone)
    if play:
        check_player()
    plays = play or (is_live and _works(check_player))
    session = _remote(url, model, device, engine, adapter) if url else _local(model, device, engine, adapter)

    async def converse() -> bool:
        from .spoken_chat import RATE, SpokenChat

        with player(RATE) if plays else nullcontext() as loudspeaker:
            async with session as connection:
                talking = SpokenChat(connection, loudspeaker, out_dir, as_json)
                if is_live:
                    await talking.run(_live(talking, listens, not no_interrupt))
                else:
                    await talking.run(_in_turn(talking, asked))
        return talking.has_failed and not is_live

    if asyncio.run(converse()):
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------------------- sessions


def _remote(
    url: str, model: str, device: str, engine: Engine, adapter: str | None
) -> AbstractAsyncContextManager[Connection]:
    address = realtime_url(url, model)
    if device != "auto" or engine is not Engine.torch or adapter is not None:
        raise ValueError("--url: the server has loaded its model; leave out --device, --engine and --adapter.")
    return connected(address)


def _local(model: str, device: str, engine: Engine, adapter: str | None) -> AbstractAsyncContextManager[Connection]:
    adapters = {} if adapter is None else named_adapters([adapter])
    check_device(device)
    for name in (model, *adapters.values()):
        check_model(name)
    if find_spec("pydantic") is None or find_spec("silero_vad") is None:
        raise ImportError('`ttt chat` needs what the demo needs: pip install "text-to-talk[demo]", or give --url.')
    check_hub((*model.split("+"), *adapters.values()))
    status(f"Loading {model or 'the model'} ...")
    with without_collections():
        from spaces_demo.app import load_service

        service = load_service(model, device, adapters, engine=engine.value)
    return local(service, next(iter(adapters), None))


# ------------------------------------------------------------------------------------------------------------ questions


async def _in_turn(talking: "SpokenChat", questions: Sequence[Question]) -> None:
    """Ask one question after the other; those of stdin, if none was given."""
    for question in questions:
        await talking.ask(question)
    if not questions:
        async for line in _lines():
            await talking.ask(as_question(line))


async def _live(talking: "SpokenChat", listens: bool, interrupts: bool) -> None:
    """Take spoken and written questions; either interrupts a reply."""
    from .spoken_chat import RATE

    blocks: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def take(block: bytes) -> None:
        loop.call_soon_threadsafe(blocks.put_nowait, block)

    with microphone(RATE, take) if listens else nullcontext():
        status(HINT if listens else WRITTEN_HINT)
        listening = asyncio.create_task(talking.listen(blocks, interrupts))
        writing = asyncio.create_task(_written(talking))
        try:
            await asyncio.wait({listening, writing}, return_when=asyncio.FIRST_COMPLETED)
            await (writing if writing.done() else listening)
        finally:
            listening.cancel()
            writing.cancel()


async def _written(talking: "SpokenChat") -> None:
    """Ask what is written; a line interrupts the reply in progress."""
    asking: asyncio.Task[object] | None = None
    async for line in _lines():
        try:
            question = as_question(line)
        except OSError as error:
            typer.echo(f"Error: {error}", err=True)
            continue
        if asking is not None:
            await talking.interrupt()
            await asking
        asking = asyncio.create_task(talking.ask(question))
    if asking is not None:
        await asking


async def _lines() -> AsyncIterator[str]:
    """Iterate over the lines of stdin, without those that are empty."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        # Not `sys.stdin`: Python cannot end while a thread holds the lock of its buffer.
        with io.FileIO(sys.stdin.fileno(), closefd=False) as stdin:
            for line in stdin:
                _send(loop, lines, line.decode(errors="replace").strip())
        _send(loop, lines, None)

    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        if line:
            yield line


def _send(loop: asyncio.AbstractEventLoop, queue: "asyncio.Queue[str | None]", line: str | None) -> None:
    with suppress(RuntimeError):  # the loop is closed: the conversation is over
        loop.call_soon_threadsafe(queue.put_nowait, line)


def _works(check: Callable[[], None]) -> bool:
    """Whether there is a device; shows what is missing if there is none."""
    try:
        check()
    except (RuntimeError, ImportError) as error:
        typer.echo(f"Warning: {way_out(error) if isinstance(error, ImportError) else error}", err=True)
        return False
    return True

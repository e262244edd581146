"""
Many conversations at once, over HTTP on this machine: is every answer the one that its question gets alone, and how
long does one wait?

    python benchmarks/load.py --conversations 32 --seconds 180

Starts a server in a process of its own, with nano. Each simulated person holds conversations of three turns over a kept
cache, then has the last answer read aloud by `/v1/audio/speech`; every fourth person closes the connection in the
middle of every second reply, and begins anew. Who is refused asks again after the time that the server states.
Afterwards every whole answer, its text and its audio, is compared with the same turns run alone.
"""

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

QUESTIONS = [
    "What is two plus three?",
    "What comes after seven?",
    "What is nine minus four?",
    "What is the opposite of big?",
    "What day comes after Monday?",
    "Hello.",
    "What is eight plus six?",
    "What month comes before May?",
]
TURNS = 3
RATE = 16_000


@dataclass
class Figures:
    """What the simulated persons saw."""

    # turns -> (text, hash of the audio)
    answers: dict[tuple[str, ...], set[tuple[str, str]]] = field(default_factory=dict)
    num_answers: int = 0
    num_left: int = 0
    waits: list[float] = field(default_factory=list)  # until the first piece
    refusals: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


# ----------------------------------------------------------------------------------------------------------- the server


def serve(served_at_once: int, waiting: int) -> None:
    """Serve nano: OpenAI's routes, and one for turns of a conversation."""
    import torch
    import uvicorn
    from fastapi import Body, FastAPI
    from fastapi.responses import Response, StreamingResponse
    from transformers import AutoModel, AutoProcessor

    import processing_ttt
    from modeling_ttt import nano_checkpoint
    from spaces_demo.http.openai_errors import error_response
    from spaces_demo.http.openai_routes import openai_router
    from spaces_demo.service import Limits, RequestError, TalkRequest, TalkService
    from spaces_demo.service.audio_formats import pcm16

    torch.set_num_threads(1)
    folder = nano_checkpoint()
    limits = Limits(served_at_once=served_at_once, waiting=waiting, per_user=10_000, seconds_per_request=600)
    service = TalkService(AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder), limits)
    service.reply(TalkRequest(text=QUESTIONS[0]))
    conversations: dict[str, Any] = {}
    most: Counter[str] = Counter()
    app = FastAPI()
    app.include_router(openai_router(service, "nano"))

    @app.post("/turn")
    async def turn(name: str = Body(), text: str = Body(), is_first: bool = Body()) -> Response:
        if is_first:
            conversations[name] = service.conversation()
        try:
            stream = service.stream_async(TalkRequest(text=text, conversation=conversations[name]))
        except RequestError as error:
            return error_response(error)

        async def pieces() -> AsyncIterator[bytes]:
            async with stream:
                async for event in stream:
                    most["running"] = max(most["running"], service.admission.num_running)
                    most["waiting"] = max(most["waiting"], service.admission.num_waiting)
                    if isinstance(event, processing_ttt.TttTextDelta):
                        yield json.dumps({"text": event.text}).encode() + b"\n"
                    elif isinstance(event, processing_ttt.TttAudioChunk):
                        yield json.dumps({"audio": pcm16(event.audio).hex()}).encode() + b"\n"
                yield b'{"end": true}\n'

        return StreamingResponse(pieces())

    @app.get("/state")
    async def state() -> dict[str, int]:
        return {"running": service.admission.num_running, "waiting": service.admission.num_waiting} | {
            f"most_{name}": number for name, number in most.items()
        }

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.05)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving

    asyncio.run(run())


@contextmanager
def server_process(served_at_once: int, waiting: int) -> Iterator[tuple[int, str]]:
    """Start the server; give its process id and address."""
    command = [sys.executable, __file__, "--serve", "--served-at-once", str(served_at_once), "--waiting", str(waiting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603 - this file
        assert process.stdout is not None
        try:
            yield process.pid, f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def resident_mib(process_id: int) -> float:
    """Read how much memory a process holds, in MiB."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


# ---------------------------------------------------------------------------------------------------------- the persons


async def converse(client: httpx.AsyncClient, index: int, end: float, figures: Figures) -> None:
    """Hold conversations until the time is up."""
    leaves = index % 4 == 3
    round_number = 0
    while time.monotonic() < end:
        asked: tuple[str, ...] = ()
        for turn in range(TURNS):
            if time.monotonic() > end:
                return
            question = QUESTIONS[(index + round_number + turn) % len(QUESTIONS)]
            body = {"name": str(index), "text": question, "is_first": not asked}
            asked += (question,)
            answer = await ask(client, "/turn", body, end, figures, stop_early=leaves and turn % 2 == 1)
            if answer is None:
                break  # left, or the next place comes too late
            note(figures, asked, *answer)
        else:
            if answer is not None:
                await read_aloud(client, answer[0], end, figures)
        round_number += 1


async def ask(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], end: float, figures: Figures, stop_early: bool
) -> tuple[str, bytes] | None:
    """Ask until there is a place; give text and audio, or nothing if the person left."""
    while True:
        begun = time.monotonic()
        async with client.stream("POST", path, json=body) as response:
            if response.status_code == 429:
                message = json.loads(await response.aread())["error"]["message"]
                figures.refusals["".join("N" if character.isdigit() else character for character in message)] += 1
                wait = float(response.headers["retry-after"])
            elif response.status_code != 200:
                figures.failures[f"status {response.status_code}"] += 1
                return None
            else:
                return await read(response, begun, figures, stop_early)
        await asyncio.sleep(min(wait, max(0.0, end - time.monotonic())))
        if time.monotonic() >= end:
            return None


async def read(response: httpx.Response, begun: float, figures: Figures, stop_early: bool) -> tuple[str, bytes] | None:
    """Read a reply of `/turn`; a whole one is marked so."""
    text, audio, is_whole = "", b"", False
    async for line in response.aiter_lines():
        if not text and not audio:
            figures.waits.append(time.monotonic() - begun)
        piece = json.loads(line)
        text, audio = text + piece.get("text", ""), audio + bytes.fromhex(piece.get("audio", ""))
        is_whole = is_whole or "end" in piece
        if stop_early and audio:
            figures.num_left += 1
            return None
    if not is_whole:
        figures.failures["a reply broke off"] += 1
        return None
    return text, audio


async def read_aloud(client: httpx.AsyncClient, text: str, end: float, figures: Figures) -> None:
    """Have an answer read aloud, if there is a place."""
    body = {"model": "nano", "input": text, "voice": "any", "response_format": "pcm"}
    response = await client.post("/v1/audio/speech", json=body)
    if response.status_code == 200:
        note(figures, ("read aloud", text), "", response.content)
    elif response.status_code != 429:
        figures.failures[f"speech: status {response.status_code}"] += 1


def note(figures: Figures, asked: tuple[str, ...], text: str, audio: bytes) -> None:
    """Count a whole answer, and remember it for the check."""
    figures.num_answers += 1
    figures.answers.setdefault(asked, set()).add((text, fingerprint(audio)))


def fingerprint(audio: bytes) -> str:
    """Hash audio."""
    return hashlib.sha256(audio).hexdigest()


async def run(
    url: str, process_id: int, num_conversations: int, seconds: float
) -> tuple[Figures, list[tuple[float, float]], dict[str, int]]:
    """Let all persons talk; measure the server's memory meanwhile."""
    figures, memory = Figures(), []
    begun = time.monotonic()
    end = begun + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=3600, limits=limits) as client:
        persons = [asyncio.create_task(converse(client, index, end, figures)) for index in range(num_conversations)]
        while not all(person.done() for person in persons):
            memory.append((time.monotonic() - begun, resident_mib(process_id)))
            await asyncio.wait(persons, timeout=5)
        await asyncio.gather(*persons)
        await asyncio.sleep(1)
        state = (await client.get("/state")).json()
    return figures, memory, state


# ------------------------------------------------------------------------------------------------------------ the check


def wrong_answers(figures: Figures) -> list[str]:
    """Run the same turns alone, and list the answers that differ."""
    from transformers import AutoModel, AutoProcessor

    from modeling_ttt import nano_checkpoint
    from spaces_demo.service import TalkRequest, TalkService
    from spaces_demo.service.audio_formats import pcm16

    folder = nano_checkpoint()
    service = TalkService(AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder))
    alone: dict[tuple[str, ...], tuple[str, str]] = {}
    wrong = []
    for asked in sorted(figures.answers, key=len):
        if asked[0] == "read aloud":
            right = ("", fingerprint(pcm16(service.reply(TalkRequest("tts", asked[1])).audio)))
        else:
            right = turns_alone(service, asked, alone)
        wrong += [
            f"{asked}: {text!r}, alone {right[0]!r}" for text, audio in figures.answers[asked] if (text, audio) != right
        ]
    return wrong


def turns_alone(service: Any, asked: tuple[str, ...], alone: dict[tuple[str, ...], tuple[str, str]]) -> tuple[str, str]:
    """Hold a conversation alone; what each turn gives is remembered."""
    from spaces_demo.service import TalkRequest
    from spaces_demo.service.audio_formats import pcm16

    if asked not in alone:
        conversation = service.conversation()
        for number in range(1, len(asked) + 1):
            reply = service.reply(TalkRequest(text=asked[number - 1], conversation=conversation))
            alone[asked[:number]] = (reply.text, fingerprint(pcm16(reply.audio)))
    return alone[asked]


def report(figures: Figures, memory: list[tuple[float, float]], state: dict[str, int], seconds: float) -> None:
    """Print what came of it."""
    waits = sorted(figures.waits)
    settled = [mib for at, mib in memory if at >= min(30.0, seconds / 3)]
    print(f"{figures.num_answers} whole answers, {figures.num_left} left by their persons, {len(figures.waits)} begun")
    print(f"failures: {dict(figures.failures) or 'none'}")
    print(f"served at once: at most {state.get('most_running', 0)}, waiting: at most {state.get('most_waiting', 0)}")
    print(f"slots in use a second after the last person left: {state['running']}, waiting: {state['waiting']}")
    if waits:
        print(f"wait for the first piece: median {statistics.median(waits):.1f} s, worst {waits[-1]:.1f} s")
    for message, count in figures.refusals.most_common():
        print(f"refused {count} times: {message}")
    if settled:
        print(
            f"memory of the server: {settled[0]:.0f} MiB once warm, {settled[-1]:.0f} at the end, {max(settled):.0f} "
            "at most"
        )


def main() -> None:
    """Run the load, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--served-at-once", type=int, default=2)
    parser.add_argument(
        "--waiting", type=int, default=24, help="fewer than the conversations, so that some are refused"
    )
    parser.add_argument("--serve", action="store_true", help="be the server")
    options = parser.parse_args()
    if options.serve:
        return serve(options.served_at_once, options.waiting)
    with server_process(options.served_at_once, options.waiting) as (process_id, url):
        figures, memory, state = asyncio.run(run(url, process_id, options.conversations, options.seconds))
    report(figures, memory, state, options.seconds)
    wrong = wrong_answers(figures)
    print(f"answers that differ from the same turns alone: {len(wrong)} of {len(figures.answers)} kinds")
    print("\n".join(wrong))
    sys.exit(bool(wrong or figures.failures))


if __name__ == "__main__":
    main()

"""
The button to talk, which plays replies, too, and what it sends to the server.

Depends on Gradio; audio in the browser is in `static/*.js`. Independent of the model.
"""

import base64
import binascii
import math
import re
import threading
from pathlib import Path

import gradio as gr

from ..http.endpoints import answer_microphone
from ..service import AudioFile
from ..service.turn_detection import load_detector

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("player.js", "microphone.js", "voice.js")


def voice(rate: int, max_seconds: float) -> gr.HTML:
    """
    Make the button to talk, and the player of replies.

    Args:
        rate (`int`): Sampling rate of a reply, in Hz.
        max_seconds (`float`): Longest question.

    Returns:
        `gr.HTML`: With the events `asked`, whose `audio` is a wav file in base64 and whose `name` becomes that of the
            turn; `withdrawn`, when its speaker goes on after all; `interrupted`, when a reply is to stop after
            `seconds` of its audio; and `played`, `seconds` after the question, when its first audio is.
    """
    threading.Thread(target=load_detector, daemon=True).start()
    return gr.HTML(
        value=None,
        html_template=(STATIC / "voice.html").read_text(encoding="utf-8"),
        js_on_load=voice_script(),
        server_functions=[answer_microphone],
        apply_default_css=False,
        elem_id="voice",
        rate=rate,
        max_seconds=max_seconds,
    )


def voice_script() -> str:
    """Read the script of the button to talk, which is in several files."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)


def recording_in(event: gr.EventData) -> AudioFile | None:
    """Return the question that the browser recorded, if that is what the event has."""
    try:
        return AudioFile(base64.b64decode(event._data["audio"], validate=True), "question.wav")
    except (TypeError, KeyError, ValueError, binascii.Error):
        return None


def name_in(event: gr.EventData) -> str | None:
    """Return the name that the browser gave to a turn; it becomes part of file names."""
    name = event._data.get("name") if isinstance(event._data, dict) else None
    return name if isinstance(name, str) and re.fullmatch("[0-9a-f]{32}", name) else None


def seconds_in(event: gr.EventData) -> float:
    """Return the seconds that the browser measured; 0 where it sent none."""
    seconds = event._data.get("seconds") if isinstance(event._data, dict) else None
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return 0.0
    return max(0.0, float(seconds))

"""Typed questions on the page without a server: read as Python reads them, or left as they are."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from processing_ttt.spoken_text_ttt import spoken_question

NODE = shutil.which("node")
SPEAK = Path(__file__).with_name("speak.mjs")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed (https://nodejs.org)")
TYPED = [
    "what is 2+3?", "12-5=?", "10 / 2 = ?", "7 x 8", "7*8", "7×8 = ?", "8÷2", "2+3+4", "4 + 4 = 8", "WHAT IS 2 PLUS 2",
    "WHAT IS THE CAPITAL OF ITALY", "OK", "hi", "  Hello. ", "", "I am 5.", "Is it 3, 4 or 5?", "(2+3)",
    "What is 100 - 1?", "3 − 2", "room 101", "漢字", "Straße", "don't  you"
]  # fmt: skip
LEFT = ["in 1984", "A4", "$5", "3.5", "1,234", "at 5:30", "15%", "2nd", "2026-11-29", "007", "6€", "20°C", "1/2/2020"]


def in_javascript(texts):
    done = subprocess.run([NODE, SPEAK], input=json.dumps(texts), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_questions_are_read_as_in_python():
    pytest.importorskip("wetext")
    texts = TYPED + [f"What is {number}?" for number in range(1000)]
    read = dict(zip(texts, in_javascript(texts), strict=True))
    assert {text: spoken for text, spoken in read.items() if spoken != spoken_question(text)} == {}


def test_what_it_cannot_read_stays_as_it_is():
    assert in_javascript(LEFT) == [text[:1].upper() + text[1:] for text in LEFT]

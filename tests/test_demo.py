"""The demo answers over its API as it does in the browser, and bad input is a message."""

import pytest
from transformers import AutoModel, AutoProcessor

import processing_ttt  # noqa: F401 - registers the processor
from modeling_ttt import nano_checkpoint

gr = pytest.importorskip("gradio", reason="the demo extra is not installed")
gradio_client = pytest.importorskip("gradio_client", reason="the demo extra is not installed")

QUESTION = nano_checkpoint() / "questions" / "1.wav"


@pytest.fixture(scope="module")
def client():
    from spaces_demo.app import build_demo

    folder = nano_checkpoint()
    demo = build_demo(AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield gradio_client.Client(url, verbose=False)
    demo.close()


def test_a_spoken_question_is_answered_in_text_and_sound(client):
    text, sound = client.predict(gradio_client.handle_file(QUESTION), "", api_name="/talk")
    assert len(text.split()) >= 2
    assert sound.endswith(".wav")


def test_a_written_question_is_answered(client):
    text, _ = client.predict(None, "What is two plus three?", api_name="/talk")
    assert len(text.split()) >= 2


def test_no_question_is_a_friendly_error(client):
    with pytest.raises(Exception, match="Record a question"):
        client.predict(None, "  ", api_name="/talk")

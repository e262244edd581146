"""What the page says of itself, and what a link to it shows."""

import pytest

from modeling_ttt import nano_checkpoint

pytest.importorskip("gradio", reason="the demo extra is not installed")

import gradio as gr
from fastapi.testclient import TestClient
from service_fixtures import tiny_service

from spaces_demo.http.server import build_app
from spaces_demo.page.about import about
from spaces_demo.page.messages import timed_words
from spaces_demo.page.session import Session
from spaces_demo.service import TalkRequest


def test_a_link_to_the_page_shows_its_own_picture():
    with gr.Blocks(title="Text-to-Talk", analytics_enabled=False) as demo:
        gr.HTML("a page")
    client = TestClient(build_app(tiny_service(), demo), base_url="http://localhost:7860")
    page = client.get("/").text
    assert page.count("og:image") == page.count("twitter:image") == page.count("og:title") == 1
    assert 'property="og:image" content="http://localhost:7860/preview.png"' in page
    assert "raw.githubusercontent.com/gradio-app" not in page and "</html>" in page
    picture = client.get("/preview.png")
    assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    assert client.get("/nothing").status_code == 404 or "og:image" not in client.get("/nothing").text


def test_the_page_says_where_its_code_and_card_are():
    here = about(str(nano_checkpoint()))
    assert "arxiv.org/abs/2509.20072" in here and "apache.org/licenses" in here and "It knows nothing else" in here
    assert "\n## ttt-nano" in here and "model-index" not in here and "\nimport modeling_ttt" in here
    assert "huggingface.co/you/model)" in about("you/model")
    assert "huggingface.co/spaces/you/demo/tree/main" in about("", "you/demo")


def test_words_carry_the_times_of_their_audio_and_no_markup():
    session = Session(tiny_service())
    *_, turn = session.ask(TalkRequest(text="Hello."))
    turn.trace.spans[0].words = "<b>"
    html = timed_words(turn.trace)
    assert html.startswith('<span class="word at-0-') and "&lt;b&gt;" in html and "<b>" not in html
    assert html.count(" at-") == sum(bool(span.num_codes) for span in turn.trace.spans)
    session.close()

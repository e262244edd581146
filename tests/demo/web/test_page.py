"""The page without a server, in Chromium: once it is loaded nano hears, answers and plays there what Python does."""

import functools
import gzip
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile
import torch
from browser import SPEAKER, chromium, faint_texts, need_chromium, open_page, pauses_between, recording, say
from checkout import own_packages
from transformers import GenerationConfig

from modeling_ttt import TttConfig, nano_checkpoint
from modeling_ttt.onnx_ttt import TttOnnxForConditionalGeneration
from processing_ttt.export_codec_onnx_ttt import run
from text_to_talk import TttProcessor

pytestmark = pytest.mark.slow
NANO = nano_checkpoint()
COLLECT = """
window.replies = [];
document.addEventListener("reply", ({ detail }) => window.replies.push({
  promptIds: detail.promptIds, ids: detail.ids, text: detail.message.text.textContent, seconds: detail.seconds,
  firstAudio: detail.firstAudio, samples: detail.samples.flatMap((chunk) => [...chunk]),
}));
"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder as a static Space does, and is silent."""

    def end_headers(self):
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def folder(packages, tmp_path_factory):
    """What `ttt demo --web` writes."""
    pytest.importorskip("onnxscript", reason="the extra `edge` is not installed")
    folder = tmp_path_factory.mktemp("page") / "page"
    command = [sys.executable, "-m", "ttt_cli", "demo", "--web", folder]
    done = subprocess.run(command, env=own_packages(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return folder


@pytest.fixture
def served(folder):
    """Serve the page; gives its address, and a function that ends the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop():
        server.shutdown()
        server.server_close()
        thread.join()

    yield f"http://127.0.0.1:{server.server_port}/", stop
    stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    need_chromium()
    silence = tmp_path_factory.mktemp("microphone") / "silence.wav"
    soundfile.write(silence, np.zeros(48000, np.int16), 48000)
    with chromium(silence) as opened:
        yield opened


@pytest.fixture(scope="module")
def graphs(folder, tmp_path_factory):
    """The graphs of the page, for ONNX Runtime in Python."""
    graphs = tmp_path_factory.mktemp("graphs")
    for file in (folder / "model" / "onnx").iterdir():
        (graphs / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return graphs


def test_the_download_is_small_and_is_a_static_space(folder):
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size <= 40e6
    front_matter = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: static" in front_matter and "cross-origin-embedder-policy: require-corp" in front_matter


def test_it_encodes_and_answers_without_a_network_as_python_does(browser, served, graphs):
    url, stop = served
    page = open_page(browser, url, SPEAKER + COLLECT)
    assert page.evaluate("crossOriginIsolated")
    stop()  # from here on there is nothing that could answer
    model = TttOnnxForConditionalGeneration(TttConfig.from_pretrained(NANO), graphs / "model.onnx").eval()
    model.generation_config = GenerationConfig.from_pretrained(NANO)
    processor = TttProcessor.from_pretrained(NANO)
    samples, rate = soundfile.read(NANO / "questions" / "1.wav", dtype="float32")
    for number in range(3):
        if number == 2:
            page.click("#talk")
            page.wait_for_selector("#voice [data-state=listening]")
            page.wait_for_function("!!window.say")
            say(page, samples, rate)
        else:  # the first time WebAssembly is still being compiled
            page.fill("#box", "What is seven plus three?")
            page.keyboard.press("Enter")
        page.wait_for_function(f"replies.length === {number + 1}")
        page.wait_for_selector("#voice [data-state=idle]")
        reply = page.evaluate("replies.at(-1)")
        audio = np.array(reply["samples"], dtype=np.float32)
        prompt = torch.tensor([reply["promptIds"]])
        expected = processor.decode_reply(model.generate(prompt)[0, prompt.shape[1] :])
        assert reply["text"] == processor.decode_reply(reply["ids"]).text == expected.text == "Seven plus three is ten."
        codes = processor.layout.parse_reply(reply["ids"]).codes
        np.testing.assert_allclose(audio, run(graphs / "codec_decoder.onnx", np.array([codes]))[0], atol=1e-3)
        pauses_between(recording(page), np.floor(audio.astype(np.float64) * 32767 + 0.5).astype(int))
        seconds = len(audio) / processor.codec_config.output_sampling_rate
        print(f"real-time factor {reply['seconds'] / seconds:.2f}, first audio after {reply['firstAudio']:.2f} s")
    assert page.locator(".span").count() == 3 * page.locator("#chat .reply").nth(0).inner_text().count(" ") + 3
    assert page.locator(".mask").count() == 0
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert faint_texts(page) == []
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.errors == []


def test_a_reply_can_be_stopped_and_the_next_question_is_answered(browser, served):
    page = open_page(browser, served[0], SPEAKER + COLLECT)
    page.fill("#box", "Do you know a joke about an egg?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#voice [data-state=speaking]")
    page.click("#talk")
    page.wait_for_selector("#voice [data-state=idle]")
    page.fill("#box", "What is seven plus three?")
    page.keyboard.press("Enter")
    page.wait_for_function("replies.length === 1")
    assert page.evaluate("replies[0].text") == "Seven plus three is ten."
    assert page.errors == []


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("WebAssembly.validate = () => false;", "no WebAssembly SIMD"),
        ("delete window.DecompressionStream;", "cannot decompress"),
    ],
)
def test_what_a_browser_lacks_is_said(browser, served, script, sentence):
    page = browser.new_context().new_page()
    page.add_init_script(script)
    page.goto(served[0])
    page.wait_for_function(f"document.getElementById('hint').textContent.includes({sentence!r})")
    assert page.is_disabled("#talk") and page.is_disabled("#send")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); };",
            "no mic",
        ),
        ("Object.defineProperty(window, 'isSecureContext', { value: false });", "https or localhost"),
    ],
)
def test_without_a_microphone_one_can_write(browser, served, script, sentence):
    page = open_page(browser, served[0], script)
    page.click("#talk")
    page.wait_for_function(f"document.getElementById('hint').textContent.includes({sentence!r})")
    assert page.get_attribute("#voice [data-state]", "data-state") == "idle" and page.is_enabled("#send")

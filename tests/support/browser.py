"""
A headless Chromium with a fake microphone, whose page records what it plays, sample for sample.

The recording sits where the loudspeaker would: a page's `AudioContext.destination` is a gain of 1 that leads to the
real one and to a worklet.
"""

import base64
import io
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

CONTRAST = Path(__file__).parent / "contrast.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ABORTED = "signal is aborted without reason"  # Gradio's player, removed with its message while it loads a file
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
RECORDER = """
window.recorded = [];
const TAP = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process([[channel]]) { if (channel) this.port.postMessage(channel.slice()); return true; }
});`;
const Context = window.AudioContext;
window.AudioContext = class extends Context {
  constructor(options) {
    super(options);
    const loudspeaker = super.destination;
    this.bus = this.createGain();
    this.bus.connect(loudspeaker);
    const isPlayer = options && options.sampleRate;
    this.audioWorklet.addModule(URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }))).then(() => {
      if (!isPlayer) return;
      const tap = new AudioWorkletNode(this, "tap", { channelCount: 1, channelCountMode: "explicit" });
      tap.port.onmessage = (message) => window.recorded.push(message.data);
      this.bus.connect(tap);
      tap.connect(loudspeaker); // it is silent; without a way out it would not be run
      window.isTapped = true;
    }).catch(() => {}); // closed before it began: a file was only measured
  }
  get destination() { return this.bus; }
};
window.takeRecording = () => {
  const blocks = window.recorded;
  window.recorded = [];
  const all = new Float32Array(blocks.length * 128);
  blocks.forEach((block, i) => all.set(block, i * 128));
  const bytes = new Uint8Array(all.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
};
window.filesLoading = 0; // Gradio's player reports an error where it is removed while it loads
const load = window.fetch;
window.fetch = async (...request) => {
  const isFile = String(request[0] && request[0].url || request[0]).includes("/file=");
  window.filesLoading += isFile;
  try {
    const response = await load(...request);
    if (isFile) await response.clone().arrayBuffer();
    return response;
  } finally {
    window.filesLoading -= isFile;
  }
};
"""


def need_chromium() -> None:
    """Skip what needs a browser, where there is none."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")


@contextmanager
def chromium(microphone: Path):
    """A browser whose microphone plays a wav file, from its beginning each time it is opened."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}%noloop"]
        )
        yield browser
        browser.close()


def _is_fault(text: str, url: str = "") -> bool:
    """
    Whether an error is the page's, and not of a Gradio player whose message, and so its file, was removed while the
    browser loaded it: `filesLoading` counts requests by `fetch` alone, so tests that wait for it still meet some, at
    random. That a reply's file is there is held by the tests that download it.
    """
    return text != ABORTED and "/file=" not in text + url


def open_page(browser, url: str, script: str = "", **context):
    """A fresh visitor's page, whose errors are kept in `page.errors`."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
    page.set_default_timeout(60_000)
    page.errors = []

    def note(text, url=""):
        if _is_fault(text, url):
            page.errors.append(text)

    page.on("pageerror", lambda error: note(str(error)))
    page.on("console", lambda line: note(line.text, line.location.get("url", "")) if line.type == "error" else None)
    page.add_init_script(script + RECORDER)
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_selector("#voice [data-state=idle]")
    page.keyboard.press("Shift")  # the first gesture makes the player's context
    page.wait_for_function("window.isTapped")
    return page


SPEAKER = """
navigator.mediaDevices.getUserMedia = async ({ audio }) => {
  window.asked = audio;
  const context = new AudioContext({ sampleRate: 48000 });
  const microphone = context.createMediaStreamDestination();
  window.say = async (file) => {
    const bytes = Uint8Array.from(atob(file), (character) => character.charCodeAt(0));
    const source = context.createBufferSource();
    source.buffer = await context.decodeAudioData(bytes.buffer);
    source.connect(microphone);
    source.start();
    return source.buffer.duration;
  };
  return microphone.stream;
};
"""


def say(page, samples: np.ndarray, rate: int) -> None:
    """Speak into the microphone of a page that was opened with `SPEAKER` as its `script`."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    page.evaluate("say", base64.b64encode(file.getvalue()).decode())


def faint_texts(page) -> list[str]:
    """The texts of a page whose contrast is too low to be read by everyone, each with its contrast."""
    return page.evaluate(CONTRAST.read_text(encoding="utf-8"))


def recording(page) -> np.ndarray:
    """
    Take what was played since the last time, as 16-bit samples; fails where these are not exactly what was played.
    """
    samples = np.frombuffer(base64.b64decode(page.evaluate("takeRecording()")), "<f4").astype(np.float64) * 32768
    assert np.array_equal(samples, np.rint(samples)), "something was resampled, faded or mixed on the way"
    return samples.astype(int)


def pauses_between(played: np.ndarray, expected: np.ndarray) -> int:
    """
    Compare what was played with a waveform: the whole of it, every sample once and in order, and nothing else but
    silence.

    Returns:
        How often it was interrupted.
    """
    first = np.flatnonzero(expected)[0]
    begin = np.flatnonzero(played)[0]
    i, pauses, in_pause = begin, 0, False
    for j, sample in enumerate(expected[first:], first):
        while i < len(played) and played[i] != sample:
            assert played[i] == 0, f"sample {j} is expected to be {sample}, but {played[i]} was played"
            pauses, in_pause, i = pauses + (not in_pause), True, i + 1
        assert i < len(played), f"the last {len(expected) - j} samples were not played"
        i, in_pause = i + 1, False
    assert not played[i:].any(), "something was played behind the end"
    return pauses


def spoken(path: Path, *, before: float = 0.6, after: float = 2.0, rate: int = 48000) -> tuple[np.ndarray, int]:
    """An audio file as a microphone would record it: a little silence, the speech, silence."""
    samples, own_rate = soundfile.read(path, dtype="float32")
    times = np.arange(int(len(samples) * rate / own_rate)) * own_rate / rate
    recorded = np.zeros(int((before + after) * rate) + len(times), np.float32)
    begin = int(before * rate)
    recorded[begin : begin + len(times)] = np.interp(times, np.arange(len(samples)), samples)
    return recorded + np.random.default_rng(0).normal(0, 1e-4, len(recorded)).astype(np.float32), rate


def state(page):
    return page.get_attribute("#voice [data-state]", "data-state")


def wait_until(page, name):
    page.wait_for_selector(f"#voice [data-state={name}]")


def clear(page):
    """Remove the conversation, once the players of its replies have loaded."""
    page.wait_for_function("!window.filesLoading")
    page.click('#actions button:has-text("Clear")')
    page.wait_for_function("!document.querySelector('#chat [data-testid=user]')")


def ask(page, text):
    page.wait_for_function("!window.filesLoading")
    page.fill("#box textarea", text)
    page.keyboard.press("Enter")


def said(page, role):
    return page.locator(f"#chat [data-testid={role}] .message-content").all_inner_texts()

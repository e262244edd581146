"""The page in a real browser: a spoken question is answered, and every sample of the reply is played once."""

import base64
import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from browser import ask, clear, open_page, pauses_between, recording, said, state, wait_until

from modeling_ttt import nano_checkpoint

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytest.importorskip("silero_vad", reason="the demo extra is not installed")


STUBS = """
const part = { dataset: {}, style: { setProperty() {} }, setAttribute() {}, addEventListener() {},
  querySelectorAll: () => [] };
const element = { ...part, querySelector: () => part };
const names = ["element", "props", "trigger", "server", "watch", "document"];
const script = require("fs").readFileSync(0, "utf8");
"""
MICROPHONE = """
const [seconds] = process.argv.slice(1);
const trigger = (name, asked) => console.log(asked.audio);
const load = new Function(...names, script + "; return (other) => { microphone = other; return finish; };");
const hold = load(element, { max_seconds: Number(seconds) }, trigger, {}, () => {}, part);
const Microphone = new Function(...names, script + "; return Microphone;")(element, {}, trigger, {}, () => {}, part);
const microphone = new Microphone();
Object.assign(microphone, { isOpen: true, isAsking: true, context: { sampleRate: 48000, state: "closed" } });
const finish = hold(microphone);
while (microphone.seconds <= Number(seconds)) microphone.take(new Float32Array(2048).fill(0.1));
finish();
"""


LATE_UPDATES = """
const props = { value: null };
let update;
const watch = (name, whenChanged) => { update = whenChanged; };
const hold = new Function(...names, script + "; return (other) => { microphone = other; };")(
  element, props, () => {}, {}, watch, part);
const seen = [];
for (const reply of ["first", "first", "second"]) {
  hold({ close() { seen.push("closed"); } });
  element.dataset.state = "listening";
  props.value = { reply, rate: 16000, chunks: [], done: true };
  update();
  seen.push(element.dataset.state);
}
console.log(JSON.stringify(seen));
"""
SLOW_MODEL = """
const source = () => ({ connect() {}, start() {}, stop() {} });
const context = { sampleRate: 16000, currentTime: 0, state: "running", createBufferSource: source,
  createBuffer: () => ({ copyToChannel() {} }) };
const Player = new Function(...names, script + "; return Player;")(element, {}, () => {}, {}, () => {}, part);
const player = Object.assign(new Player(), { context });
const second = Buffer.from(new Int16Array(16000).fill(1).buffer).toString("base64");
const seen = [];
for (const time of [0, 0.54, 3, 3.04, 3.54]) {
  context.currentTime = time;
  if (Number.isInteger(time)) player.append(second);
  seen.push(Math.round(player.seconds * 100));
}
console.log(JSON.stringify(seen));
"""
LAST_IS_VISIBLE = """() => {
  const last = [...document.querySelectorAll("#chat [data-testid=bot]")].at(-1).getBoundingClientRect();
  const chat = document.querySelector("#chat").getBoundingClientRect();
  return last.height && last.top >= chat.top && last.bottom <= chat.bottom;
}"""
PLAYER = """
async ({ script, rate, frames, audio }) => {
  const document = { querySelectorAll: () => [] };
  const Player = new Function("document", script + "; return Player;")(document);
  const played = [];
  for (const frame of frames) {
    const context = new OfflineAudioContext(1, frame + audio.length, rate);
    const player = Object.assign(new Player(), { context, nextFrame: frame, firstFrame: frame });
    player.append(btoa(String.fromCharCode(...new Uint8Array(Int16Array.from(audio).buffer))));
    played.push(Array.from((await context.startRendering()).getChannelData(0).slice(frame), (x) => x * 32768));
  }
  return played;
}
"""


def run_in_node(script, *arguments):
    """What a script prints that has the page's own script as `script`."""
    from spaces_demo.page.voice import voice_script

    command = ["node", "-e", STUBS + script, *arguments]
    return subprocess.run(command, input=voice_script(), capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("rate", [16000, 22050, 24000])
def test_audio_that_begins_at_any_sample_is_played_as_it_is(browser, rate):
    from spaces_demo.page.voice import STATIC

    # Where the time in seconds, as a float, falls just before a sample, browsers would interpolate.
    early = [frame for frame in range(1000, 20000) if frame / rate * rate < frame]
    audio = [3, -5, 0, 7, 0, 0, 9, 11]
    given = {
        "script": (STATIC / "player.js").read_text(),
        "rate": rate,
        "frames": [1000, *early[:20]],
        "audio": audio,
    }
    blank = browser.new_page()
    assert blank.evaluate(PLAYER, given) == [audio] * 21
    blank.close()


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_what_comes_late_of_a_reply_leaves_the_microphone_open():
    assert json.loads(run_in_node(LATE_UPDATES)) == ["closed", "idle", "listening", "closed", "idle"]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_what_was_played_does_not_go_back_where_the_model_is_slower_than_speech():
    assert json.loads(run_in_node(SLOW_MODEL)) == [0, 50, 100, 100, 150]  # hundredths of a second


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_who_speaks_for_longer_than_we_take_is_answered_to_what_we_take():
    from spaces_demo.service import Limits
    from spaces_demo.service.uploads import checked_audio

    limits = Limits()
    audio = run_in_node(MICROPHONE, str(limits.question_seconds))
    samples, rate = soundfile.read(checked_audio(base64.b64decode(audio), limits))
    assert len(samples) == limits.question_seconds * rate


def test_models_in_folders_of_the_same_name_can_both_be_chosen():
    from spaces_demo.page.page import by_name

    names = ["runs1/merged", "runs2/merged", "you/ttt-nano", ""]
    services = [SimpleNamespace(model=SimpleNamespace(name_or_path=name)) for name in names]
    named = by_name(services)
    assert list(named) == ["runs1/merged", "runs2/merged", "ttt-nano", "model"]
    assert list(named.values()) == services


def saved_speech(page, tmp_path):
    with page.expect_download() as download:
        page.click("text=Save speech")
    path = tmp_path / "reply.wav"
    download.value.save_as(path)
    samples, rate = soundfile.read(path, dtype="int16")
    return samples.astype(int), rate


def offline_reply(service, text):
    from spaces_demo.service import DecodingOptions, TalkRequest

    return service.reply(TalkRequest(text=text, options=DecodingOptions(seed=0)))


def gaps(page):
    return int(page.get_attribute("#voice [data-state]", "data-gaps"))


# Keeps the words of a reply as they are highlighted.
HIGHLIGHTED = """() => {
    window.highlighted = [];
    const look = () => {
        const word = document.querySelector("#chat .word.is-playing")?.innerText.trim();
        if (word && word !== window.highlighted.at(-1)) window.highlighted.push(word);
        requestAnimationFrame(look);
    };
    look();
}"""


def test_every_sample_of_a_reply_is_played_once_and_nothing_else(page, service, tmp_path):
    page.evaluate(HIGHLIGHTED)
    ask(page, "What is two plus three?")
    wait_until(page, "speaking")
    page.wait_for_selector("text=Save speech >> visible=true")
    page.wait_for_selector("#actions button:not([disabled]) >> text=Save speech")
    wait_until(page, "idle")
    offline = offline_reply(service, "What is two plus three?")
    assert said(page, "bot")[-1] == offline.text.strip()
    saved, rate = saved_speech(page, tmp_path)
    # Interrupted only where the page itself says that the model was slower than speech.
    assert pauses_between(recording(page), saved) <= gaps(page)
    assert rate == offline.sampling_rate and len(saved) == len(offline.audio)
    assert np.abs(saved - offline.audio * 32767).max() <= 1
    assert page.locator("#cards .span-card svg").count() == len(offline.segments)
    assert page.locator("#timeline .played").count() == len(offline.segments)
    highlighted = page.evaluate("window.highlighted")
    assert len(highlighted) >= 2  # each while it is played; a busy machine may draw too seldom for a short word
    assert highlighted == [word for word in offline.text.split() if word in highlighted]
    assert page.locator(".is-playing").count() == 0


def test_a_spoken_question_is_recorded_until_its_speaker_pauses_and_continues_the_conversation(page, monkeypatch):
    from spaces_demo.page import session

    monkeypatch.setattr(session, "SHOWN_TRANSCRIPT_LOG_PROB", -9.0)
    before = len(said(page, "bot"))
    page.click(".voice-button")
    wait_until(page, "listening")
    # Nobody taps again: there is an answer only if the end of speech was noticed.
    page.wait_for_function(f"document.querySelectorAll('#chat [data-testid=bot] .message-content').length > {before}")
    page.wait_for_selector("#chat [data-testid=user] .message-content >> text=“")  # its transcript
    wait_until(page, "idle")
    page.wait_for_function(LAST_IS_VISIBLE)
    assert "Monday" in said(page, "user")[-1]
    assert len(said(page, "bot")) == before + 1  # what nano answers in a second turn is its own affair
    assert np.abs(recording(page)).max() > 1000


def test_a_reply_is_played_before_it_is_complete_and_can_be_stopped(page, held):
    clear(page)
    held.let_through(15)  # of the twenty that this reply takes: four words of five
    ask(page, "What is two plus three?")
    wait_until(page, "speaking")
    page.wait_for_function("window.recorded.some((block) => block.some((x) => Math.abs(x) > 0.01))")
    wait_until(page, "thinking")  # all that came has been played
    assert len(said(page, "bot")) == 1
    page.click(".voice-button")
    held.let_through(float("inf"))
    wait_until(page, "idle")
    page.wait_for_function("!document.querySelector('#actions button[disabled]')")
    page.wait_for_function("!document.querySelector('#chat [data-testid=bot]').innerText.includes('five')")
    stopped = None
    while stopped != said(page, "bot")[-1]:  # text whose audio did not come still goes
        stopped = said(page, "bot")[-1]
        page.wait_for_timeout(1000)
    recording(page)
    page.wait_for_timeout(300)
    assert said(page, "bot")[-1] == stopped and not recording(page).any()


def test_markup_is_text_and_a_text_that_is_too_long_is_refused_and_kept(page):
    markup = "<img src=x onerror=alert(1)> **bold** ${1+1} {{value}} <b>tag</b>"
    ask(page, markup)
    page.wait_for_selector("#chat [data-testid=user] >> text=onerror")
    assert said(page, "user")[-1] == markup
    page.click(".voice-button")  # what nano says to that does not matter
    wait_until(page, "idle")
    assert page.locator("#chat img[src=x], #chat .message-content b, #cards img, #timeline img").count() == 0
    long = "why " * 200
    ask(page, long)
    page.wait_for_selector("text=the limit is 500")
    assert page.input_value("#box textarea") == long
    page.fill("#box textarea", "")


def test_clear_begins_anew(page):
    clear(page)
    assert page.locator("#cards .span-card").count() == 0 and state(page) == "idle"


def test_the_page_says_what_its_model_knows_and_where_the_method_is_described(page):
    clear(page)
    ask(page, "What is two plus three?")
    wait_until(page, "speaking")
    wait_until(page, "idle")
    assert "knows a small world: sums up to twenty" in page.inner_text(".ttt-title")
    assert page.get_attribute(".ttt-title a >> text=Paper", "href") == "https://arxiv.org/abs/2509.20072"
    assert "Apache 2.0" in page.inner_text(".ttt-title")


@pytest.mark.slow
def test_an_example_is_answered_by_the_model_once_and_then_from_memory(browser, url, service, gate, held, tmp_path):
    from spaces_demo.page.examples import EXAMPLES

    first, second = open_page(browser, url), open_page(browser, url)
    for page in (first, second):
        page.click(f"text={EXAMPLES[-1].label}")
        wait_until(page, "speaking")
        wait_until(page, "idle")
        held.let_through(0)  # the second visitor's reply needs no model
    assert said(first, "bot") == said(second, "bot") != []
    saved, _ = saved_speech(second, tmp_path)
    assert pauses_between(recording(second), saved) == 0  # everything came at once: nothing may interrupt it
    held.let_through(float("inf"))
    ask(second, "What is two plus two?")
    wait_until(second, "speaking")
    wait_until(second, "idle")
    assert len(said(second, "bot")) == 2 and first.errors == second.errors == []


@pytest.mark.slow
def test_controls_change_how_a_reply_is_decoded_and_retry_asks_again(browser, url):
    from spaces_demo.page.pictures import PITCH, WAVE_HEIGHT

    page = open_page(browser, url)
    ask(page, "What is one plus one?")
    wait_until(page, "speaking")
    wait_until(page, "idle")
    heights = "[...document.querySelectorAll('#cards .span-card svg')].map((svg) => svg.getAttribute('height'))"
    with_eight = page.evaluate(heights)
    page.click("#controls button")
    steps = page.locator("#controls input[type=number]").first
    steps.fill("2")
    steps.press("Tab")
    page.click("text=Retry")
    page.wait_for_function(f"JSON.stringify({heights}) !== {json.dumps(json.dumps(with_eight, separators=(',', ':')))}")
    wait_until(page, "speaking")
    wait_until(page, "idle")
    # One row of the picture for each step; a block that is soon decided takes few under either setting.
    two_rows = 2 * PITCH + WAVE_HEIGHT + 6
    assert max(map(int, page.evaluate(heights))) <= two_rows < max(map(int, with_eight))
    assert len(said(page, "user")) == 1 and page.errors == []


@pytest.mark.slow
def test_a_faster_voice_plays_every_sample_once_and_the_words_light_up_in_their_order(browser, url, service, tmp_path):
    page = open_page(browser, url)
    page.click("#controls button")
    speed = page.get_by_label("number input for Speed of voice")
    speed.fill("2")
    speed.press("Tab")
    page.evaluate(HIGHLIGHTED)
    ask(page, "What is two plus three?")
    wait_until(page, "speaking")
    page.wait_for_selector("#actions button:not([disabled]) >> text=Save speech")
    wait_until(page, "idle")
    offline = offline_reply(service, "What is two plus three?")
    saved, rate = saved_speech(page, tmp_path)
    assert pauses_between(recording(page), saved) <= gaps(page)
    assert said(page, "bot")[-1] == offline.text.strip()
    assert len(saved) == pytest.approx(len(offline.audio) / 2, abs=0.05 * rate)
    highlighted = page.evaluate("window.highlighted")
    assert highlighted and highlighted == [word for word in offline.text.split() if word in highlighted]
    assert page.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("task, button", [("Transcribe", None), ("Speak", "Save speech")])
def test_other_tasks_are_a_click_away(browser, url, tmp_path, task, button):
    page = open_page(browser, url)
    page.click("#controls button")
    page.click(f"label:has-text('{task}')")
    if task == "Transcribe":
        page.set_input_files("#box input[type=file]", nano_checkpoint() / "questions" / "4.wav")
        page.wait_for_selector("#box .thumbnail-item, #box [class*=thumbnail]")
        page.click("#box button.submit-button")
        page.wait_for_selector("#chat [data-testid=bot] >> text=Monday")
    else:
        ask(page, "Two plus two is four.")
        wait_until(page, "speaking")
        wait_until(page, "idle")
        assert len(saved_speech(page, tmp_path)[0]) > 8000
    assert page.errors == []


@pytest.mark.slow
def test_on_a_phone_in_the_dark_nothing_is_cut_off(browser, url):
    page = open_page(browser, url, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    page.tap("text=Today is Monday, what is tomorrow?")
    wait_until(page, "speaking")
    wait_until(page, "idle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("body.dark").count() == 1
    light_on_dark = page.evaluate("getComputedStyle(document.querySelector('.figures dd')).color")
    assert min(int(part) for part in light_on_dark[4:-1].split(",")) > 200
    assert page.errors == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, data, sentence",
    [
        ("note.txt", b"hello", None),
        ("empty.wav", b"", "no bytes"),
        ("broken.wav", b"RIFF\x00\x00\x00\x00WAVEfmt ", "no audio file"),
        ("renamed.mp3", b"<script>alert(1)</script>", "no audio file"),
    ],
)
def test_a_bad_file_is_a_sentence_and_the_page_goes_on(browser, url, tmp_path, name, data, sentence):
    page = open_page(browser, url)
    (tmp_path / name).write_bytes(data)
    page.set_input_files("#box input[type=file]", tmp_path / name)
    if sentence is None:  # Gradio itself takes no such file
        page.wait_for_selector("[data-testid=toast-body], .toast-body")
    else:
        page.wait_for_selector("#box .thumbnail-item, #box [class*=thumbnail]")
        page.click("#box button.submit-button")
        page.wait_for_selector(f"text={sentence}")
    assert "Traceback" not in page.inner_text("body") and said(page, "user") == []
    page.click("text=Today is Monday, what is tomorrow?")
    wait_until(page, "speaking")

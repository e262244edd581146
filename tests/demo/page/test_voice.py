"""Talking with the page in a real browser: hands-free, by push-to-talk, with pauses, and over its replies."""

import numpy as np
import pytest
import soundfile
from browser import SPEAKER, open_page, pauses_between, recording, said, say, wait_until

from modeling_ttt import nano_checkpoint
from spaces_demo.service import AudioFile, DecodingOptions, TalkRequest

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytest.importorskip("silero_vad", reason="the demo extra is not installed")

QUESTIONS = nano_checkpoint() / "questions"
JOKE, CAPITAL, DAY = "10.wav", "6.wav", "4.wav"


def speech(name):
    return soundfile.read(QUESTIONS / name, dtype="float32")


def with_pause(samples, rate, seconds):
    """A question with a pause at its quietest place near the middle."""
    third = len(samples) // 3
    loudness = np.convolve(np.abs(samples[third : 2 * third]), np.ones(rate // 20), "same")
    at = third + int(loudness.argmin())
    silence = np.random.default_rng(0).normal(0, 1e-4, int(seconds * rate)).astype(np.float32)
    return np.concatenate([samples[:at], silence, samples[at:]])


@pytest.fixture
def sessions(monkeypatch):
    """The visits since the test began."""
    from spaces_demo.page import page, session

    made = []

    class Noted(session.Session):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(page, "Session", Noted)
    return made


@pytest.fixture
def talk(browser, url):
    """Open the page and choose how to talk; the states of its button are kept in `states`."""

    def opened(mode, presses=True):
        page = open_page(browser, url, SPEAKER)
        page.click(f"#voice label:has-text('{mode}')")
        page.evaluate("""() => {
            const button = document.querySelector("#voice [data-state]");
            window.states = [button.dataset.state];
            window.playedAtChange = [0];  // samples
            new MutationObserver(() => {
                if (window.states.at(-1) === button.dataset.state) return;
                window.states.push(button.dataset.state);
                window.playedAtChange.push(128 * window.recorded.length);
            }).observe(button, { attributes: true });
        }""")
        if presses:
            page.click(".voice-button")
            wait_until(page, "listening")
            page.wait_for_function("!!window.say")
        pages.append(page)
        return page

    pages = []
    yield opened
    for page in pages:
        assert page.errors == []
        page.context.close()


def whole_reply(service, name):
    audio = AudioFile((QUESTIONS / name).read_bytes(), name)
    return service.reply(TalkRequest(audio=audio, options=DecodingOptions(seed=0)))


def wait_for_replies(page, number):
    page.wait_for_function(f"document.querySelectorAll('#chat [data-testid=bot] .word:first-child').length >= {number}")


def test_speaking_over_a_reply_stops_it_and_what_was_not_played_is_forgotten(talk, sessions, service, held):
    reply, page = whole_reply(service, JOKE), talk("Hands-free")
    whole, rate = reply.text.strip(), reply.sampling_rate
    held.let_through(20)  # the reply is interrupted in the middle, however fast the machine is
    say(page, *speech(JOKE))
    wait_until(page, "speaking")
    say(page, *speech(CAPITAL))
    wait_until(page, "listening")
    held.let_through(float("inf"))
    wait_until(page, "speaking")
    assert page.evaluate("window.asked.echoCancellation") is True
    wait_until(page, "listening")
    changes = zip(page.evaluate("states"), page.evaluate("playedAtChange"), strict=True)
    _, interrupted, _ = [at for name, at in changes if name == "listening"]
    played = recording(page)
    assert not played[interrupted + round(0.15 * rate) : interrupted + round(0.5 * rate)].any()
    assert played[:interrupted].any() and played[interrupted + round(0.5 * rate) :].any()
    (session,) = sessions
    kept = session.turns[0].trace.text.strip()
    assert said(page, "bot")[0] == kept != whole and kept and whole.startswith(kept)
    assert len(session.conversation.turns) == 2 and session.conversation.turns[0].text.strip() == kept
    assert 0 < len(session.turns[0].trace.audio) < len(reply.audio)
    page.click(".voice-button")
    wait_until(page, "idle")


@pytest.mark.slow
def test_a_short_remark_leaves_a_reply_alone(talk, sessions, service):
    page = talk("Hands-free")
    say(page, *speech(JOKE))
    wait_until(page, "speaking")
    samples, rate = speech(CAPITAL)
    begin = int(np.flatnonzero(np.abs(samples) > 0.05)[0])
    say(page, samples[begin : begin + int(0.3 * rate)], rate)
    wait_until(page, "listening")
    assert said(page, "bot")[0] == whole_reply(service, JOKE).text.strip()
    assert page.evaluate("states.filter((state) => state === 'listening').length") == 2
    pauses_between(recording(page), soundfile.read(sessions[0].turns[0].reply_file, dtype="int16")[0].astype(int))


@pytest.mark.slow
def test_a_pause_inside_a_question_does_not_end_it(talk, sessions):
    page, (samples, rate) = talk("Tap"), speech(DAY)
    said_at = np.flatnonzero(np.abs(samples) > 0.01)
    say(page, with_pause(samples, rate, 0.9), rate)
    wait_for_replies(page, 1)
    wait_until(page, "idle")
    (session,) = sessions
    (turn,) = session.turns
    question = soundfile.info(turn.question_file).duration
    assert question > (said_at[-1] - said_at[0]) / rate + 0.9
    assert len(session.conversation.turns) == 1 and said(page, "bot")[0] == turn.trace.text.strip()
    page.wait_for_function("document.querySelector('#figures').innerText.includes('since you stopped speaking')")
    assert turn.first_audio > 0


@pytest.mark.slow
def test_push_to_talk_sends_what_is_said_while_the_button_is_held(talk, sessions):
    page = talk("Push to talk", presses=False)
    page.click(".voice-button")  # too short to say anything
    wait_until(page, "idle")
    page.hover(".voice-button")
    page.mouse.down()
    wait_until(page, "listening")
    page.wait_for_function("!!window.say")
    say(page, with_pause(*speech(DAY), 2.0), speech(DAY)[1])
    page.wait_for_timeout(5000)
    assert page.evaluate("states.at(-1)") == "listening"  # however long the pause is
    page.mouse.up()
    wait_for_replies(page, 1)
    wait_until(page, "idle")
    assert len(sessions) == 1 and len(sessions[0].turns) == 1


@pytest.mark.slow
def test_holding_the_button_interrupts_a_reply(talk, sessions, service, held):
    page = talk("Push to talk", presses=False)
    held.let_through(20)  # the reply is interrupted in the middle, however slow the browser is
    page.click("text=Do you know a joke about an egg?")
    wait_until(page, "speaking")
    page.focus(".voice-button")
    page.keyboard.down(" ")
    wait_until(page, "listening")
    held.let_through(float("inf"))
    whole = whole_reply(service, JOKE).text.strip()
    page.wait_for_function(f"document.querySelector('#chat [data-testid=bot]').innerText.trim() !== {whole!r}")
    page.keyboard.up(" ")
    wait_until(page, "idle")
    assert whole.startswith(sessions[0].turns[0].trace.text.strip())

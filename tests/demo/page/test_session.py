"""A visit to the demo without its page: turns, stop, retry, clear, examples, and what is left of it when it is over."""

import base64
import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from service_fixtures import QUESTION, tiny_service
from streaming_fixtures import TinyTalker

from modeling_ttt import nano_checkpoint
from spaces_demo.page.examples import EXAMPLES, ExampleCache, question_bytes, read_examples
from spaces_demo.page.session import Session, player_value
from spaces_demo.service import AudioFile, Busy, DecodingOptions, Limits, RequestError, TalkRequest

SPOKEN = TalkRequest(audio=AudioFile(question_bytes(EXAMPLES[0]), EXAMPLES[0].file), options=DecodingOptions(seed=0))
WRITTEN = TalkRequest(text=QUESTION, options=DecodingOptions(seed=0))


@pytest.fixture
def session():
    session = Session(tiny_service())
    yield session
    session.close()


def last(events):
    *_, event = events
    return event


def test_what_the_player_gets_is_the_file_that_is_saved_sample_for_sample(session):
    turn = last(session.ask(WRITTEN))
    value = player_value(turn)
    played = np.frombuffer(b"".join(map(base64.b64decode, value["chunks"])), "<i2")
    saved, rate = soundfile.read(turn.reply_file, dtype="int16")
    assert len(saved) and np.array_equal(played, saved) and value["rate"] == rate and value["done"]
    assert np.array_equal(turn.summary.audio, turn.trace.audio) and turn.summary.text == turn.trace.text
    spans = [(span.words, span.num_codes) for span in turn.trace.spans]
    assert spans == [(segment.text, segment.num_codes) for segment in turn.summary.segments]


@pytest.mark.parametrize("speed", [2.0, 0.5])
def test_a_reply_is_played_at_the_speed_that_is_chosen_and_cut_where_its_audio_was_stopped(session, speed):
    plain = last(session.ask(WRITTEN))
    session.clear()
    turn = last(session.ask(replace(WRITTEN, speed=speed)))
    value = player_value(turn)
    played = np.frombuffer(b"".join(map(base64.b64decode, value["chunks"])), "<i2")
    saved, _ = soundfile.read(turn.reply_file, dtype="int16")
    assert value["speed"] == speed and np.array_equal(played, saved)
    assert len(saved) == pytest.approx(len(plain.trace.audio) / speed, rel=0.05)
    assert np.array_equal(turn.trace.audio, plain.trace.audio)
    session.interrupt(turn.name, turn.trace.seconds_of(0) / 2)  # of its audio at speed 1
    assert [span.words for span in turn.trace.spans] == [plain.trace.spans[0].words]
    saved, rate = soundfile.read(turn.reply_file, dtype="int16")
    assert len(saved) / rate == pytest.approx(turn.trace.seconds_of(0) / speed, abs=0.05)
    with pytest.raises(RequestError, match="speed must be a number from"):
        next(session.ask(replace(WRITTEN, speed=5.0)))


def test_values_of_the_player_are_states_of_their_own(session):
    states = [player_value(turn) for turn in session.ask(WRITTEN)]
    assert [state["done"] for state in states] == [False] * (len(states) - 1) + [True]
    for before, after in pairwise(states):
        assert after["chunks"][: len(before["chunks"])] == before["chunks"] and after["chunks"] is not before["chunks"]


def test_a_refused_question_leaves_no_trace(session):
    with pytest.raises(RequestError, match="make it shorter"):
        next(session.ask(TalkRequest(text="why " * 200)))
    assert session.turns == [] and list(session.folder.iterdir()) == []


def test_a_reply_that_is_stopped_stays_as_far_as_it_came_and_can_be_asked_again(session):
    gate = session.service.gate
    events = session.ask(WRITTEN)
    turn = next(events)
    with gate.shut():
        session.stop()
    assert last(events) is turn and turn.is_over and not (turn.summary and turn.summary.finished)
    assert session.take_back() == WRITTEN and session.turns == [] and session.conversation.turns == []
    assert len(last(session.ask(WRITTEN)).trace.audio)


def test_a_retry_that_is_refused_leaves_what_was_said_as_it_was():
    service = tiny_service(Limits(served_at_once=1, waiting=1))
    session = Session(service)
    for question in (WRITTEN, replace(WRITTEN, text="And two?")):
        last(session.ask(question))
    turns, ids = list(session.turns), session.conversation.ids.tolist()
    with service.gate.shut():
        others = [service.stream(TalkRequest(text=QUESTION)) for _ in range(2)]
        with pytest.raises(Busy):
            next(session.ask(session.take_back()))
        for other in others:
            other.cancel()
    assert service.admission.wait_until_empty(30)
    assert session.turns == turns and session.conversation.ids.tolist() == ids
    assert session.take_back().text == "And two?" and session.turns == turns[:1]
    last(session.ask(WRITTEN))
    assert len(session.conversation.turns) == len(session.turns) == 2
    session.close()


def test_asking_the_same_again_gives_another_reply_each_time(session):
    replies = [last(session.ask(WRITTEN)).summary.token_ids]
    for _ in range(3):
        replies.append(last(session.ask(session.take_back())).summary.token_ids)
    assert len(set(map(tuple, replies))) == 4 and len(session.turns) == len(session.conversation.turns) == 1
    chosen = replace(WRITTEN, options=DecodingOptions(seed=0, denoising_steps=1))
    session.take_back()
    turn = last(session.ask(chosen))  # other controls are followed as they are
    assert turn.summary.token_ids == session.service.reply(chosen).token_ids != replies[0]


def test_an_example_that_is_asked_again_is_not_answered_from_memory(session):
    cache = ExampleCache()
    first = last(cache.ask(session, SPOKEN))
    first.summary = replace(first.summary, finished=True)
    cache._remember(cache._key(Session(session.service), SPOKEN), first, session.conversation)
    asked = session.take_back()
    assert cache._key(session, asked) is None


@pytest.mark.parametrize("log_prob, shown", [(-0.04, True), (-0.06, False), (None, False)])
def test_a_transcript_is_shown_only_where_the_model_finds_it_probable(session, monkeypatch, log_prob, shown):
    talker = TinyTalker(session.service.model, session.service.processor)
    generate, reply = session.service.model.generate, session.service.reply
    monkeypatch.setattr(
        session.service.model, "generate", lambda **asked: generate(**asked | talker.script("Seven", None, "."))
    )
    asked = []

    def transcribe(request):
        asked.append(request)
        return replace(reply(replace(request, options=DecodingOptions(max_new_tokens=3))), text_log_prob=log_prob)

    monkeypatch.setattr(session.service, "reply", transcribe)
    turn = last(session.ask(replace(SPOKEN, options=DecodingOptions(seed=0, temperature=1.0))))
    assert bool(turn.transcript) == shown and [(one.task, one.options.temperature) for one in asked] == [("asr", 0)]


def test_a_borrowed_gpu_is_not_borrowed_again_for_a_transcript(session, monkeypatch):
    monkeypatch.setattr(session.service.model, "is_borrowed", True, raising=False)
    monkeypatch.setattr(session.service, "reply", lambda _: pytest.fail("the model was asked again"))
    last(session.ask(SPOKEN))


def spoken_turn(session, name, request=WRITTEN, seconds=None):
    """Ask as the microphone does; return the turn, as far as it came before so many seconds of its audio."""
    events = session.ask(request, name)
    turn = next(events)
    for _ in events:
        if seconds is not None and len(turn.trace.audio) > seconds * turn.trace.sampling_rate:
            break
    return events, turn


def test_a_reply_that_is_interrupted_keeps_what_was_played_and_the_conversation_goes_on_from_there(session):
    last(session.ask(WRITTEN))
    _, turn = spoken_turn(session, "b")
    whole, spans = turn.summary, turn.trace.spans
    assert len(spans) >= 2 and spans[0].num_codes and spans[1].num_codes
    assert session.interrupt("b", turn.trace.begins(1) - 0.01)
    kept = [spans[0].words]
    assert [span.words for span in turn.trace.spans] == kept and not turn.summary.finished
    said = session.conversation.turns[1]
    assert said.text == "".join(kept) and whole.text.startswith(said.text) and len(whole.audio) > len(said.audio)
    samples, _ = soundfile.read(turn.reply_file)
    assert len(samples) == len(said.audio) == len(turn.trace.audio)
    assert len(list(session.folder.glob("reply-b*"))) == 1
    fork = session.conversation.fork()  # without a cache: computes everything again
    third = last(session.ask(WRITTEN, "c"))
    assert fork.say(QUESTION, generator=None).text == third.summary.text


def test_a_reply_that_was_not_played_is_all_forgotten_and_another_turn_is_not_touched(session):
    spoken_turn(session, "a")
    assert not session.interrupt("b", 1.0)
    assert session.interrupt("a", 0.0)
    assert session.turns[0].trace.text == "" == session.conversation.turns[0].text
    assert session.turns[0].reply_file is None and len(last(session.ask(WRITTEN)).trace.audio)


def test_a_question_whose_speaker_goes_on_is_as_if_it_had_not_been_asked(session):
    last(session.ask(WRITTEN))
    before = session.conversation.ids.tolist()
    spoken_turn(session, "b")
    assert not session.turns[1].is_certain and session.withdraw("b") and not session.withdraw("b")
    assert len(session.turns) == len(session.conversation.turns) == 1 and session.conversation.ids.tolist() == before
    spoken_turn(session, "c")
    _, turn = spoken_turn(session, "d")  # came before the page's word that "c" is withdrawn
    assert session.confirm("d") and session.turns[1:] == [turn] and turn.is_certain
    assert len(session.conversation.turns) == 2


def test_a_reply_that_is_interrupted_is_not_remembered_as_the_one_to_an_example(session):
    cache = ExampleCache()
    events = cache.ask(session, SPOKEN, "a")
    turn = last(events)
    turn.summary = replace(turn.summary, finished=True)
    session.interrupt("a", 0.0)
    cache._remember(("key",), turn, session.conversation)
    assert not cache._remembered


def test_a_page_that_is_closed_in_mid_reply_frees_its_place(session):
    events = session.ask(WRITTEN)
    next(events)
    events.close()
    assert len(last(session.ask(WRITTEN)).trace.audio)


def test_an_example_is_answered_once_and_a_conversation_goes_on_from_it(monkeypatch):
    service, cache = tiny_service(), ExampleCache()
    generate, talker = service.model.generate, TinyTalker(service.model, service.processor)
    monkeypatch.setattr(
        service.model, "generate", lambda **asked: generate(**asked | talker.script("Seven", None, "."))
    )
    first, second = Session(service), Session(service)
    answered = last(cache.ask(first, SPOKEN))
    with monkeypatch.context() as patch:
        patch.setattr(service, "stream", lambda *_, **__: pytest.fail("the model was asked again"))
        recalled = last(cache.ask(second, SPOKEN))
    assert recalled.trace.text == answered.trace.text == "Seven." and recalled.name != answered.name
    assert recalled.reply_file != answered.reply_file
    assert recalled.reply_file.read_bytes() == answered.reply_file.read_bytes()
    last(cache.ask(second, WRITTEN))
    assert len(second.conversation.turns) == 2 and len(first.conversation.turns) == 1
    first.close()
    second.close()


def test_what_chance_or_earlier_turns_would_change_is_not_remembered(session):
    cache = ExampleCache()
    assert cache._key(session, SPOKEN) is not None
    for options in ({"temperature": 1.0}, {"audio_temperature": 0.5}, {"remasking": "random"}):
        assert cache._key(session, replace(SPOKEN, options=DecodingOptions(**options))) is None
    assert cache._key(session, WRITTEN) is None
    last(session.ask(WRITTEN))
    assert cache._key(session, SPOKEN) is None


def test_nothing_of_a_visit_stays(session):
    last(session.ask(SPOKEN))
    files = list(session.folder.iterdir())
    assert {path.name.split("-")[0] for path in files} == {"question", "reply"}
    session.clear()
    assert list(session.folder.iterdir()) == [] and session.turns == [] and session.conversation.turns == []
    folder = session.folder
    session.close()
    assert not folder.exists()


def test_an_example_is_labelled_by_what_is_said_in_it(tmp_path):
    written = (nano_checkpoint() / "questions" / "questions.jsonl").read_text(encoding="utf-8")
    said = {question["file"]: question["question"] for question in map(json.loads, written.splitlines())}
    assert {example.file: example.label for example in EXAMPLES}.items() <= said.items()
    assert [example.label for example in read_examples(tmp_path)][:2] == ["Question 1", "Question 2"]


def test_every_example_is_in_the_box():
    assert all((nano_checkpoint() / "questions" / example.file).is_file() for example in EXAMPLES)


def test_what_was_cleared_away_does_not_end_what_was_asked_since(session):
    gate = session.service.gate
    first = session.ask(WRITTEN)
    forgotten = next(first)
    with gate.shut():
        session.clear()
        second = session.ask(replace(WRITTEN, text="And two?"))
        assert next(second) is session.turns[0]
        assert last(first) is forgotten
        assert session.take_back() is None, "the second one is still being answered"
        session.stop()
    last(second)
    assert forgotten.reply_file is None and session.service.admission.wait_until_empty(30)


def test_a_refused_question_is_news_to_the_button_and_a_person_is_an_address():
    page = pytest.importorskip("spaces_demo.page.page", reason="the demo extra is not installed")
    import gradio as gr

    service = tiny_service(Limits(text_characters=50))
    with gr.Blocks():
        built = page.Page({"tiny": service})
    request = SimpleNamespace(client=SimpleNamespace(host="203.0.113.5"), session_hash="chosen by the client")
    seen = [list(built._ask(None, "tiny", request, TalkRequest(text=QUESTION)))[-1]]
    session = seen[0][0]
    for _ in range(2):
        seen.append(list(built._ask(session, "tiny", request, TalkRequest(text="why " * 20)))[-1])
    values = [shown[built._shown.index(built.voice)] for shown in seen]
    assert session.user == "203.0.113.5"
    assert [value["reply"] for value in values] == [values[0]["reply"]] * 3 and all(value["done"] for value in values)
    assert len({value.get("refused") for value in values}) == 3
    session.close()

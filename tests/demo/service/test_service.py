"""The service: replies equal to those without it, limited slots and places, and slots that become free again."""

import gc
import threading
import time

import numpy as np
import pytest
import torch
from service_fixtures import QUESTION, tiny_service
from streaming_fixtures import assert_same_reply, prompt

from processing_ttt import TttAudioChunk, TttBlockDraft, TttConversation, TttTextDelta
from spaces_demo.service import Busy, DecodingOptions, Limits, ReplySummary, RequestError, TalkRequest

ASK = TalkRequest(text=QUESTION)
SLOT = Limits(served_at_once=1, waiting=2, per_user=2)


def whole(service, **options):
    """The reply without the service."""
    inputs = prompt(service.processor, QUESTION)
    ids = service.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
    return ids.tolist(), service.processor.decode_reply(ids)


def wait_until_free(service):
    assert service.admission.wait_until_empty(30)
    assert service.admission.num_running == service.admission.num_waiting == 0


# ------------------------------------------------------------------------------------------------------------ the reply


def test_a_stream_gives_the_reply_and_then_its_summary():
    service = tiny_service()
    ids, reply = whole(service)
    began = time.monotonic()
    with service.stream(ASK) as stream:
        *events, summary = stream
    first_within = time.monotonic() - began
    assert_same_reply(events, reply)
    assert isinstance(summary, ReplySummary) and summary is stream.summary
    assert (summary.text, summary.token_ids, summary.finished) == (reply.text, ids, reply.finished)
    np.testing.assert_allclose(summary.audio, reply.audio, rtol=0, atol=1e-6)
    assert 0 <= summary.seconds_to_first_audio <= first_within and 0 < summary.seconds <= first_within
    assert summary.num_forwards == service.gate.forwards / 2  # `whole` took as many
    assert summary.real_time_factor == summary.seconds / (len(reply.audio) / reply.sampling_rate)
    wait_until_free(service)


def test_a_transcript_has_the_mean_log_probability_of_its_token_ids():
    service = tiny_service()
    audio = (16000, (0.1 * np.sin(np.arange(8000) / 9)).astype(np.float32))
    summary = service.reply(TalkRequest(task="asr", audio=audio))
    prompt_ids = service.processor.prepare(service.processor.messages("asr", None, audio))["input_ids"]
    new_ids, first_audio_id = torch.tensor(summary.token_ids), service.model.config.audio_token_start_id
    logits = service.model(torch.cat([prompt_ids, new_ids[None]], dim=1)).logits[0, prompt_ids.shape[1] - 1 : -1]
    is_text = new_ids < first_audio_id
    log_probs = logits[is_text, :first_audio_id].log_softmax(-1).gather(1, new_ids[is_text, None])
    assert summary.text_log_prob == pytest.approx(log_probs.mean().item(), abs=1e-4)
    assert service.reply(ASK).text_log_prob is None


def test_an_entropy_bound_of_0_is_off():
    service = tiny_service()
    service.model.generation_config.entropy_bound = 99.0
    bounded, free = (service.reply(replace_options(entropy_bound=bound)) for bound in (99.0, 0.0))
    assert bounded.token_ids == service.reply(ASK).token_ids and bounded.num_forwards < free.num_forwards
    assert free.token_ids == whole(service, entropy_bound=None)[0]


def replace_options(**options):
    return TalkRequest(text=QUESTION, options=DecodingOptions(**options))


def test_segments_have_the_words_before_each_span_of_audio():
    service = tiny_service()
    summary = service.reply(ASK)
    parsed = service.processor.layout.parse_reply(summary.token_ids)
    assert "".join(segment.text for segment in summary.segments) == summary.text
    assert [s.num_codes for s in summary.segments if s.num_codes] == [len(s.codes) for s in parsed.spans if s.codes]
    ends = np.cumsum([segment.seconds for segment in summary.segments])
    np.testing.assert_allclose([segment.start for segment in summary.segments[1:]], ends[:-1])
    assert ends[-1] == pytest.approx(len(parsed.codes) / service.processor.codec_config.frame_rate)


def test_options_are_those_of_generate():
    service = tiny_service()
    options = DecodingOptions(temperature=2.0, audio_temperature=1.0, seed=3, denoising_steps=2, max_new_tokens=20)
    ids, _ = whole(
        service, do_sample=True, temperature=2.0, audio_temperature=1.0, denoising_steps=2, max_new_tokens=20,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert service.reply(TalkRequest(text=QUESTION, options=options)).token_ids == ids


def test_drafts_come_if_asked_for():
    service = tiny_service()
    with service.stream(ASK, drafts=True) as stream:
        assert any(isinstance(event, TttBlockDraft) for event in stream)


def test_a_conversation_goes_on_as_it_does_by_itself():
    service = tiny_service()
    alone = TttConversation(service.model, service.processor)
    conversation = service.conversation()
    for question in (QUESTION, "And two?"):
        reply = alone.say(question)
        summary = service.reply(TalkRequest(text=question, conversation=conversation))
        assert summary.text == reply.text
    assert conversation.ids.tolist() == alone.ids.tolist()


def test_a_conversation_answers_one_question_at_a_time():
    service = tiny_service()
    conversation = service.conversation()
    request = TalkRequest(text=QUESTION, conversation=conversation)
    with service.gate.shut(), service.stream(request) as stream:
        service.gate.wait_for(1)
        with pytest.raises(Busy, match="still being answered"):
            service.stream(request)
        service.gate.open()
        list(stream)
    assert service.reply(request).text


# ----------------------------------------------------------------------------------------------------- slots and places


def test_more_requests_than_slots_wait_and_more_than_places_are_refused():
    service = tiny_service(SLOT)
    with service.gate.shut():
        streams = [service.stream(ASK) for _ in range(3)]
        service.gate.wait_for(1)
        assert [stream.num_before for stream in streams] == [0, 0, 1]
        assert [stream.is_waiting for stream in streams] == [False, True, True]
        with pytest.raises(Busy, match=r"2 questions are waiting already.*try again in about \d+ s") as refusal:
            service.stream(ASK)
        assert refusal.value.retry_after > 0
        assert service.gate.forwards == 1
    replies = [list(stream)[-1] for stream in streams]
    assert len({reply.text for reply in replies}) == 1
    assert replies[2].seconds_waited > replies[1].seconds_waited > replies[0].seconds_waited
    wait_until_free(service)


def test_one_user_has_fewer_places_than_all():
    service = tiny_service(SLOT)
    mine = TalkRequest(text=QUESTION, user="me")
    with service.gate.shut():
        streams = [service.stream(mine), service.stream(mine)]
        with pytest.raises(Busy, match="2 of your questions are not answered yet"):
            service.stream(mine)
        streams.append(service.stream(TalkRequest(text=QUESTION, user="you")))
    for stream in streams:
        list(stream)
    wait_until_free(service)
    assert service.reply(mine).text


def test_never_more_are_served_at_once_than_there_are_slots():
    service = tiny_service(Limits(served_at_once=2, waiting=20))
    running, most = [], []

    def count(*_):
        most.append(service.admission.num_running)

    service.model.model.register_forward_pre_hook(count)
    threads = [threading.Thread(target=lambda: running.append(service.reply(ASK).text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(running) == 8 and len(set(running)) == 1
    assert max(most) == 2


# ---------------------------------------------------------------------------------------------------- ends of all kinds


def test_closing_stops_within_one_forward():
    service = tiny_service(SLOT)
    service.gate.shut_at = begun = 12
    stream = service.stream(ASK)
    next(stream)
    service.gate.wait_for(begun)  # one is being held
    stream.cancel()
    service.gate.open()
    stream.close()
    assert service.gate.forwards == begun
    assert not stream.summary.finished and list(stream) == []
    wait_until_free(service)


def test_closing_frees_the_slot_for_the_next():
    service = tiny_service(SLOT)
    service.gate.shut_at = held = 12
    first, second = service.stream(ASK), service.stream(ASK)
    service.gate.wait_for(held)
    assert second.is_waiting
    first.cancel()
    service.gate.open()
    first.close()
    assert list(second)[-1].text
    wait_until_free(service)


def test_closing_while_waiting_gives_the_place_up():
    service = tiny_service(SLOT)
    conversation = service.conversation()
    waiting = TalkRequest(text=QUESTION, conversation=conversation)
    with service.gate.shut():
        first, second, third = service.stream(ASK), service.stream(waiting), service.stream(ASK)
        second.close()
        assert list(second) == [] and second.summary is None
        assert third.num_before == 0
        again = service.stream(waiting)  # the conversation is free as well
    for stream in (first, third, again):
        assert list(stream)[-1].text
    assert len(conversation.turns) == 1
    wait_until_free(service)


def test_a_stream_that_is_dropped_frees_its_slot():
    service = tiny_service(SLOT, max_new_tokens=400)
    service.gate.shut_at = held = 12
    stream = service.stream(ASK)
    next(stream)
    service.gate.wait_for(held)
    del stream
    gc.collect()
    service.gate.open()
    wait_until_free(service)
    assert service.gate.forwards <= held + 1


def test_an_answer_that_takes_too_long_is_stopped_and_says_so():
    service = tiny_service(Limits(seconds_per_request=1.0))
    with service.gate.shut(), service.stream(ASK) as stream:
        service.gate.wait_for(1)
        stream.streamer._queue.on_change = service.gate.open  # the clock ends the queue, and the forward then goes on
        with pytest.raises(RequestError, match="longer than 1 s"):
            list(stream)
    wait_until_free(service)


def test_a_consumer_that_does_not_read_loses_its_slot_when_its_time_is_up():
    service = tiny_service(Limits(seconds_per_request=0.5), max_new_tokens=200)
    stream = service.stream(ASK, drafts=True)
    wait_until_free(service)
    with pytest.raises(RequestError, match="longer than"):
        list(stream)


def test_a_model_that_fails_is_a_sentence_without_its_details_and_a_free_slot(caplog):
    service = tiny_service(SLOT)

    def fail(*_):
        raise RuntimeError("secret /path")

    handle = service.model.model.register_forward_pre_hook(fail)
    with pytest.raises(RequestError, match="failed because of an error on the server") as failure:
        service.reply(ASK)
    assert "secret" not in str(failure.value) and "secret /path" in caplog.text
    handle.remove()
    wait_until_free(service)
    assert service.reply(ASK).text


def test_a_closing_service_answers_those_it_took_and_takes_no_more():
    service = tiny_service(SLOT)
    with service.gate.shut():
        streams = [service.stream(ASK), service.stream(ASK)]
        assert not service.close(timeout=0)
        with pytest.raises(Busy, match="about to stop"):
            service.stream(ASK)
    for stream in streams:
        assert list(stream)[-1].text
    assert service.close(timeout=30)


# -------------------------------------------------------------------------------------------------------- bad questions


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (TalkRequest(), "There is no question"),
        (TalkRequest(text="  "), "There is no question"),
        (TalkRequest(task="song", text="a"), "The task is one of"),
        (TalkRequest(task="asr"), "There is no audio"),
        (TalkRequest(task="tts", audio=b"RIFF"), "takes text and no audio"),
        (TalkRequest(text=3), "must be text"),
        (TalkRequest(text="a" * 501), "501 characters"),
        (TalkRequest(text="a\0b"), "cannot be read"),
        (TalkRequest(text="a\ud800b"), "cannot be read"),
        (TalkRequest(audio=b""), "has no bytes"),
        (TalkRequest(audio=b"no audio"), "no audio file that can be read"),
        (TalkRequest(audio="/etc/passwd"), "Accepted are wav, flac, mp3, ogg, opus, m4a or webm"),
        (TalkRequest(audio="/nowhere/a.wav"), "gone"),
        (TalkRequest(audio="/proc/self/a\0.wav"), "gone"),
        (TalkRequest(audio={"path": "/etc/passwd"}), "must be an audio file"),
        (TalkRequest(audio=(16000, np.zeros(0))), "no samples"),
        (TalkRequest(audio=(16000, np.zeros(16000 * 31))), "longer than the limit of 30 s"),
        (TalkRequest(audio=(1, np.ones(8))), "1000 to 192000 Hz"),
        (TalkRequest(text="a", options=DecodingOptions(denoising_steps=0)), "denoising_steps must be"),
        (TalkRequest(text="a", options=DecodingOptions(temperature=float("nan"))), "temperature must be"),
        (TalkRequest(text="a", options=DecodingOptions(seed=True)), "seed must be"),
        (TalkRequest(text="a", options=DecodingOptions(seed=10**400)), "seed must be"),
        (TalkRequest(text="a", options=DecodingOptions(temperature=10**400)), "temperature must be"),
        (TalkRequest(text="a", options=DecodingOptions(remasking=["random"])), "remasking is one of"),
        (TalkRequest(text="a", options=DecodingOptions(remasking="best")), "remasking is one of"),
        (TalkRequest(text="a", adapter="it"), "no adapter of that name"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_a_sentence_before_it_takes_a_place(request_, says):
    service = REFUSING
    with pytest.raises(RequestError, match=says):
        service.stream(request_)
    assert service.gate.forwards == service.admission.num_running == 0


REFUSING = tiny_service()


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros(8000, np.float32), "silent"),
        (np.full(8000, np.nan, np.float32), "NaN"),
        (1e6 * np.ones(8000), "up to"),
    ],
)
def test_a_fault_that_shows_only_when_audio_is_decoded_is_a_sentence_too(samples, says):
    with pytest.raises(RequestError, match=says):
        REFUSING.reply(TalkRequest(audio=(16000, samples)))
    wait_until_free(REFUSING)


def test_a_conversation_too_long_for_the_model_says_so():
    service = tiny_service()
    options = DecodingOptions(max_new_tokens=8000)
    with pytest.raises(RequestError, match="shorten the prompt"):
        service.reply(TalkRequest(text=QUESTION, conversation=service.conversation(), options=options))


def test_only_events_of_the_stream_are_yielded():
    with REFUSING.stream(ASK) as stream:
        kinds = {type(event) for event in stream}
    assert kinds <= {TttTextDelta, TttAudioChunk, ReplySummary}


def test_a_text_to_be_read_aloud_is_read_word_for_word_however_long_it_is():
    service = tiny_service(max_new_tokens=200)
    text = "One. Two, three. Four and five?"
    reply = service.reply(TalkRequest("tts", text))
    assert reply.text == text and reply.finished

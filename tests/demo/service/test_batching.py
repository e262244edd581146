"""Several whole replies of one `generate` are those that each question gets alone."""

import numpy as np
from service_fixtures import tiny_service

from spaces_demo.service import DecodingOptions, RequestError, TalkRequest
from spaces_demo.service.batching import answer_together

AUDIO = (16000, 0.1 * np.sin(np.arange(8000) / 9))


def test_a_batch_gives_what_each_question_gets_alone_and_refuses_only_what_cannot_be_answered():
    service = tiny_service()
    asked = [
        TalkRequest(text="What is seven plus five?"),
        TalkRequest(text=""),
        TalkRequest("asr", audio=AUDIO),
        TalkRequest(audio=(16000, np.zeros(8000))),
        TalkRequest("tts", "Hello."),
        TalkRequest(text="Hello.", options=DecodingOptions(seed=1)),
    ]
    answers = answer_together(service, asked)
    for index in (0, 2, 4):
        alone = service.reply(asked[index])
        assert answers[index].text == alone.text
        np.testing.assert_allclose(answers[index].audio, alone.audio, rtol=0, atol=1e-6)
    for index, says in ((1, "no question"), (3, "silent"), (5, "without conversation")):
        assert isinstance(answers[index], RequestError) and says in str(answers[index])


def test_a_batch_of_nothing_is_nothing():
    assert answer_together(tiny_service(), []) == []


def test_a_question_of_too_many_ids_is_refused_alone_and_a_batch_ends_in_time(monkeypatch):
    service = tiny_service()
    asked = []
    generate = service.model.generate
    monkeypatch.setattr(
        service.model, "generate", lambda **kwargs: asked.append(kwargs.get("max_time")) or generate(**kwargs)
    )
    monkeypatch.setattr(service.model.config.text_config, "max_position_embeddings", 420)
    questions = [TalkRequest(text="Hello."), TalkRequest(text="\N{GRINNING FACE}" * 120), TalkRequest("tts", "Hello.")]
    good, too_long, other = answer_together(service, questions)
    assert set(asked) == {service.limits.seconds_per_request}
    assert isinstance(too_long, RequestError) and "positions" in str(too_long)
    assert good.text == service.reply(questions[0]).text and other.text == service.reply(questions[2]).text

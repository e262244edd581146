"""Reading aloud: the reply's text is the given one, whatever the model would rather say."""

import numpy as np
import pytest
import torch
from streaming_fixtures import assert_same_reply, audio_of, text_of

from modeling_ttt import nano_checkpoint
from modeling_ttt.exact_text_ttt import ExactTextLogitsProcessor
from processing_ttt import TttBlockDraft, TttTalker
from processing_ttt.plain_text_ttt import without_drawings
from processing_ttt.reading_ttt import split_sentences

# Names, capitals and words that nano has never spoken.
TEXTS = ("Xavier paid his euros at the ZOO!", "Hello.", "quetzalcoatl sat, sat, sat, and sat: \u00dcber (rarely)")
FOLDER = nano_checkpoint()


@pytest.fixture(scope="module")
def talker():
    return TttTalker.from_pretrained(FOLDER, device="cpu")


def test_the_rules_allow_the_layouts_of_replies_and_nothing_else(talker):
    markers, vocabulary = talker.model.config.markers(), talker.processor.layout.vocabulary
    begin, last = vocabulary.begin_audio_token_id, vocabulary.begin_last_audio_token_id
    end, end_last = vocabulary.end_audio_token_id, vocabulary.end_last_audio_token_id
    code = vocabulary.codes_to_ids([7])[0]
    text = [40, 41, 42]
    prompts = torch.tensor([[1, 2]])
    processor = ExactTextLogitsProcessor(markers, vocabulary.eos_token_id, prompts, [text])
    for reply, allowed in (
        ([], [40]),
        ([40], [41, begin]),
        ([40, begin, code, end], [41]),
        ([40, 41, 42], [last]),
        ([40, begin, code, end, 41, 42, last, code, code, end_last], [vocabulary.eos_token_id]),
    ):
        assert processor.allowed_ids(text, reply) == allowed
        scores = torch.randn(1, 100 + vocabulary.end_last_audio_token_id)
        processed = processor(torch.tensor([[1, 2, *reply]]), scores)
        assert processed.isfinite().nonzero()[:, 1].tolist() == sorted(allowed)
        assert torch.equal(processed[0, allowed], scores[0, allowed])


def test_what_follows_is_proposed_word_by_word_or_as_the_span_before(talker):
    markers, vocabulary = talker.model.config.markers(), talker.processor.layout.vocabulary
    begin, last = vocabulary.begin_audio_token_id, vocabulary.begin_last_audio_token_id
    span = [begin, vocabulary.codes_to_ids([7])[0], vocabulary.end_audio_token_id]
    text, prompt = [40, 41, 42, 43, 44], [1, 2]

    def proposed(reply, word_ends):
        rule = ExactTextLogitsProcessor(markers, vocabulary.eos_token_id, torch.tensor([prompt]), [text], word_ends)
        return rule.proposed_ids(torch.tensor(prompt + reply))

    words = [[False, True, False, True, True]]
    assert proposed([], words) == [40, 41, begin]
    assert proposed([40], words) == [41, begin]
    assert proposed([40, 41], words) == [begin]
    assert proposed([40, 41, 42], words) == []  # the model went on where a span was expected
    assert proposed([40, 41, *span], words) == [42, 43, begin]
    assert proposed([40, 41, *span, 42, 43, *span], words) == [44, last]
    assert proposed([40, 41, *span, 42, 43, *span, 44], words) == [last]
    assert proposed([40, 41, *span, 42, 43, *span, 44, last], words) == []
    # spans that are not behind single words: as many token ids as before the last one
    assert proposed([], None) == []
    assert proposed([40, *span], None) == [41, begin]
    assert proposed([40, 41, 42, *span], words) == [43, 44, last]
    assert proposed([40, 41, *span, 42, *span], words) == [43, begin]


@pytest.mark.parametrize(
    ("with_word_ends", "options"),
    [
        (True, {"entropy_bound": 6.0, "first_block_length": 4, "max_new_tokens": 150}),
        (False, {"entropy_bound": 6.0}),
        (True, {"denoising_steps": 2, "cache_implementation": "static"}),
        (True, {"denoising_steps": 2, "audio_temperature": 0.8, "do_sample": True}),
        (True, {"denoising_steps": 2, "audio_guidance_scale": 0.5, "remasking": "calibrated"}),
    ],
    ids=str,
)
def test_proposals_change_no_id_and_save_forwards(talker, monkeypatch, with_word_ends, options):
    processor, model = talker.processor, talker.model
    inputs = processor.prepare([processor.messages("tts", text=text) for text in TEXTS], reply_texts=TEXTS)
    if not with_word_ends:
        del inputs["reply_word_ends"]

    def generated():
        draws = [torch.Generator().manual_seed(seed) for seed in range(len(TEXTS))]
        return model.generate(**inputs, **options, generator=draws, return_dict_in_generate=True)

    proposing = generated()
    monkeypatch.setattr(ExactTextLogitsProcessor, "proposed_ids", lambda self, input_ids: [])
    plain = generated()
    assert torch.equal(proposing.sequences, plain.sequences)
    assert (proposing.tokens_per_forward >= plain.tokens_per_forward).all()
    if with_word_ends:
        assert proposing.num_forwards < 0.9 * plain.num_forwards


def test_the_ends_of_words_are_found_in_every_text(talker):
    texts = ["Hello there.", " a  bcd\n", "quetzalcoatl"]
    inputs = talker.processor.prepare([talker.processor.messages("tts", text="x")] * 3, reply_texts=texts)
    for text, ids, ends in zip(texts, inputs["reply_text_ids"], inputs["reply_word_ends"], strict=True):
        words, start = [], 0
        for end in (ends.nonzero()[:, 0] + 1).tolist():
            words.append(talker.processor.tokenizer.decode(ids[start:end], skip_special_tokens=True).strip())
            start = end
        assert [word for word in words if word] == text.split()  # spaces may be token ids of their own


@pytest.mark.parametrize("with_drawing", [False, True])
def test_the_text_is_exact_in_a_batch_alone_and_in_a_stream(talker, with_drawing):
    torch.manual_seed(0)
    options = {"do_sample": True, "temperature": 3.0} if with_drawing else {}
    batch = talker.reply_batch(text=list(TEXTS), task="tts", **options)
    assert [reply.text for reply in batch] == list(TEXTS)
    assert all(reply.finished and reply.seconds > 0.2 for reply in batch)
    if with_drawing:
        return
    for text, reply in zip(TEXTS, batch, strict=True):
        alone = talker.reply(text=text, task="tts")
        assert alone.text == text
        np.testing.assert_allclose(alone.audio, reply.audio, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(talker.reply(text=text, task="tts", use_cache=False).audio, alone.audio)
    with talker.stream(text=TEXTS[0], task="tts") as stream:
        assert_same_reply(list(stream), batch[0])


def test_a_long_text_is_read_whole_sentence_by_sentence_and_streamed_as_one_reply(talker):
    text = "A banana is yellow. The sky is blue!\n Is grass green? <|im_end|>"
    reply = talker.reply(text=text, task="tts")
    assert reply.text.split() == text.split() and reply.finished
    parts = talker.reply_batch(text=split_sentences(text), task="tts")
    assert len(parts) == 4 and len(reply.audio) == sum(len(part.audio) for part in parts)
    with talker.stream(text=text, task="tts", drafts=True) as stream:
        events = list(stream)
    assert text_of(events) == reply.text
    np.testing.assert_allclose(audio_of(events), reply.audio, rtol=0, atol=1e-5)  # windows of a longer audio
    assert stream.finished and any(isinstance(event, TttBlockDraft) for event in events)


def test_a_cancelled_reading_stops_before_the_next_sentence(talker):
    with talker.stream(text="One. Two. Three.", task="tts") as stream:
        next(stream)
    assert not stream.finished
    with pytest.raises(ValueError, match="empty"):
        talker.stream(text="  ", task="tts")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("No end", ["No end"]),
        ("It costs 3.50 at Mr. Smith's. Yes.", ["It costs 3.50 at Mr.", "Smith's.", "Yes."]),
        ("  spaced \n out  ", ["spaced", "out"]),
        (" ".join(["word"] * 50), [" ".join(["word"] * 25)] * 2),
        (" ".join(["x" * 74] * 4), [" ".join(["x" * 74] * 2)] * 2),
        ("y" * 200 + " z", ["y" * 200, "z"]),
        ("a, " + " ".join(["b"] * 24) + " c", ["a, " + " ".join(["b"] * 24), "c"]),
    ],
)
def test_sentences_end_at_stops_lines_and_a_number_of_words_or_characters(text, sentences):
    assert split_sentences(text) == sentences
    assert " ".join(split_sentences(text)).split() == text.split()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("```text\nfinetune \u2500\u2500\u2510 writes | a model", "```text\nfinetune  writes  a model"),
        ("* One - two \u2014 three \U0001f600\n  - four", " One - two \u2014 three \n four"),
        ("12 - 5 is 7, 2 * 3 is 6, 20 \u00b0 C", "12 - 5 is 7, 2 * 3 is 6, 20 \u00b0 C"),
        ("R & D + 5 % of it, well-known", "R & D + 5 % of it, well-known"),
        ("\u2500\u2500", "\u2500\u2500"),
    ],
)
def test_words_that_are_not_read_aloud_are_left_out(text, read):
    assert without_drawings(text) == read


def test_frames_around_a_text_are_not_spoken(talker):
    assert talker.reply(text="\u2500\u2500 Hello. \u2502", task="tts").text.split() == ["Hello."]


def test_signs_of_markup_are_not_spoken(talker):
    assert talker.reply(text="# Hi\n- [a **cat**](https://example.org)", task="tts").text.split() == ["Hi", "a", "cat"]
    german = talker.processor.messages("tts", text="x", language="de")[0]["content"]
    assert talker.reply(text="*Ja* http://a.de", task="tts", system_prompt=german).text == "Ja a.de"


def test_a_sentence_that_is_cut_off_ends_the_reply_unfinished(talker):
    text, short = "The sky is blue. Hello.", {"max_new_tokens": 24}  # enough for the second sentence alone
    assert talker.reply(text="Hello.", task="tts", **short).finished
    reply = talker.reply(text=text, task="tts", **short)
    assert not reply.finished and reply.text and "The sky is blue.".startswith(reply.text)
    with talker.stream(text=text, task="tts", **short) as stream:
        assert text_of(list(stream)) == reply.text
    assert not stream.finished


def test_digits_are_read_as_words(talker):
    pytest.importorskip("wetext")
    assert talker.reply(text="7+5 is 12.", task="tts").text == "seven plus five is twelve."
    italian = talker.processor.messages("tts", text="x", language="it")[0]["content"]
    assert talker.reply(text="Sono 12.", task="tts", system_prompt=italian).text == "Sono 12."
    assert talker.reply(text="Sono 12.", task="tts", language="it").text == "Sono 12."


@pytest.mark.parametrize(
    ("text_ids", "text_mask", "message"),
    [
        ([[40]], None, "2 prompts have 1 texts"),
        ([[40], [40]], [[1], [0]], "is empty"),
        ([[40], [41]], None, "different texts"),
        ([[0], [-1]], None, "not text"),
        ([[0, 1], [2, 3]], [[1], [1]], "must all be"),
    ],
)
def test_impossible_texts_are_refused(talker, text_ids, text_mask, message):
    prompts = torch.tensor([[1, 2], [1, 2]])
    mask = None if text_mask is None else torch.tensor(text_mask)
    with pytest.raises(ValueError, match=message):
        talker.model.generate(prompts, reply_text_ids=torch.tensor(text_ids), reply_text_mask=mask, max_new_tokens=3)


def test_generate_itself_reads_the_texts_that_prepare_is_given(talker, monkeypatch):
    processor, model = talker.processor, talker.model
    messages = [processor.messages("tts", text=text) for text in TEXTS]
    inputs = processor.prepare(messages, reply_texts=TEXTS)
    assert inputs["reply_text_ids"].shape == inputs["reply_text_mask"].shape
    ids = model.generate(**inputs, num_return_sequences=2, do_sample=True)
    replies = processor.batch_decode_reply(ids[:, inputs["input_ids"].shape[1] :])
    assert [reply.text for reply in replies] == [text for text in TEXTS for _ in range(2)]
    monkeypatch.setattr(model.generation_config, "eos_token_id", None)
    with pytest.raises(ValueError, match="needs `eos_token_id`"):
        model.generate(**inputs)

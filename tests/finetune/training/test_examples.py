import json
import random

import pytest
from processing_fixtures import tiny_tokenizer

from finetune.data.inline_audio import control_tokens, split_written_audio, written_messages
from finetune.data.schema import make_record, tasks_of
from finetune.training.examples import build_examples
from processing_ttt.layout_ttt import TASKS, TttLayout
from processing_ttt.tasks_ttt import system_prompt
from processing_ttt.vocabulary_ttt import add_ttt_tokens

TOKENIZER = tiny_tokenizer()
VOCABULARY = add_ttt_tokens(TOKENIZER, 64)
LAYOUT = TttLayout(VOCABULARY, text_tokens=3, audio_tokens=5)
RATE = 10.0
WORDS = [
    {"word": word, "start": i * 0.5, "end": i * 0.5 + 0.4} for i, word in enumerate(["uno", "due", "tre", "quattro"])
]
RECORDING = make_record(
    "r1", "recording", text="uno due tre quattro", codes=list(range(20)), words=WORDS, language="it", seconds=2.0
)
DIALOGUE = make_record(
    "d1", "dialogue", text="quanto?", codes=[9, 8, 7], answer_text="uno due tre quattro",
    answer_codes=list(range(20, 40)), answer_words=WORDS,
)  # fmt: skip


def encode(text):
    return TOKENIZER.encode(text, add_special_tokens=False)


def codes_of(ids):
    return [i - VOCABULARY.audio_code_offset for i in ids if VOCABULARY.is_code(i)]


def build(row, task, **kwargs):
    return build_examples(row, task, TOKENIZER, LAYOUT, RATE, **kwargs)


def learnt(example):
    return [i for i, label in zip(example["input_ids"], example["labels"], strict=True) if label == i]


# ----------------------------------------------------------------------------------------------- tasks of one recording


def test_asr_is_given_the_audio_and_learns_the_text():
    example = build(RECORDING, "asr")
    reply = [*encode("uno due tre quattro"), VOCABULARY.eos_token_id]
    prompt = LAYOUT.build_prompt(
        TOKENIZER, "asr", codes=range(20), system_prompt=TASKS["asr"].system_prompt + " Language: it."
    )
    assert example == {"input_ids": prompt + reply, "labels": [-100] * len(prompt) + reply}


def test_tts_reads_the_text_and_learns_text_and_audio():
    example = build(RECORDING, "tts")
    parsed = LAYOUT.parse_reply(learnt(example))
    assert TOKENIZER.decode(parsed.text_ids) == "uno due tre quattro"
    assert parsed.codes == list(range(20)) and parsed.finished and parsed.num_dropped == 0


@pytest.mark.parametrize(("aligned", "spans"), [(True, 4), (1, 4), (2, 2), (3, 2)])
def test_aligned_speech_gives_each_group_of_words_its_own_span(aligned, spans):
    parsed = LAYOUT.parse_reply(learnt(build(RECORDING, "tts", aligned=aligned)))
    assert len(parsed.spans) == spans and parsed.codes == list(range(20))
    if aligned == 2:  # the cut is between 0.9 and 1.0 s: at 0.95 s, code 9.5, rounded to the even 10
        assert parsed.spans[0].codes == list(range(10))


def test_aligned_speech_without_word_times_is_an_error_with_the_way_out():
    with pytest.raises(ValueError, match="--align proportional"):
        build(RECORDING | {"words": None}, "tts", aligned=1)


@pytest.mark.parametrize("seed", range(20))
def test_an_interleaved_document_says_each_word_once_written_or_spoken(seed):
    words = [{"word": f"w{i}", "start": i * 0.2, "end": i * 0.2 + 0.2} for i in range(32)]
    row = make_record("long", "recording", text=" ".join(w["word"] for w in words), codes=list(range(64)), words=words)
    example = build(row, "interleaved", rng=random.Random(seed))
    assert example["input_ids"] == example["labels"]
    parsed = LAYOUT.parse_reply(example["input_ids"])
    assert parsed.finished and parsed.num_dropped == 0
    written = {int(word[1:]) for word in TOKENIZER.decode(parsed.text_ids).split()}
    spoken = {code // 2 for code in parsed.codes}  # word i is codes 2i and 2i + 1
    assert written | spoken == set(range(32)) and not written & spoken
    assert written and spoken


def test_an_interleaved_document_is_cut_by_its_row_alone_unless_randomness_is_given():
    assert build(RECORDING, "interleaved") == build(RECORDING, "interleaved")


# ---------------------------------------------------------------------------------------------------------- other kinds


def test_chat_is_given_the_question_and_learns_the_spoken_answer():
    example = build(DIALOGUE, "chat", aligned=1)
    prompt = LAYOUT.build_prompt(TOKENIZER, "chat", codes=[9, 8, 7])
    assert example["input_ids"][: len(prompt)] == prompt and set(example["labels"][: len(prompt)]) == {-100}
    parsed = LAYOUT.parse_reply(learnt(example))
    assert parsed.codes == list(range(20, 40)) and len(parsed.spans) == 4


def test_chat_with_a_written_question_has_its_words_in_the_prompt():
    example = build(DIALOGUE | {"codes": None}, "chat")
    assert example["input_ids"][: -len(learnt(example))] == LAYOUT.build_prompt(TOKENIZER, "chat", "quanto?")


def test_text_and_caption_rows_learn_their_answers_as_text():
    question = make_record("t", "text", text="What is seven plus five?", answer_text="twelve")
    assert TOKENIZER.decode(learnt(build(question, "text"))[:-1]) == "twelve"
    caption = make_record("c", "caption", codes=[1, 2], answer_text="a bell", text="What do you hear?")
    example = build(caption, "caption")
    assert TOKENIZER.decode(learnt(example)[:-1]) == "a bell" and codes_of(example["input_ids"]) == [1, 2]
    assert codes_of(build(caption | {"text": None}, "caption")["input_ids"]) == [1, 2]


def test_a_document_is_learnt_whole_with_its_audio_as_spans():
    row = make_record(
        "x", "document", text="Hello <|begin_of_audio|><|audio_3|><|audio_4|><|end_of_audio|> there<|audio_5|>"
    )
    example = build(row, "document")
    parsed = LAYOUT.parse_reply(example["input_ids"])
    assert example["labels"] == example["input_ids"]
    assert [span.codes for span in parsed.spans] == [[3, 4], [5]]
    assert [span.is_last for span in parsed.spans] == [False, True]
    assert TOKENIZER.decode(parsed.text_ids) == "Hello  there"


# ------------------------------------------------------------------------------------------------------------- messages


def messages_row(*messages):
    return make_record("m", "messages", messages=json.dumps([{"role": r, "content": c} for r, c in messages]))


def test_one_turn_of_messages_is_the_same_example_as_the_layouts():
    spoken = "<|audio_9|><|audio_8|><|audio_7|>"
    reply = LAYOUT.build_reply(encode("uno due tre quattro"), range(20, 40))
    written = TOKENIZER.decode(reply)
    row = messages_row(
        ("system", TASKS["chat"].system_prompt),
        ("user", f"<|begin_of_audio|>{spoken}<|end_of_audio|>"),
        ("assistant", written),
    )
    assert build(row, "messages") == build(DIALOGUE, "chat")
    bare = messages_row(("user", spoken), ("assistant", written))  # no markers around the audio, no system message
    assert build(bare, "messages") == build(DIALOGUE, "chat")


def test_every_turn_of_the_assistant_is_learnt_and_nothing_else():
    turns = [("user", "What is seven plus five?"), ("assistant", "twelve"), ("user", "Hello"), ("assistant", "there")]
    example = build(messages_row(*turns), "messages")
    rendered = f"<|im_start|>system\n{TASKS['chat'].system_prompt}<|im_end|>\n" + "".join(
        f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns
    )
    assert [*example["input_ids"], *encode("\n")] == encode(rendered)
    eos = VOCABULARY.eos_token_id
    assert learnt(example) == [*encode("twelve"), eos, *encode("there"), eos]


def test_a_conversation_that_ends_with_the_user_is_an_error():
    with pytest.raises(ValueError, match="must end with one of the assistant"):
        build(messages_row(("assistant", "Hello"), ("user", "Hello")), "messages")


# ------------------------------------------------------------------------------------------------- prompts and the rest


def test_only_other_languages_than_the_default_one_are_tagged():
    assert system_prompt("asr") == system_prompt("asr", "en") == TASKS["asr"].system_prompt
    assert system_prompt("asr", "it") == TASKS["asr"].system_prompt + " Language: it."
    assert system_prompt("asr", "it", default_language="it") == TASKS["asr"].system_prompt
    assert system_prompt("tts", "ru", {"tts": "Say it."}) == "Say it. Language: ru."


def test_a_row_teaches_its_own_tasks_only():
    assert tasks_of(RECORDING) == ("asr", "tts", "interleaved")
    assert tasks_of(RECORDING | {"words": None}) == ("asr", "tts")
    assert tasks_of(DIALOGUE) == ("chat",)
    with pytest.raises(ValueError, match="cannot teach 'chat', only asr, tts"):
        build(RECORDING, "chat")


def test_written_audio_is_taken_apart_whatever_their_markers():
    a, b = "<|begin_of_audio|>", "<|end_of_audio_new|>"
    assert split_written_audio("no audio") == [("no audio", [])]
    assert split_written_audio(f"x{a}<|audio_1|>{b}y<|begin_of_quad|><|audio_2|><|end_of_audio_span_last|>z") == [
        ("x", [1]), ("y", [2]), ("z", []),
    ]  # fmt: skip
    assert split_written_audio(f"{a}<|audio_1|>{b}{a}<|audio_2|>{b}") == [("", [1]), ("", [2])]
    assert split_written_audio("") == []
    with pytest.raises(ValueError, match="mask_token"):
        split_written_audio("x<|mask_token|>")


def test_control_tokens_are_found_and_look_alikes_are_not():
    assert control_tokens("a <|audio_3|> b <|im_end|>") == ["<|audio_3|>", "<|im_end|>"]
    assert control_tokens("<|audio_x|> <audio_1> |>") == []


def test_a_conversation_written_out_with_its_markers_is_read_as_messages():
    text = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nthere\nyou<|im_end|>\n"
    assert written_messages(text) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "there\nyou"},
    ]
    assert written_messages("Hello") is None
    assert written_messages(text + "more") is None

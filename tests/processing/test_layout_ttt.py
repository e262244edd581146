import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processing_fixtures import tiny_tokenizer

from processing_ttt.layout_ttt import TASKS, TttLayout, aligned_groups, chat_template, task_messages
from processing_ttt.vocabulary_ttt import add_ttt_tokens

TOKENIZER = tiny_tokenizer()
NUM_TEXT = len(TOKENIZER)
VOCABULARY = add_ttt_tokens(TOKENIZER, 64)
LAYOUT = TttLayout(VOCABULARY)
A, Q = VOCABULARY.begin_audio_token_id, VOCABULARY.begin_last_audio_token_id
NEW, LAST = VOCABULARY.end_audio_token_id, VOCABULARY.end_last_audio_token_id
EOS, PAD = VOCABULARY.eos_token_id, VOCABULARY.pad_token_id
C = VOCABULARY.audio_code_offset

text_ids = st.lists(st.integers(0, NUM_TEXT - 1), max_size=60)
code_lists = st.lists(st.integers(0, 63), max_size=120)
layouts = st.builds(
    lambda text, audio: TttLayout(VOCABULARY, text_tokens=text, audio_tokens=audio),
    st.integers(1, 15),
    st.integers(1, 30),
)


def code_ids(*codes):
    return [C + code for code in codes]


# ------------------------------------------------------------------------------------------------------------- building


def test_thirteen_text_tokens_alternate_with_twenty_six_codes_and_the_rest_of_the_audio_is_the_last_span():
    text, codes = list(range(30)), [index % 64 for index in range(100)]
    ids = code_ids(*codes)
    assert LAYOUT.build_reply(text, codes) == [
        *range(13), A, *ids[:26], NEW,
        *range(13, 26), A, *ids[26:52], NEW,
        *range(26, 30), Q, *ids[52:], LAST,
    ]  # fmt: skip


def test_text_that_ends_at_a_boundary_is_followed_by_the_last_span_at_once():
    layout = TttLayout(VOCABULARY, text_tokens=2, audio_tokens=3)
    assert layout.build_reply([1, 2], [0, 1, 2, 3, 4]) == [1, 2, Q, *code_ids(0, 1, 2, 3, 4), LAST]


def test_codes_that_run_out_first_end_in_a_last_span_and_the_text_goes_on():
    layout = TttLayout(VOCABULARY, text_tokens=2, audio_tokens=3)
    expected = [1, 2, A, *code_ids(0, 1, 2), NEW, 3, 4, Q, *code_ids(3), LAST, 5, 6, 7]
    assert layout.build_reply([1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3]) == expected


def test_codes_that_run_out_at_a_boundary_make_the_span_before_it_the_last():
    layout = TttLayout(VOCABULARY, text_tokens=2, audio_tokens=3)
    assert layout.build_reply([1, 2, 3, 4], [0, 1, 2]) == [1, 2, Q, *code_ids(0, 1, 2), LAST, 3, 4]


def test_a_reply_without_text_is_one_last_span_and_without_codes_its_text():
    assert LAYOUT.build_reply([], [5]) == [Q, C + 5, LAST]
    assert LAYOUT.build_reply(list(range(40))) == list(range(40))
    assert LAYOUT.build_reply([], []) == []


def test_aligned_groups_keep_their_own_audio_and_only_the_last_has_the_last_markers():
    groups = [([1, 2], [10, 11]), ([3], [12]), ([4, 5], [13, 14, 15])]
    expected = [1, 2, A, *code_ids(10, 11), NEW, 3, A, *code_ids(12), NEW, 4, 5, Q, *code_ids(13, 14, 15), LAST]
    assert LAYOUT.build_aligned_reply(groups) == expected


def test_an_aligned_group_without_codes_has_no_span():
    groups = [([1], [10]), ([2], []), ([3], [11]), ([4], [])]
    assert LAYOUT.build_aligned_reply(groups) == [1, A, *code_ids(10), NEW, 2, 3, Q, *code_ids(11), LAST, 4]


@pytest.mark.parametrize("token_id", [A, Q, EOS, PAD, C, VOCABULARY.mask_token_id, -1])
def test_markers_and_audio_in_a_replys_text_are_an_error(token_id):
    with pytest.raises(ValueError, match="is not text"):
        LAYOUT.build_reply([1, token_id], [1])


def test_a_layout_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="text_tokens"):
        TttLayout(VOCABULARY, text_tokens=0)


# -------------------------------------------------------------------------------------------------------------- parsing


@given(layouts, text_ids, code_lists)
def test_parsing_a_built_reply_gives_its_text_and_codes_back(layout, text, codes):
    parsed = layout.parse_reply([*layout.build_reply(text, codes), EOS])
    assert (parsed.text_ids, parsed.codes) == (text, codes)
    assert parsed.finished and parsed.num_dropped == 0
    assert all(span.closed for span in parsed.spans)
    assert [span.is_last for span in parsed.spans] == [False] * (len(parsed.spans) - 1) + [True] * bool(parsed.spans)


@given(st.lists(st.tuples(text_ids, code_lists), max_size=6))
def test_parsing_an_aligned_reply_gives_the_groups_back(groups):
    parsed = LAYOUT.parse_reply(LAYOUT.build_aligned_reply(groups))
    assert parsed.text_ids == [token_id for text, _ in groups for token_id in text]
    assert [span.codes for span in parsed.spans] == [codes for _, codes in groups if codes]
    ends = np.cumsum([len(text) for text, _ in groups]).tolist()
    assert [span.text_end for span in parsed.spans] == [
        end for end, (_, codes) in zip(ends, groups, strict=True) if codes
    ]
    assert not parsed.finished


@given(layouts, text_ids, code_lists, st.data())
def test_an_unfinished_reply_gives_a_beginning_of_its_text_and_codes(layout, text, codes, data):
    reply = [*layout.build_reply(text, codes), EOS]
    parsed = layout.parse_reply(reply[: data.draw(st.integers(0, len(reply) - 1))])
    assert parsed.text_ids == text[: len(parsed.text_ids)]
    assert parsed.codes == codes[: len(parsed.codes)]
    assert not parsed.finished and parsed.num_dropped == 0
    assert all(span.closed for span in parsed.spans[:-1])


@settings(max_examples=300)
@given(st.lists(st.one_of(st.integers(NUM_TEXT - 3, VOCABULARY.vocab_size + 3), st.integers(-(2**40), 2**40))))
def test_damaged_input_never_fails_and_every_id_is_accounted_for(ids):
    parsed = LAYOUT.parse_reply(ids)
    seen = ids[: ids.index(EOS)] if EOS in ids else ids
    markers = sum(token_id in (A, Q, PAD, NEW, LAST) for token_id in seen)
    kept = len(parsed.text_ids) + len(parsed.codes)
    assert kept == sum(0 <= token_id < NUM_TEXT or C <= token_id < C + 64 for token_id in seen)
    assert len(seen) - kept - markers <= parsed.num_dropped <= len(seen) - kept
    assert parsed.finished == (EOS in ids)


def test_leftover_masks_stray_markers_and_missing_ends_are_dropped_or_mended():
    mask, user_end = VOCABULARY.mask_token_id, VOCABULARY.end_user_audio_token_id
    ids = [NEW, 1, A, C + 1, mask, C + 2, 2, Q, C + 3, user_end, A, C + 4, NEW, LAST, C + 5, 10**9, -5]
    parsed = LAYOUT.parse_reply(ids)
    assert parsed.text_ids == [1, 2]
    assert [(span.codes, span.text_end, span.is_last, span.closed) for span in parsed.spans] == [
        ([1, 2], 1, False, False),
        ([3], 2, True, False),
        ([4], 2, False, True),
        ([5], 2, False, False),
    ]
    assert parsed.num_dropped == 6  # NEW, mask, user_end, LAST and the two ids outside the vocabulary


def test_what_follows_the_end_of_a_reply_is_not_part_of_it():
    parsed = LAYOUT.parse_reply([1, EOS, PAD, 2, C])
    assert parsed.text_ids == [1] and parsed.codes == [] and parsed.finished


def test_a_character_split_between_two_segments_of_text_is_whole_again():
    text = TOKENIZER.encode("é", add_special_tokens=False)
    assert len(text) == 2  # two bytes, two tokens: the corpus has no é
    parsed = LAYOUT.parse_reply(LAYOUT.build_aligned_reply([(text[:1], [1]), (text[1:], [2])]))
    assert TOKENIZER.decode(parsed.text_ids) == "é"


# ---------------------------------------------------------------------------------------------------- prompts, examples


def test_a_prompt_is_the_chat_framing_with_the_users_audio_between_its_markers():
    ids = LAYOUT.build_prompt(TOKENIZER, "asr", codes=[3, 60])
    assert TOKENIZER.decode(ids) == (
        f"<|im_start|>system\n{TASKS['asr'].system_prompt}<|im_end|>\n<|im_start|>user\n"
        "<|begin_of_audio|><|audio_3|><|audio_60|><|end_of_audio|><|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_conversation_without_system_prompt_is_a_chat():
    messages = task_messages("chat", text="Hello")
    with_prompt = TOKENIZER.apply_chat_template(messages, chat_template=chat_template(), tokenize=False)
    without = TOKENIZER.apply_chat_template(messages[1:], chat_template=chat_template(), tokenize=False)
    assert with_prompt == without
    other = TOKENIZER.apply_chat_template(messages[1:], chat_template=chat_template("It's\n\\new"), tokenize=False)
    assert other == with_prompt.replace(TASKS["chat"].system_prompt, "It's\n\\new")


def test_labels_are_the_reply_with_its_markers_and_end_and_nothing_of_the_prompt():
    example = LAYOUT.build_example(TOKENIZER, "tts", text="Hello", reply_text="Hello", reply_codes=[1, 2, 3])
    prompt = LAYOUT.build_prompt(TOKENIZER, "tts", text="Hello")
    reply = [*LAYOUT.build_reply(TOKENIZER.encode("Hello"), [1, 2, 3]), EOS]
    assert example["input_ids"] == prompt + reply
    assert example["labels"] == [-100] * len(prompt) + reply


def test_an_example_from_aligned_groups_reads_as_the_whole_text():
    groups = [("Seven plus", [1, 2]), (" five.", [3])]
    example = LAYOUT.build_example(TOKENIZER, "chat", codes=[9], reply_groups=groups)
    reply = [label for label in example["labels"] if label != -100]
    assert TOKENIZER.decode(reply) == (
        "Seven plus<|begin_of_audio|><|audio_1|><|audio_2|><|end_of_audio_new|> five."
        "<|begin_of_quad|><|audio_3|><|end_of_audio_span_last|><|im_end|>"
    )
    assert TOKENIZER.decode(LAYOUT.parse_reply(reply).text_ids) == "Seven plus five."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "song", "text": "a"}, "Unknown task 'song': choose one of chat, asr"),
        ({"task": "asr", "text": "a"}, "needs audio"),
        ({"task": "tts", "codes": [1]}, "text only"),
        ({"task": "text"}, "needs text"),
        ({"task": "chat"}, "needs text or audio"),
        ({"task": "text", "text": "a", "reply_text": "a", "reply_codes": [1]}, "has text only"),
        ({"task": "tts", "text": "a", "reply_text": "a"}, "has text and audio"),
        ({"task": "text", "text": "a"}, "either as"),
        ({"task": "text", "text": "a", "reply_text": "a", "reply_groups": [("a", [1])]}, "either as"),
    ],
)
def test_an_example_that_does_not_fit_its_task_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        LAYOUT.build_example(TOKENIZER, **arguments)


def test_placeholders_and_waveforms_must_be_equally_many():
    with pytest.raises(ValueError, match=r"1 <\|audio\|> placeholders, but audio for 0"):
        LAYOUT.build_prompt(TOKENIZER, "chat", text="<|audio|>")


# ------------------------------------------------------------------------------------------------------- aligned groups


def test_an_utterance_is_cut_half_way_between_the_words_of_two_groups():
    words = [("Seven", 0.1, 0.4), ("plus", 0.4, 0.62), ("five", 0.7, 1.0), ("is", 1.0, 1.2), ("twelve.", 1.2, 1.9)]
    groups = aligned_groups(words, list(range(50)), frame_rate=25)
    # cuts at (0.62 + 0.7) / 2 = 0.66 s = frame 16.5 -> 16 (round half to even), and 1.2 s = frame 30
    assert groups == [
        ("Seven plus", list(range(16))),
        (" five is", list(range(16, 30))),
        (" twelve.", list(range(30, 50))),
    ]


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=20),
    st.integers(20, 60),
    st.integers(1, 4),
    st.sampled_from([12.5, 25.0]),
)
def test_groups_share_all_codes_whatever_the_word_times_say(times, num_codes, words_per_group, frame_rate):
    words = [(f"w{index}", time, time + 0.2) for index, time in enumerate(times)]
    groups = aligned_groups(words, range(num_codes), frame_rate, words_per_group)
    assert [code for _, codes in groups for code in codes] == list(range(num_codes))
    assert all(codes for _, codes in groups)
    assert "".join(text for text, _ in groups) == " ".join(word for word, _, _ in words)


def test_fewer_codes_than_groups_is_an_error():
    with pytest.raises(ValueError, match="1 codes cannot be divided among 2 groups"):
        aligned_groups([("a", 0, 1), ("b", 1, 2)], [1], 25, words_per_group=1)

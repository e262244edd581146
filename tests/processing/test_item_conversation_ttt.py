"""Messages that are added, cut and removed: the next reply is that of a conversation that never was otherwise."""

import re

import numpy as np
import pytest
from item_conversation_fixtures import conversation_of
from streaming_fixtures import tiny_talker

from processing_ttt import TttConversation

WORDS = ("Seven", None, " plus five is", None, " twelve", None)
SHORT = {"max_new_tokens": 30, "block_length": 8, "denoising_steps": 3, "max_span_length": 12}
AUDIO = {"array": 0.1 * np.sin(np.arange(8000) / 9).astype(np.float32), "sampling_rate": 16000}


@pytest.fixture
def talker():
    return tiny_talker()


def test_turns_equal_those_of_a_conversation_of_turns(talker):
    turns = TttConversation(talker.model, talker.processor, **SHORT)
    items, codes = conversation_of(talker), talker.processor.encode_audio(AUDIO)
    for text, audio in (("Hello there", None), (None, AUDIO), ("Hello", AUDIO)):
        expected = turns.say(text, audio)
        items.add("user", text, None if audio is None else codes)
        assert items.say(**SHORT).text == expected.text
        assert items._cached_ids == turns.ids[0].tolist()


def test_markers_in_a_text_are_text(talker):
    items = conversation_of(talker)
    plain = items.rendered([items.add("user", "Hello"), items.add("assistant", "Hello")])
    marked = items.rendered(
        [items.add("user", "<|im_end|><|begin_of_audio|><|audio|>"), items.add("assistant", "<|im_end|><|audio_3|>")]
    )
    markers = talker.processor.tokenizer.all_special_ids
    assert [token_id for token_id in marked if token_id in markers] == [
        token_id for token_id in plain if token_id in markers
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, ""),
        (0.1, "Seven"),
        (0.8, "Seven"),
        (0.801, "Seven"),  # rounded up by a client
        (0.82, "Seven plus five is"),
        (1.6, "Seven plus five is"),
        (2.4, "whole"),
        (9.0, "whole"),
    ],
)
def test_the_last_word_of_a_cut_reply_is_the_last_one_that_was_played_in_part(talker, queries, seconds, text):
    items = conversation_of(talker)
    items.add("user", "Hello there")
    reply = items.say(**talker.script(*WORDS))
    item = items.items[-1]
    spans = [time.end for time in reply.timings]
    assert spans == pytest.approx([0.8, 1.6, 2.4])  # 20 codes each
    text = reply.text if text == "whole" else text
    assert items.truncate(item, seconds) == text
    items.add("user", "What is seven plus five?")
    queries.clear()
    items.say(**SHORT)
    first_query = queries[0]
    other = conversation_of(talker, items.items[:-1])
    queries.clear()
    other.say(**SHORT)
    assert items._cached_ids == other._cached_ids and first_query < queries[0]
    assert items.cached_usage.total > 0 == other.cached_usage.total
    assert talker.processor.tokenizer.decode(items._cached_ids).count("twelve") == (seconds > 1.6)


def test_a_removed_message_leaves_no_trace(talker):
    items = conversation_of(talker)
    for text in ("Hello there", "What is seven?"):
        items.add("user", text)
        items.say(**SHORT)
    items.remove(items.items[0])
    items.remove(items.items[0])
    items.add("user", "Hello")
    other = conversation_of(talker, items.items)
    items.say(**SHORT)
    other.say(**SHORT)
    assert items._cached_ids == other._cached_ids


def test_audio_that_begins_alike_is_computed_as_a_whole(talker, queries):
    items = conversation_of(talker)
    first = items.add("user", codes=[1, 2, 3, 4, 5, 6])
    items.say(**SHORT)
    items.remove(items.items[-1])
    items.remove(first)
    items.add("user", codes=[1, 2, 3, 4, 9, 9])
    other = conversation_of(talker, items.items)
    items.say(**SHORT)
    other.say(**SHORT)
    assert items._cached_ids == other._cached_ids and items.output.sequences.shape == other.output.sequences.shape
    assert items.cached_usage.audio == 0 < items.cached_usage.text


def test_a_reply_that_fails_leaves_an_empty_message_and_an_exact_conversation(talker):
    class Broken(Exception):
        pass

    def fail(ids, scores):
        raise Broken

    items = conversation_of(talker)
    items.add("user", "Hello there")
    items.say(**SHORT)
    items.add("user", "Hello")
    item = items.begin_reply()
    with pytest.raises(Broken):
        items.say(**SHORT, logits_processor=[fail])
    assert item.ids == [] and not item.is_open
    items.remove(item)
    other = conversation_of(talker, items.items)
    items.say(**SHORT)
    other.say(**SHORT)
    assert items._cached_ids == other._cached_ids


def test_messages_that_come_while_a_reply_is_generated_follow_it(talker):
    items = conversation_of(talker)
    items.add("user", "Hello there")
    reply = items.begin_reply()
    items.add("user", "What is seven?")
    items.say(**SHORT)
    assert [item.role for item in items.items] == ["user", "assistant", "user"] and reply.ids


def test_a_reply_of_text_only_has_no_span_and_its_own_prompt(talker):
    items = conversation_of(talker)
    items.add("user", "Hello there")
    items.has_audio = False
    reply = items.say(**SHORT)
    assert len(reply.audio) == 0 and reply.text
    assert items.reply_usage.audio == 0
    prompt = talker.processor.prepare(talker.processor.messages("text", "Hello there"))["input_ids"][0].tolist()
    assert items._cached_ids[: len(prompt)] == prompt


def test_the_oldest_messages_leave_a_full_context(talker):
    items = conversation_of(talker)
    limit = talker.model.config.text_config.max_position_embeddings
    words = ["Hello there " * (limit // 8)] * 3 + ["What is seven?"]
    for text in words:
        items.add("user", text)
    items.instructions = "Be brief."
    items.say(**SHORT)
    text = talker.processor.tokenizer.decode(items._cached_ids)
    assert len(items._cached_ids) <= limit and "Be brief." in text and "What is seven?" in text
    assert 0 < text.count("<|im_start|>user") < 4 and len(items.items) == 5


def test_usage_counts_text_and_audio(talker):
    items = conversation_of(talker)
    items.add("user", codes=[1, 2, 3])
    items.say(**talker.script("Seven", None))
    assert items.prompt_usage.audio == 3
    assert items.reply_usage.audio == 21  # 20 codes and the end marker
    assert items.prompt_usage.total + items.reply_usage.total == len(items._cached_ids)


@pytest.mark.parametrize("text", ["Hello", "\nHello", " Hello \n", "<|im_end|>"])
def test_messages_are_those_of_one_fresh_prompt(talker, text):
    items, processor = conversation_of(talker), talker.processor
    items.add("system", "Be brief.")
    items.add("user", text, processor.encode_audio(AUDIO))
    items.add("user", text)
    system = processor.messages("chat", text="?")[0]
    messages = [
        system,
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "audio", "audio": AUDIO}]},
        {"role": "user", "content": text},
    ]
    assert items.rendered(items.items) == processor.prepare(messages)["input_ids"][0].tolist()


def test_the_chat_template_of_the_checkpoint_writes_the_prompt(talker):
    processor = talker.processor
    processor.chat_template = (
        "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + ':\n' -}}"
        "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
        "{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}{%- endif -%}"
        "{{- '<|im_end|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant:\n' -}}{%- endif -%}"
    )
    items = conversation_of(talker)
    for text in ("Hello there", "What is seven?"):
        items.add("user", text)
        items.say(**talker.script("Seven", None))
    text = processor.tokenizer.decode(items._cached_ids)
    assert re.sub(r"<\|(audio|begin|end)_\w+\|>", "", text).endswith(
        "<|im_end|><|im_start|>user:\nHello there<|im_end|><|im_start|>assistant:\nSeven<|im_end|>"
        "<|im_start|>user:\nWhat is seven?<|im_end|><|im_start|>assistant:\nSeven<|im_end|>"
    )
    processor.chat_template = processor.chat_template.replace("'<|im_start|>assistant:\n'", "'<|im_start|>assistant:'")
    with pytest.raises(ValueError, match="have 2 replies, but the chat template writes 0"):
        items.say(**SHORT)

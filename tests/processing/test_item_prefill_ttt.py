"""A question that is computed while it is spoken: the reply is that of the whole question, and little is left to do."""

import numpy as np
import pytest
from item_conversation_fixtures import conversation_of
from streaming_fixtures import tiny_talker

BLOCK = {"span_attention": "block", "span_block_length": 4}
SHORT = {"max_new_tokens": 30, "denoising_steps": 3, "max_span_length": 12}
TAIL = 13  # token ids after the audio of a question


@pytest.fixture(params=[{}, BLOCK], ids=["full", "block"])
def talker(request):
    return tiny_talker(**request.param)


def codes_of(count, seed=0):
    return np.random.default_rng(seed).integers(0, 16, count).tolist()


def spoken(conversation, codes, step=3):
    """Prefill a question as it comes."""
    for count in range(0, len(codes), step):
        conversation.prefill(codes[:count])


def assert_as_fresh(talker, conversation):
    """The next reply is that of a conversation that had all messages at once."""
    other = conversation_of(talker, conversation.items)
    conversation.say(**SHORT)
    other.say(**SHORT)
    assert conversation._cached_ids == other._cached_ids
    assert conversation.items[-1].ids and conversation.prompt_usage == other.prompt_usage


def test_replies_are_those_of_questions_that_came_at_once(talker):
    conversation = conversation_of(talker)
    for turn in range(3):
        codes = codes_of(20 + 3 * turn, seed=turn)
        spoken(conversation, codes)
        if turn:
            conversation.prefill(codes, is_whole=True)
        conversation.add("user", codes=codes)
        assert_as_fresh(talker, conversation)


@pytest.mark.parametrize("count", [10, 100, 200])
def test_what_is_left_after_a_question_is_what_was_open(talker, queries, count):
    conversation, codes = conversation_of(talker), codes_of(count)
    spoken(conversation, codes)
    is_block = talker.model.config.span_block_length is not None
    before = sum(queries)
    queries.clear()
    conversation.add("user", codes=codes)
    conversation.say(**SHORT)
    # The positions of a span see each other; under block-causal attention only those of its last blocks are open.
    assert queries[0] <= TAIL + (2 * 4 if is_block else count)
    assert queries[0] + before == conversation.prompt_usage.total


@pytest.mark.parametrize("count", [10, 100, 200])
def test_a_question_that_is_probably_whole_leaves_one_position(talker, queries, count):
    conversation, codes = conversation_of(talker), codes_of(count)
    conversation.prefill(codes, is_whole=True)
    conversation.prefill(codes, is_whole=True)
    assert len(queries) == 1
    conversation.add("user", codes=codes)
    conversation.say(**SHORT)
    assert queries[1] == 1
    assert conversation.cached_usage.total == conversation.prompt_usage.total - 1


def test_a_question_that_went_on_or_never_came_leaves_no_trace(talker):
    conversation = conversation_of(talker)
    conversation.prefill(codes_of(9), is_whole=True)  # a pause
    spoken(conversation, codes_of(20))
    conversation.prefill(codes_of(22), is_whole=True)  # then it was cleared, and another one came
    spoken(conversation, codes_of(20, seed=5))
    conversation.add("user", codes=codes_of(20, seed=5))
    assert_as_fresh(talker, conversation)
    spoken(conversation, codes_of(20))
    conversation.add("user", "Hello")  # was written instead
    assert_as_fresh(talker, conversation)


def test_what_changes_before_the_question_counts(talker):
    conversation = conversation_of(talker)
    conversation.add("user", codes=codes_of(7))
    conversation.say(**SHORT)
    spoken(conversation, codes_of(20, seed=1))
    conversation.truncate(conversation.items[1], 0.3)
    spoken(conversation, codes_of(21, seed=1))
    conversation.prefill(codes_of(21, seed=1), is_whole=True)
    conversation.instructions = "Be brief."
    conversation.add("user", codes=codes_of(21, seed=1))
    conversation.remove(conversation.items[0])
    other = conversation_of(talker, conversation.items)
    other.instructions = "Be brief."
    conversation.say(**SHORT)
    other.say(**SHORT)
    assert conversation._cached_ids == other._cached_ids


def test_a_question_too_long_for_the_context_is_left_to_its_reply(talker, queries):
    conversation, codes = conversation_of(talker), codes_of(500)
    conversation.prefill(codes, is_whole=True, max_new_tokens=30)
    assert queries == []
    conversation.add("user", codes=codes)
    with pytest.raises(ValueError, match="shorten the audio"):
        conversation.say(**SHORT)


def test_the_oldest_messages_leave_a_full_context_while_the_question_is_spoken(talker):
    conversation = conversation_of(talker)
    for seed in range(4):
        spoken(conversation, codes_of(120, seed), step=30)
        conversation.prefill(codes_of(120, seed), is_whole=True, max_new_tokens=30)
        conversation.add("user", codes=codes_of(120, seed))
        assert_as_fresh(talker, conversation)
    assert conversation.prompt_usage.total < 512


def test_a_forward_that_fails_leaves_an_exact_conversation(talker, monkeypatch):
    conversation = conversation_of(talker)
    conversation.add("user", codes=codes_of(7))
    conversation.say(**SHORT)
    layer = talker.model.model.layers[-1]
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            conversation.prefill(codes_of(20, seed=1), is_whole=True)
    conversation.add("user", codes=codes_of(20, seed=1))
    assert_as_fresh(talker, conversation)

"""
What `generate` hands back: sequences and what they took, the cache to go on with, and the stream while it decodes.
"""

import pytest
import torch
from modeling_fixtures import (
    AUDIO_START,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    END,
    END_LAST,
    EOS,
    FIRST_WORD,
    MASK,
    conversation,
    left_padded,
    script,
    speaking,
    tiny_model,
)
from transformers import DynamicCache, StaticCache
from transformers.generation.streamers import BaseStreamer

W, C = FIRST_WORD, CODE_0
SPEECH = {"block_length": 5, "denoising_steps": 3, "max_new_tokens": 20}
ROWS = [[W, W + 1], [*conversation(1, 9), W], [W, BEGIN, C + 4, C + 5], [W + 2, BEGIN_LAST]]


def decode(model, prompt=(W, W + 1), **kwargs):
    kwargs = SPEECH | {"logits_processor": speaking()} | kwargs
    return model.generate(torch.tensor([prompt]), **kwargs)


# --------------------------------------------------------------------------------------------------------------- output


@pytest.mark.parametrize("use_cache", [True, False])
def test_forwards_are_counted_as_the_backbone_sees_them(model, forwards, use_cache):
    out = decode(model, return_dict_in_generate=True, use_cache=use_cache)
    assert out.num_forwards == len(forwards)
    num_new = int(out.attention_mask.sum()) - 2
    assert out.tokens_per_forward.tolist() == [pytest.approx(num_new / len(forwards))]
    assert (out.cache is None) == (not use_cache)


def test_a_reply_takes_one_forward_per_word_and_its_steps_per_block(endless, forwards):
    processor = script(W + 1, BEGIN, W + 2, EOS)
    ids = decode(endless, [W], logits_processor=processor, max_span_length=10)[0].tolist()
    assert len(ids) == 1 + 2 + 10 + 1 + 2
    words, blocks, steps = 4, 2, 3
    assert len(forwards) == words + blocks * steps
    # The prompt; a word; the begin marker and a block; the span's two blocks; the closed span; a word.
    assert forwards == [1, 1, 1 + 5, 5, 5, 10, 10, 10, 11, 1]


def test_tokens_per_forward_of_each_row_ends_with_the_row(model):
    out = model.generate(
        **left_padded([[W], [W + 1, W + 2]]),
        **SPEECH,
        return_dict_in_generate=True,
        logits_processor=[_row_that_starts_with_padding_ends],
    )
    assert out.num_forwards == 20
    assert out.tokens_per_forward.tolist() == [1.0, 1.0]
    assert out.attention_mask.sum(1).tolist() == [2, 22]


def _row_that_starts_with_padding_ends(ids, scores):
    forced = torch.full_like(scores, -torch.inf)
    forced[torch.arange(len(ids)), torch.where(ids[:, 0] == 0, EOS, W + 4)] = 0.0
    return forced


def test_the_attention_mask_marks_the_ids_of_each_row(model):
    inputs = left_padded(ROWS)
    out = model.generate(**inputs, **SPEECH, logits_processor=speaking(), return_dict_in_generate=True)
    width = inputs["input_ids"].shape[1]
    assert torch.equal(out.attention_mask[:, :width], inputs["attention_mask"])
    assert (out.attention_mask[:, width:].diff(dim=1) <= 0).all(), "ones, then zeros"
    assert (out.sequences[out.attention_mask == 0] == 0).all()
    lengths = out.attention_mask.sum(1)
    for row, prompt, length in zip(out.sequences, ROWS, lengths, strict=True):
        assert row[width - len(prompt) :][: int(length)].tolist() == decode(model, prompt)[0].tolist()


# --------------------------------------------------------------------------------------------------- cache and going on


def first_turn(model, limit, rows=ROWS):
    return model.generate(
        **left_padded(rows),
        **SPEECH | {"max_new_tokens": limit},
        logits_processor=speaking(),
        return_dict_in_generate=True,
    )


def second_turn(model, out, words, cache):
    """Say something more after the first turn, whose rows end with padding of different lengths."""
    more = torch.full((len(out.sequences), words), W + 3)
    return model.generate(
        torch.cat([out.sequences, more], 1),
        attention_mask=torch.cat([out.attention_mask, torch.ones_like(more)], 1),
        cache=cache,
        logits_processor=speaking(),
        **SPEECH,
    )


@pytest.mark.parametrize("limit", [4, 11, 20])
def test_the_returned_cache_holds_what_a_fresh_forward_computes(model, limit):
    out = first_turn(model, limit)
    cache = out.cache
    width = cache.get_seq_length()
    # Never less than the prompts of the rows that end in words; open spans are not final.
    assert 0 < width <= out.sequences.shape[1]
    mask = out.attention_mask
    with torch.no_grad():
        fresh = model(out.sequences, mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), use_cache=True).cache
    real = mask[:, :width].bool()
    for ours, theirs in zip(cache.layers, fresh.layers, strict=True):
        for name in ("keys", "values"):
            kept = getattr(ours, name).transpose(1, 2)[real]
            torch.testing.assert_close(
                kept, getattr(theirs, name)[:, :, :width].transpose(1, 2)[real], atol=2e-5, rtol=2e-5
            )


@pytest.mark.parametrize("limit", [4, 11, 20])
@pytest.mark.parametrize("words", [0, 2])
def test_going_on_with_the_cache_equals_starting_over(model, limit, words):
    rows = ROWS if words else ROWS[:1]  # without new words, a row that has ended cannot go on
    out = first_turn(model, limit, rows)
    assert second_turn(model, out, words, out.cache).tolist() == second_turn(model, out, words, None).tolist()


def test_a_row_that_ended_early_may_go_on_with_the_cache_of_the_batch(model):
    out = model.generate(
        **left_padded([[W], [W + 1, W + 2]]),
        **SPEECH,
        return_dict_in_generate=True,
        logits_processor=[_row_that_starts_with_padding_ends],
    )
    assert second_turn(model, out, 2, out.cache).tolist() == second_turn(model, out, 2, None).tolist()


def test_the_callers_own_cache_is_filled_so_that_it_may_go_on(model):
    cache = DynamicCache()
    ids = left_padded(ROWS)
    reply = model.generate(**ids, **SPEECH, logits_processor=speaking(), cache=cache)
    expected = first_turn(model, SPEECH["max_new_tokens"])
    assert reply.tolist() == expected.sequences.tolist()
    assert second_turn(model, expected, 2, cache).tolist() == second_turn(model, expected, 2, None).tolist()


def test_a_finished_part_of_the_prompt_is_not_computed_again(model, forwards):
    prompt = conversation(2, 30)
    with torch.no_grad():
        cache = model(torch.tensor([[*prompt, W]]), use_cache=True).cache
    forwards.clear()
    decode(model, [*prompt, W, W], cache=cache, max_new_tokens=1)
    assert forwards == [1]


def test_a_cache_that_cannot_be_used_is_an_error_that_says_so(model):
    ids = torch.tensor([[W, W + 1]])
    with torch.no_grad():
        cache = model(ids, use_cache=True).cache
        inside = model(torch.tensor([[W, BEGIN, C, C]]), use_cache=True).cache
    with pytest.raises(ValueError, match="pass the whole sequence"):
        model.generate(ids, attention_mask=torch.ones(1, 2), cache=cache)
    with pytest.raises(ValueError, match="still open"):
        decode(model, [W, BEGIN, C, C, C], cache=inside)
    with pytest.raises(ValueError, match="DynamicCache"):
        decode(model, cache=StaticCache(config=model.config, max_cache_len=64))
    with pytest.raises(ValueError, match="cache_implementation"):
        decode(model, cache_implementation="offloaded")


# ------------------------------------------------------------------------------------------------------------- streamer


class Recorder(BaseStreamer):
    def __init__(self):
        self.puts, self.ends = [], 0

    def put(self, value):
        assert self.ends == 0
        self.puts.append(value)

    def end(self):
        self.ends += 1


def test_a_streamer_is_given_the_prompt_each_word_each_block_and_each_appended_end_marker(endless):
    streamer = Recorder()
    ids = decode(
        endless, [W], logits_processor=script(W + 1, BEGIN_LAST, W + 2, EOS), max_span_length=7, streamer=streamer
    )
    assert [tuple(put.shape) for put in streamer.puts] == [(1, 1), (1,), (1,), (5,), (2,), (1,), (1,), (1,)]
    assert streamer.puts[0].tolist() == [[W]]
    assert [int(put) for put in streamer.puts if put.shape == (1,)] == [W + 1, BEGIN_LAST, END_LAST, W + 2, EOS]
    assert torch.cat([put.flatten() for put in streamer.puts]).tolist() == ids[0].tolist()
    assert streamer.ends == 1


def test_a_streamer_is_given_blocks_as_cut_at_their_end_marker():
    cut = 0
    for seed in range(4):
        model, streamer = tiny_model(seed=seed), Recorder()
        ids = decode(model, streamer=streamer)
        assert torch.cat([put.flatten() for put in streamer.puts]).tolist() == ids[0].tolist()
        assert streamer.ends == 1
        for put in streamer.puts[1:]:
            assert put.ndim == 1 and put.device.type == "cpu" and put.dtype == torch.long
            if put[0] >= AUDIO_START:
                assert len(put) <= 5
                cut += len(put) < 5 and int(put[-1]) in (END, END_LAST)
            else:
                assert len(put) == 1
    assert cut >= 2


def test_a_streamer_is_ended_once_also_when_decoding_fails(model):
    def fail(ids, scores):
        raise RuntimeError("broken rule")

    streamer = Recorder()
    with pytest.raises(RuntimeError, match="broken rule"):
        decode(model, logits_processor=[fail], streamer=streamer)
    assert streamer.ends == 1


def test_a_streamer_is_ended_also_when_the_options_are_refused(model):
    streamer = Recorder()
    with pytest.raises(ValueError, match="block_length"):
        decode(model, block_length=0, streamer=streamer)
    assert streamer.ends == 1 and streamer.puts == []


@pytest.mark.parametrize(
    "options",
    [
        {"input_ids": torch.full((2, 3), W)},
        {"input_ids": torch.full((1, 3), W), "num_return_sequences": 2, "do_sample": True},
    ],
)
def test_a_streamer_follows_one_row_only(model, options):
    streamer = Recorder()
    with pytest.raises(ValueError, match="one sequence"):
        model.generate(**options, **SPEECH, streamer=streamer)
    assert streamer.ends == 1 and streamer.puts == []


class DraftRecorder(Recorder):
    """Also takes drafts, and can stop asking for more."""

    def __init__(self, cancel_after: int | None = None):
        super().__init__()
        self.drafts, self.errors, self.cancel_after = [], [], cancel_after

    @property
    def is_cancelled(self):
        return self.cancel_after is not None and len(self.puts) > self.cancel_after

    def put_draft(self, value, confidence):
        self.drafts.append((len(self.puts), value, confidence))

    def fail(self, error):
        assert self.ends == 0
        self.errors.append(error)


def test_a_streamer_that_takes_drafts_sees_a_block_after_each_step_with_its_confidence(endless):
    streamer = DraftRecorder()
    decode(endless, [W], logits_processor=script(W + 1, BEGIN_LAST, EOS), max_span_length=5, streamer=streamer)
    places, drafts, confidences = zip(*streamer.drafts, strict=True)
    block = streamer.puts[3]
    assert places == (3, 3, 3) and len(block) == 5
    assert [int((draft == MASK).sum()) for draft in drafts] == [3, 1, 0]
    before = torch.full_like(block, MASK)
    for draft, confidence in zip(drafts, confidences, strict=True):
        assert torch.equal(draft[draft != MASK], block[draft != MASK])
        # By the default rule a step reveals the most confident proposals; positions revealed before do not count.
        revealed, masked = confidence[(before == MASK) & (draft != MASK)], confidence[draft == MASK]
        assert all(0 < value <= 1 for value in [*revealed, *masked])
        assert not len(masked) or revealed.min() >= masked.max()
        before = draft


def test_a_cancelled_streamer_ends_decoding_before_the_next_forward(endless, forwards):
    streamer = DraftRecorder(cancel_after=2)
    ids = decode(endless, [W], logits_processor=script(W + 1, BEGIN_LAST, EOS), streamer=streamer)
    assert ids.tolist() == [[W, W + 1, BEGIN_LAST]] and len(forwards) == 2 and streamer.ends == 1


def test_a_streamer_learns_why_decoding_failed(model):
    def fail(ids, scores):
        raise RuntimeError("broken rule")

    streamer = DraftRecorder()
    with pytest.raises(RuntimeError, match="broken rule"):
        decode(model, logits_processor=[fail], streamer=streamer)
    assert [str(error) for error in streamer.errors] == ["broken rule"] and streamer.ends == 1

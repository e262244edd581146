"""Prompts that are computed before all of them is known: the reply is that of the whole prompt."""

import pytest
import torch
from modeling_fixtures import conversation, query_lengths, speaking, tiny_model

OPTIONS = {"max_new_tokens": 40, "denoising_steps": 3, "max_span_length": 12, "return_dict_in_generate": True}
WINDOWS = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}


def cuts_of(ids, config):
    """Where a prompt may be cut: in text, and under block-causal attention after whole blocks of a span."""
    cuts, inside = [], 0
    for position in range(1, len(ids)):
        inside = inside + 1 if ids[position - 1] >= config.audio_token_start_id else 0
        is_inside = inside and ids[position] >= config.audio_token_start_id
        if not is_inside or (config.span_block_length and inside % config.span_block_length == 0):
            cuts.append(position)
    return cuts


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attn_implementation": "eager"},
        {"text_config": WINDOWS},
        {"span_attention": "block", "span_block_length": 2},
    ],
    ids=["full", "eager", "windows", "block"],
)
def test_a_prompt_in_pieces_is_the_prompt_at_once(changes):
    model = tiny_model(**changes)
    ids = torch.tensor([conversation(seed=3, length=60)])
    cuts = cuts_of(ids[0].tolist(), model.config)
    assert len(cuts) > 10
    whole = model.generate(ids, logits_processor=speaking(), **OPTIONS)
    lengths, cache = query_lengths(model), None
    for cut in (*cuts[::3], cuts[-1]):
        cache = model.prefill(ids[:, :cut], cache)
        assert cache.get_seq_length() == cut
    assert sum(lengths) == cuts[-1]
    lengths.clear()
    pieces = model.generate(ids, cache=cache, logits_processor=speaking(), **OPTIONS)
    assert lengths[0] == ids.shape[1] - cuts[-1]
    assert pieces.sequences.tolist() == whole.sequences.tolist()
    assert pieces.num_forwards == whole.num_forwards
    for mine, theirs in zip(pieces.cache.layers, whole.cache.layers, strict=True):
        torch.testing.assert_close(mine.keys, theirs.keys, atol=1e-4, rtol=0)
        torch.testing.assert_close(mine.values, theirs.values, atol=1e-4, rtol=0)

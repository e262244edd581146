"""Sequences with copies, for the tests of the objective `two_stream`."""

import collections

import torch
from modeling_fixtures import AUDIO_START, BEGIN, BEGIN_LAST, CODE_0, END, END_LAST, END_USER, EOS, FIRST_WORD, MASK

from modeling_ttt.two_streams_ttt import CopyRule, draw_copies

NO, W, C = -100, FIRST_WORD, CODE_0
RULE = CopyRule(AUDIO_START, MASK, (END, END_LAST), block_length=4)
BLOCKS = {"span_attention": "block", "span_block_length": 4}


def example(codes=(3, 9), shift=0):
    """A question with audio; a word and a span for each number of codes, the last one closed as the last."""
    prompt = [W, BEGIN, C, C + 1, C + 2, END_USER]
    reply = []
    for number, count in enumerate(codes):
        is_last = number == len(codes) - 1
        reply += [W + number, BEGIN_LAST if is_last else BEGIN, *(C + (shift + 3 * i) % 20 for i in range(count))]
        reply += [END_LAST if is_last else END]
    reply.append(EOS)
    return prompt + reply, [NO] * len(prompt) + reply


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def taken_apart(copies):
    """Copies as (first position, ids, labels) each."""
    found = collections.defaultdict(lambda: ([], [], []))
    for row in zip(copies.copy_ids, copies.position_ids, copies.input_ids, copies.labels, strict=True):
        for values, value in zip(found[row[0]], row[1:], strict=True):
            values.append(value)
    assert list(found) == list(range(1, len(found) + 1))
    for positions, _, _ in found.values():
        assert positions == list(range(positions[0], positions[0] + len(positions)))
    return [(positions[0], ids, labels) for positions, ids, labels in found.values()]


def drawn(ids, labels, rule=RULE, seed=0, room=None):
    return taken_apart(draw_copies(ids, labels, rule, seeded(seed), room))


def rows_with_copies(samples, rule=RULE, behind_each=False):
    """One packed row of samples (ids, labels): copies behind the row, or behind each sample."""
    parts = []
    for number, (ids, labels) in enumerate(samples):
        clean = (ids, labels, list(range(len(ids))), [number] * len(ids), [0] * len(ids))
        found = draw_copies(ids, labels, rule, seeded(number))
        copies = (found.input_ids, found.labels, found.position_ids, [number] * len(found.copy_ids), found.copy_ids)
        parts += [(2 * number if behind_each else 0, clean), (2 * number + 1 if behind_each else 1, copies)]
    parts.sort(key=lambda part: part[0])
    names = ("input_ids", "labels", "position_ids", "sample_ids", "copy_ids")
    return {name: torch.tensor([[x for _, part in parts for x in part[i]]]) for i, name in enumerate(names)}


SAMPLES = [example((3, 9)), example((6,), shift=5), ([W, W + 1, EOS], [NO, W + 1, EOS])]

"""
Text-to-Talk once more, slow and obvious: the reference of the tests of `modeling_ttt`.

Written from the method's definition, with for-loops, one row at a time, without padding, without a cache and without
a line of the package: the backbone is transformers' own causal language model in eager attention, under an additive
mask that is filled in position by position.
"""

import copy
import math
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

IGNORED = -100


# ------------------------------------------------------------------------------------------------------------ attention


def spans(ids: list[int], audio_start: int, samples: list[int] | None = None) -> list[int]:
    """Number the maximal runs of audio ids; -1 for text. A run ends where a sample ends."""
    numbers, count = [], 0
    for i, token_id in enumerate(ids):
        if token_id < audio_start:
            numbers.append(-1)
            continue
        is_first = i == 0 or ids[i - 1] < audio_start or (samples is not None and samples[i] != samples[i - 1])
        count += is_first
        numbers.append(count - 1)
    return numbers


def may_see(ids: list[int], audio_start: int, block_length: int | None = None) -> list[list[bool]]:
    """Query i sees key j if j is not later, or if both lie in the same audio span, or in the same block of it."""
    span = spans(ids, audio_start)
    block = [0 if block_length is None else (i - span.index(span[i])) // block_length for i in range(len(ids))]
    return [
        [j <= i or (span[i] >= 0 and (span[i], block[i]) == (span[j], block[j])) for j in range(len(ids))]
        for i in range(len(ids))
    ]


class SlowTtt:
    """The same weights in transformers' own causal language model."""

    def __init__(self, model: PreTrainedModel):
        text_config = copy.deepcopy(model.config.text_config)
        self.config = model.config
        self.causal_lm = AutoModelForCausalLM.from_config(text_config, attn_implementation="eager").eval()
        self.causal_lm.load_state_dict(model.state_dict())

    @torch.no_grad()
    def logits(self, ids: list[int], visible: list[list[bool]] | None = None) -> torch.FloatTensor:
        """Score one sequence `(length, vocab_size)`, under the modality-aware mask unless another one is given."""
        if visible is None:
            visible = may_see(ids, self.config.audio_token_start_id, self.config.span_block_length)
        hidden = torch.finfo(torch.float32).min
        mask = torch.tensor([[[[0.0 if sees else hidden for sees in row] for row in visible]]])  # (1, 1, queries, keys)
        return self.causal_lm(torch.tensor([ids]), attention_mask=mask, use_cache=False).logits[0]

    # ------------------------------------------------------------------------------------------------------- decoding

    def generate(
        self,
        prompt: list[int],
        max_new_tokens: int,
        block_length: int,
        denoising_steps: int,
        max_span_length: int | None = None,
        text_rule: Callable[[torch.LongTensor, torch.FloatTensor], torch.FloatTensor] | None = None,
        **rules: float | str,
    ) -> list[int]:
        """
        Decode greedily by the published procedure: the whole sequence again for every id and every denoising step.
        """
        config = self.config
        begins = (config.begin_audio_token_id, config.begin_last_audio_token_id)
        ends = (config.end_audio_token_id, config.end_last_audio_token_id)
        ids = list(prompt)
        limit = len(prompt) + max_new_tokens

        span_start = len(ids)
        while span_start > 0 and ids[span_start - 1] >= config.audio_token_start_id:
            span_start -= 1
        ends_in_open_span = span_start < len(ids) and ids[-1] not in ends
        speaks = ids[-1] in begins or ends_in_open_span

        while len(ids) < limit:
            if not speaks:
                token_id = self._next_text_id(ids, text_rule)
                ids.append(token_id)
                if token_id == config.eos_token_id:
                    return ids
                speaks, span_start = token_id in begins, len(ids)
                continue
            room = limit - len(ids)
            if config.span_block_length is not None:  # the prompt may end inside a block
                block_length = config.span_block_length - (len(ids) - span_start) % config.span_block_length
            if max_span_length is not None:
                room = min(room, max_span_length - (len(ids) - span_start))
            block = self._denoise(ids, span_start, block_length, max(room, 0), denoising_steps, **rules)
            for token_id in block:
                ids.append(token_id)
                if token_id in ends:
                    speaks = False
                    break
            if speaks and max_span_length is not None and len(ids) - span_start >= max_span_length:
                speaks = False
                if len(ids) < limit:
                    ids.append(ends[begins.index(ids[span_start - 1])])
        return ids

    def _next_text_id(self, ids: list[int], text_rule: Callable | None) -> int:
        scores = self.logits(ids)[-1]
        for token_id in range(self.config.audio_token_start_id, self.config.vocab_size):
            scores[token_id] = -math.inf
        if text_rule is not None:
            scores = text_rule(torch.tensor([ids]), scores[None])[0]
        return max(range(len(scores)), key=lambda token_id: float(scores[token_id]))

    def _denoise(
        self,
        ids: list[int],
        span_start: int,
        block_length: int,
        room: int,
        steps: int,
        remasking: str = "low_confidence",
        confidence_threshold: float | None = None,
        entropy_bound: float | None = None,
        audio_guidance_scale: float = 0.0,
    ) -> list[int]:
        config = self.config
        eligible = [config.audio_code_offset + code for code in range(config.audio_codebook_size)]
        eligible += [config.end_audio_token_id, config.end_last_audio_token_id]
        mask = config.mask_token_id
        length = min(block_length, room)
        block = [mask] * length
        steps = min(steps, length)
        prior = {}  # id -> its mean probability in a block of masks after a begin marker alone
        if remasking == "calibrated":
            alone = (
                self.logits([ids[span_start - 1], *[mask] * (config.span_block_length or block_length)])[1:, eligible]
                .softmax(-1)
                .mean(0)
            )
            prior = dict(zip(eligible, alone.tolist(), strict=True))
        for step in range(steps):
            scores = self.logits(ids + block)[len(ids) :, eligible]
            if audio_guidance_scale:
                unguided = self.logits([mask] * len(ids) + block)[len(ids) :, eligible]
                scores = unguided + (audio_guidance_scale + 1) * (scores - unguided)
            facts = {}  # masked position -> its proposal and its priority
            for position in range(length):
                if block[position] == mask:
                    probs = scores[position].softmax(-1).tolist()
                    best = max(probs)
                    token_id = eligible[probs.index(best)]
                    entropy = -sum(p * math.log(p) for p in probs if p > 0)
                    priority = best / prior[token_id] if remasking == "calibrated" else best
                    facts[position] = (priority, token_id, best, entropy)
            ordered = sorted(facts, key=lambda position: (-facts[position][0], position))
            count = length // steps + (1 if step < length % steps else 0)
            chosen = ordered[:count]
            if confidence_threshold is not None:
                chosen = {ordered[0], *(p for p in ordered if facts[p][2] >= confidence_threshold)}
            if entropy_bound is not None:
                chosen = []
                for position in ordered:
                    entropies = [facts[p][3] for p in [*chosen, position]]
                    if sum(entropies) - max(entropies) > entropy_bound:
                        break
                    chosen.append(position)
            for position in facts if step == steps - 1 else chosen:
                block[position] = facts[position][1]
            if mask not in block:
                break
        return block


# ---------------------------------------------------------------------------------------------------------------- loss


def joint_loss(
    logits: torch.FloatTensor,
    labels: list[list[int]],
    audio_mask: list[list[bool]],
    mask_prob: list[list[float]],
    audio_start: int,
    samples: list[list[int]] | None = None,
) -> tuple[float, float]:
    """Text loss and audio loss of a batch `(rows, length, vocab_size)`, sample by sample and target by target."""
    text_losses, audio_losses = [], []
    for row, row_labels in enumerate(labels):
        row_samples = samples[row] if samples is not None else [0] * len(row_labels)
        for sample in sorted({number for number in row_samples if number >= 0}):
            text, audio, num_maskable = [], [], 0
            for i, label in enumerate(row_labels):
                if row_samples[i] != sample or label == IGNORED:
                    continue
                if label >= audio_start:
                    num_maskable += 1
                    if audio_mask[row][i]:
                        audio.append(_nats(logits[row, i], label) / mask_prob[row][i])
                elif i > 0 and row_samples[i - 1] == sample:
                    text.append(_nats(logits[row, i - 1], label))
            text_losses.append(sum(text) / len(text) if text else 0.0)
            audio_losses.append(sum(audio) / num_maskable if num_maskable else 0.0)
    return sum(text_losses) / len(text_losses), sum(audio_losses) / len(audio_losses)


def two_stream_loss(
    slow: SlowTtt, samples: list[tuple[list[int], list[int], list[tuple[int, list[int], list[int]]]]]
) -> tuple[float, float]:
    """
    Text loss and audio loss of samples (ids, labels, copies), a sequence of its own for each copy: the clean ids before
    it, and itself. A copy is its first position, its ids with masks, and its labels.
    """
    text_losses, audio_losses = [], []
    for ids, labels, copies in samples:
        clean = slow.logits(ids)
        text = [
            _nats(clean[i - 1], label)
            for i, label in enumerate(labels)
            if i > 0 and label != IGNORED and label < slow.config.audio_token_start_id
        ]
        audio = []
        for position, copy_ids, copy_labels in copies:
            scores = slow.logits(ids[:position] + copy_ids)[position:]
            audio += [_nats(scores[i], label) for i, label in enumerate(copy_labels) if label != IGNORED]
        text_losses.append(sum(text) / len(text) if text else 0.0)
        audio_losses.append(sum(audio) / len(audio) if audio else 0.0)
    return sum(text_losses) / len(text_losses), sum(audio_losses) / len(audio_losses)


def _nats(scores: torch.FloatTensor, label: int) -> float:
    scores = scores.double()
    return float(torch.logsumexp(scores, dim=-1) - scores[label])

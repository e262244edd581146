"""
The baseline without any order: the whole reply is diffused, its text too.

A masked diffusion language model (LLaDA, arXiv 2502.09992) on the same ids, differing from Text-to-Talk in one thing
only: text has no order either. The reply, from its first id to `<|im_end|>`, is one span: its positions see the
prompt and one another; the prompt is as in Text-to-Talk. Learnt is the same weighted cross-entropy at masked
positions (`joint_loss` with every id taken for audio). How long a reply will be is unknown when it is decoded, and a
model that always saw it whole would read it from the number of masks. So half of the examples are cut at 30 to 90 %
of the reply, as SST does with the last span, and the others are filled with `<|im_end|>` to whole blocks, as LLaDA's
are. Decoding is Text-to-Talk's with `<|im_end|>` as the only end marker: blocks of masks, the most confident ids first,
until a finished block holds the end.

Depends on ids, the model's backbone and the samplers. Independent of texts and audio.
"""

import random
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from finetune.training.collate import IGNORE_INDEX, Example
from modeling_ttt import TttForConditionalGeneration
from modeling_ttt.denoising_rules_ttt import FixedSchedule, LowConfidence, Proposal
from modeling_ttt.masking_ttt import CACHE_NAME, audio_span_ids, modality_aware_mask
from modeling_ttt.objective_ttt import Corruption, corrupt, joint_loss
from modeling_ttt.samplers_ttt import is_settled, propose, reveal_schedule


def truncate_reply(example: Example, rng: random.Random) -> Example:
    """
    Cut the reply at 30 to 90 % of its tokens, text or audio.

    Args:
        example (`dict`): `input_ids` and `labels`.
        rng (`random.Random`): Draws the cut.

    Returns:
        `dict`: A new example, whose reply has at least one token and no end.
    """
    start = next(i for i, label in enumerate(example["labels"]) if label != IGNORE_INDEX)
    cut = start + max(1, round(rng.uniform(0.3, 0.9) * (len(example["labels"]) - start)))
    return {"input_ids": example["input_ids"][:cut], "labels": example["labels"][:cut]}


def fill_reply(example: Example, block_length: int, end: int) -> Example:
    """
    Repeat the reply's end until it fills whole blocks, which is what decoding opens.

    Args:
        example (`dict`): `input_ids` and `labels`, with a reply that ends.
        block_length (`int`): Masks of a block in decoding.
        end (`int`): `<|im_end|>`.

    Returns:
        `dict`: A new example.
    """
    reply_length = sum(label != IGNORE_INDEX for label in example["labels"])
    ends = [end] * (-reply_length % block_length)
    return {"input_ids": example["input_ids"] + ends, "labels": example["labels"] + ends}


def reply_span_ids(
    input_ids: torch.Tensor, is_reply: torch.Tensor, audio_token_start_id: int, sample_ids: torch.Tensor
) -> torch.Tensor:
    """
    Number what sees itself whole: audio of the prompt, and each sample's reply.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids.
        is_reply (`torch.BoolTensor` of shape `(batch, length)`): Positions of replies.
        audio_token_start_id (`int`): First id of the audio alphabet.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): Samples of packed rows.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: Numbers unique in the row, -1 for the prompt's text.
    """
    span_ids = audio_span_ids(input_ids, audio_token_start_id, sample_ids)
    return torch.where(is_reply, input_ids.shape[1] + sample_ids, span_ids)


def corrupt_reply(batch: dict[str, torch.Tensor], mask_token_id: int, generator: torch.Generator) -> Corruption:
    """
    Mask ids of each sample's reply with its own probability, as `corrupt` does with audio; no strategy applies.

    Args:
        batch (`dict`): Packed rows: clean `input_ids`, `labels` and `sample_ids`.
        mask_token_id (`int`): The absorbing state.
        generator (`torch.Generator`): Source of all randomness.

    Returns:
        [`Corruption`].
    """
    is_reply = batch["labels"] != IGNORE_INDEX
    return corrupt(
        batch["input_ids"],
        batch["labels"],
        torch.where(is_reply, batch["sample_ids"], -1),
        mask_token_id=mask_token_id,
        clean_audio_prob=0.0,
        prefix_preservation_prob=0.0,
        sample_ids=batch["sample_ids"],
        generator=generator,
    )


def nar_loss(model: TttForConditionalGeneration, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """
    Weighted cross-entropy at the masked positions of the replies, in nats.

    Args:
        model (`TttForConditionalGeneration`): Its backbone and projection are used.
        batch (`dict`): Packed rows, noised: also `audio_mask`, `mask_prob` and `position_ids`.

    Returns:
        `torch.FloatTensor` of shape `()`: Mean over the samples.
    """
    is_reply = batch["labels"] != IGNORE_INDEX
    span_ids = reply_span_ids(batch["input_ids"], is_reply, model.audio_token_start_id, batch["sample_ids"])
    embeds = model.get_input_embeddings()(batch["input_ids"])
    mask = modality_aware_mask(model.model.config, embeds, span_ids, position_ids=batch["position_ids"])
    hidden = model.model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=batch["position_ids"], use_cache=False
    ).last_hidden_state
    losses = joint_loss(
        model.lm_head(hidden),
        batch["labels"],
        batch["audio_mask"],
        batch["mask_prob"],
        audio_token_start_id=0,  # every id of the reply is learnt as audio is
        sample_ids=batch["sample_ids"],
    )
    return losses.loss


@dataclass
class NarOutput:
    """
    Decoded replies.

    Args:
        replies (`list[list[int]]`): Ids of each row's reply, `<|im_end|>` included where it came.
        num_forwards (`list[int]`): Forward passes of each row until its end, the prompt's included.
    """

    replies: list[list[int]]
    num_forwards: list[int]


@torch.inference_mode()
def decode_nar(
    model: TttForConditionalGeneration,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    max_new_tokens: int,
    block_length: int,
    denoising_steps: int,
) -> NarOutput:
    """
    Decode replies block by block.

    Args:
        model (`TttForConditionalGeneration`): In eval mode.
        input_ids (`torch.LongTensor` of shape `(batch, prompt)`): Left-padded prompts.
        attention_mask (`torch.LongTensor` of shape `(batch, prompt)`): 0 marks padding.
        max_new_tokens (`int`): Ids of a reply, at most.
        block_length (`int`): Masks of a block.
        denoising_steps (`int`): Forward passes over a block, at most: a block that is known up to its end is left.

    Returns:
        [`NarOutput`].
    """
    config, is_real = model.config, attention_mask.bool()
    count = len(input_ids)
    cache = DynamicCache()
    embeds = model.get_input_embeddings()(input_ids)
    span_ids = audio_span_ids(input_ids, model.audio_token_start_id).masked_fill(~is_real, -1)
    mask = modality_aware_mask(model.model.config, embeds, span_ids, attention_mask)
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    model.model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, **{CACHE_NAME: cache}, use_cache=True
    )

    ineligible = [config.mask_token_id, config.pad_token_id, config.audio_token_start_id]
    reply = input_ids.new_empty(count, 0)
    forwards = [1] * count
    running = torch.ones(count, dtype=torch.bool, device=input_ids.device)
    while running.any() and reply.shape[1] < max_new_tokens:
        length = min(block_length, max_new_tokens - reply.shape[1])
        block = input_ids.new_full((count, length), config.mask_token_id)
        for reveals in reveal_schedule(length, denoising_steps):
            open_rows = running & ~is_settled(block, config.mask_token_id, [config.eos_token_id])
            if not open_rows.any():
                break
            canvas = torch.cat([reply, block], dim=1)
            hidden = _run_reply(model, canvas, is_real, cache)[:, -length:]
            logits = model.lm_head(hidden).float()
            logits[..., ineligible] = -torch.inf
            revealed, ids = _reveal(logits, block == config.mask_token_id, reveals)
            block = torch.where(revealed & open_rows[:, None], ids, block)
            forwards = [n + bool(is_open) for n, is_open in zip(forwards, open_rows.tolist(), strict=True)]
        reply = torch.cat([reply, block], dim=1)
        running = running & ~(block == config.eos_token_id).any(-1)
    return NarOutput([_up_to(row, config.eos_token_id) for row in reply.tolist()], forwards)


def _run_reply(
    model: TttForConditionalGeneration, canvas: torch.Tensor, prompt_is_real: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Run the reply so far over the prompt's cache, `(batch, canvas, hidden)`, and leave the cache as it was."""
    count, length = canvas.shape
    prompt_length = prompt_is_real.shape[1]
    keys = torch.cat([prompt_is_real, prompt_is_real.new_ones(count, length)], dim=1)
    sees = keys[:, None, None].expand(count, 1, length, prompt_length + length)  # the prompt and the whole reply
    positions = prompt_is_real.sum(-1, keepdim=True) + torch.arange(length, device=canvas.device)
    hidden = model.model(
        inputs_embeds=model.get_input_embeddings()(canvas),
        attention_mask=sees,
        position_ids=positions,
        **{CACHE_NAME: cache},
        use_cache=True,
    ).last_hidden_state
    cache.crop(-length)
    return hidden


def _reveal(logits: torch.Tensor, is_masked: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the most confident masked positions and their ids, both `(batch, block)`."""
    rows, length = is_masked.shape
    lengths, generators = [length] * rows, [None] * rows
    proposed = propose(logits, lengths, 0.0, generators)
    proposal = Proposal(is_masked, proposed, logits.log_softmax(-1), lengths, generators)
    counts = torch.full((rows,), count, device=logits.device)
    return FixedSchedule()(proposal, LowConfidence()(proposal), counts), proposed


def _up_to(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids

"""Tiny models, ids and rules for the tests of `modeling_ttt`: no network, no GPU."""

import torch
from transformers import AutoConfig, LogitsProcessor, LogitsProcessorList

from modeling_ttt import TttConfig, TttForConditionalGeneration

# A joint vocabulary small enough that denoised blocks of a random model often hold an end marker.
PAD, EOS, BEGIN, BEGIN_LAST, END_USER = 0, 1, 2, 3, 4
FIRST_WORD, AUDIO_START, CODE_0, CODEBOOK_SIZE = 5, 12, 13, 20
MASK, END, END_LAST, VOCAB_SIZE = 33, 34, 35, 36

BACKBONES = ("qwen2", "qwen3", "llama")


def tiny_config(backbone: str = "qwen2", text_config: dict | None = None, **overrides) -> TttConfig:
    """A Text-to-Talk config over a two-layer backbone of the given family."""
    backbone_fields = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
        "bos_token_id": None,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    fields = {
        "audio_token_start_id": AUDIO_START,
        "audio_code_offset": CODE_0,
        "audio_codebook_size": CODEBOOK_SIZE,
        "mask_token_id": MASK,
        "begin_audio_token_id": BEGIN,
        "begin_last_audio_token_id": BEGIN_LAST,
        "end_audio_token_id": END,
        "end_last_audio_token_id": END_LAST,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "initializer_range": 0.5,
    }
    backbone_config = AutoConfig.for_model(backbone, **(backbone_fields | (text_config or {})))
    return TttConfig(text_config=backbone_config, **(fields | overrides))


def tiny_model(
    backbone: str = "qwen2", seed: int = 0, attn_implementation: str = "sdpa", **overrides
) -> TttForConditionalGeneration:
    """A randomly initialised model in eval mode; large initial weights make its greedy choices vary."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TttForConditionalGeneration._from_config(
            tiny_config(backbone, **overrides), attn_implementation=attn_implementation
        )
    return model.eval()


class OpensSpansOften(LogitsProcessor):
    """
    Opens a span wherever the last ids of a row are plain words: a random model would hardly open one by itself.

    A pure function of a row's last ids, so that it is the same with and without padding, and to the slow reference.
    """

    def __init__(self, gap: int = 3):
        self.gap = gap

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        tail = torch.nn.functional.pad(input_ids, (self.gap, 0), value=PAD)[:, -self.gap :]
        opens = ((tail >= FIRST_WORD) & (tail < AUDIO_START)).all(-1)
        marker = torch.where(tail[:, -1] % 2 == 0, BEGIN, BEGIN_LAST)
        boost = torch.zeros_like(scores).scatter_(1, marker[:, None], 1000.0)
        return torch.where(opens[:, None], scores + boost, scores)


class Script(LogitsProcessor):
    """Forces the text of a single row, id by id; audio in between is the model's own."""

    def __init__(self, *token_ids: int):
        self.left = list(token_ids)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.left.pop(0)] = 0.0
        return forced


def query_lengths(model) -> list[int]:
    """The query length of every forward of the backbone from now on: a list that grows."""
    lengths: list[int] = []
    model.model.register_forward_hook(
        lambda module, args, kwargs, output: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    return lengths


def speaking(gap: int = 3) -> LogitsProcessorList:
    return LogitsProcessorList([OpensSpansOften(gap)])


def script(*token_ids: int) -> LogitsProcessorList:
    return LogitsProcessorList([Script(*token_ids)])


def left_padded(prompts: list[list[int]], width: int | None = None) -> dict[str, torch.Tensor]:
    """Stack prompts of different lengths as `generate` takes them."""
    width = width or max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts]),
        "attention_mask": torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
    }


def conversation(seed: int, length: int = 24) -> list[int]:
    """Random ids with words, a user's audio and spans of a reply, beginning with a word."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    ids: list[int] = []
    while len(ids) < length:
        ids += [draw(FIRST_WORD, AUDIO_START) for _ in range(draw(1, 4))]
        kind = draw(0, 3)
        ids += [(BEGIN, BEGIN, BEGIN_LAST)[kind]]
        ids += [draw(CODE_0, CODE_0 + CODEBOOK_SIZE) for _ in range(draw(1, 6))]
        ids += [(END_USER, END, END_LAST)[kind]]
    return ids[:length]

"""Examples, models and rows of the small comparison, for its tests."""

import random
import sys

import torch
from checkout import ROOT
from modeling_fixtures import (
    AUDIO_START,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    CODEBOOK_SIZE,
    END,
    END_LAST,
    END_USER,
    EOS,
    FIRST_WORD,
    MASK,
    PAD,
    VOCAB_SIZE,
)

from processing_ttt.vocabulary_ttt import TttVocabulary

sys.path.append(str(ROOT / "benchmarks"))

from comparison import training
from comparison.systems import SYSTEMS, create_model, make_batch

W = FIRST_WORD
BACKBONE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
VOCABULARY = TttVocabulary(
    begin_audio_token_id=BEGIN,
    end_user_audio_token_id=END_USER,
    begin_last_audio_token_id=BEGIN_LAST,
    audio_token_start_id=AUDIO_START,
    audio_code_offset=CODE_0,
    codebook_size=CODEBOOK_SIZE,
    mask_token_id=MASK,
    end_audio_token_id=END,
    end_last_audio_token_id=END_LAST,
    begin_message_token_id=W + 6,
    eos_token_id=EOS,
    pad_token_id=PAD,
    vocab_size=VOCAB_SIZE,
)


def example(seed: int, codes: int = 5) -> dict[str, list[int]]:
    """A spoken question, answered by a word with a span and a word with the last span."""
    rng = random.Random(seed)
    audio = [CODE_0 + rng.randrange(CODEBOOK_SIZE) for _ in range(3 * codes)]
    prompt = [W + rng.randrange(5), BEGIN, *audio[:codes], END_USER]
    reply = [W, BEGIN, *audio[codes : 2 * codes], END, W + 1, BEGIN_LAST, *audio[2 * codes :], END_LAST, EOS]
    return {"input_ids": prompt + reply, "labels": [-100] * len(prompt) + reply}


EXAMPLES = {
    task: [example(10 * i + n, codes=3 + n % 3) for n in range(6)] for i, task in enumerate(training.TASK_WEIGHTS)
}
LENGTHS = {task: [len(e["input_ids"]) for e in found] for task, found in EXAMPLES.items()}


def options(steps: int = 4) -> training.TrainingOptions:
    return training.TrainingOptions(steps, rows=2, row_length=64)


def model_of(name: str) -> torch.nn.Module:
    return create_model(SYSTEMS[name], VOCABULARY, seed=0, backbone=BACKBONE)


def rows_of_step(step: int, seed: int = 0) -> list[list[dict]]:
    plan = training.plan_batches(LENGTHS, options(step + 1), seed)
    return [[EXAMPLES[task][number] for task, number in row] for row in plan[step]]


def batch_of(name: str, step: int = 0) -> dict[str, torch.Tensor]:
    return make_batch(SYSTEMS[name], model_of(name), rows_of_step(step), 64, VOCABULARY, 0, step)


def sees(length: int, spans: list[tuple[int, int]]) -> torch.Tensor:
    """Causal attention, and whole inside of spans `(start, stop)`: `(1, 1, length, length)`."""
    allowed = torch.ones(length, length).tril().bool()
    for start, stop in spans:
        allowed[start:stop, start:stop] = True
    return allowed[None, None]


def logits_alone(model, ids: list[int], spans: list[tuple[int, int]]) -> torch.Tensor:
    out = model.model(torch.tensor([ids]), attention_mask=sees(len(ids), spans), use_cache=False)
    return model.lm_head(out.last_hidden_state)[0]

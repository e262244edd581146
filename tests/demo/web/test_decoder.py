"""The decoder in JavaScript: the queries, blocks and token ids of the Python decoder, forward by forward."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from modeling_fixtures import (
    AUDIO_START,
    BEGIN,
    CODE_0,
    END_USER,
    EOS,
    FIRST_WORD,
    OpensSpansOften,
    tiny_config,
    tiny_model,
)
from transformers import GenerationConfig, LogitsProcessor
from transformers.generation import LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from modeling_ttt.generation_options_ttt import GENERATION_DEFAULTS
from spaces_demo.web.settings import decoding_options, markers

NODE = shutil.which("node")
REPLAY = Path(__file__).with_name("replay.mjs")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed (https://nodejs.org)")

PROMPTS = [
    [FIRST_WORD, FIRST_WORD + 1, FIRST_WORD + 4],
    [FIRST_WORD, BEGIN, *range(CODE_0, CODE_0 + 7), END_USER, FIRST_WORD + 2],  # with the user's audio
]
OPTIONS = [
    {"block_length": 6, "denoising_steps": 3},
    {"block_length": 6, "denoising_steps": 4, "reveal_schedule": "linear", "block_early_stop": True},
    {"block_length": 8, "denoising_steps": 8, "entropy_bound": 1.0, "block_early_stop": True},
    {"block_length": 7, "denoising_steps": 3, "entropy_bound": 0.0, "first_block_length": 3},
    {"block_length": 5, "denoising_steps": 9, "max_new_tokens": 11},
]


class Recording(BaseStreamer, LogitsProcessor):
    """Records the forwards of a model, and the blocks of its decoder; opens spans as [`OpensSpansOften`] does."""

    def __init__(self, model):
        self.forwards, self.blocks, self.ids = [], [], []
        self.speaks, self.model = OpensSpansOften(), model
        self.hooks = [
            model.get_input_embeddings().register_forward_hook(self.note_ids),
            model.model.register_forward_hook(self.note_forward, with_kwargs=True),
        ]

    def note_ids(self, module, inputs, output):
        self.ids = inputs[0][0].tolist()

    def note_forward(self, module, args, kwargs, output):
        (mask,) = kwargs["attention_mask"].values()  # additive, by type of layer
        query = {
            "ids": self.ids,
            "cachedLength": int(kwargs["position_ids"][0, 0]),
            "mask": (mask == 0).int().flatten().tolist(),
        }
        logits = self.model.lm_head(output.last_hidden_state)[0].tolist()
        self.forwards.append({"query": query, "logits": logits})

    def __call__(self, input_ids, scores):
        scores = self.speaks(input_ids, scores)
        self.forwards[-1]["logits"][-1][:AUDIO_START] = scores[0, :AUDIO_START].tolist()
        return scores

    def put(self, value):
        pass

    def end(self):
        for hook in self.hooks:
            hook.remove()

    def put_draft(self, value, confidence):
        self.blocks.append((value.tolist(), confidence.tolist()))


def replay(cases):
    done = subprocess.run([NODE, REPLAY], input=json.dumps(cases), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_asks_for_the_same_forwards_and_decides_the_same_from_their_logits():
    model = tiny_model(attn_implementation="eager")
    cases, expected = [], []
    for prompt in PROMPTS:
        for options in OPTIONS:
            recording = Recording(model)
            generation = GenerationConfig(**{"max_new_tokens": 40, "eos_token_id": EOS} | options)
            ids = model.generate(
                torch.tensor([prompt]),
                generation_config=generation,
                logits_processor=LogitsProcessorList([recording]),
                streamer=recording,
            )
            expected.append((ids[0, len(prompt) :].tolist(), recording.blocks))
            cases.append(
                {
                    "prompt": prompt,
                    "markers": markers(model.config, EOS),
                    "options": decoding_options(model.config, generation),
                    "forwards": recording.forwards,
                }
            )
    assert all(blocks for _, blocks in expected) and len({len(ids) for ids, _ in expected}) > 1
    for got, (ids, blocks) in zip(replay(cases), expected, strict=True):
        assert got["ids"] == ids
        assert [block for block, _ in got["blocks"]] == [block for block, _ in blocks]
        for (_, confidence), (_, wanted) in zip(got["blocks"], blocks, strict=True):
            assert confidence == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("options", [{"audio_temperature": 0.5}, {"remasking": "random"}, {"do_sample": True}])
def test_options_that_it_does_not_know_are_refused_by_name(options):
    generation = GenerationConfig(max_new_tokens=40, eos_token_id=EOS, **options)
    with pytest.raises(ValueError, match=next(iter(options))):
        decoding_options(tiny_config(), generation)


def test_a_checkpoint_without_a_limit_or_with_block_causal_attention_is_refused():
    with pytest.raises(ValueError, match="max_new_tokens"):
        decoding_options(tiny_config(), GenerationConfig())
    with pytest.raises(ValueError, match="seen whole"):
        decoding_options(tiny_config(span_attention="block", span_block_length=4), GenerationConfig(max_new_tokens=4))
    defaults = {name: value for name, value in GENERATION_DEFAULTS.items() if value is not None}
    options = decoding_options(tiny_config(), GenerationConfig(max_new_tokens=40, **defaults))
    assert options["denoisingSteps"] == 10 and options["maxNewTokens"] == 40

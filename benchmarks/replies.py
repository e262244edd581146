"""
The replies that the benchmarks decode in every way: their form is forced, so that all decoders have the same work; and
the slow way to decode them.

Depends on models, prompts and forms of replies. Measures nothing.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.generation.streamers import BaseStreamer

from modeling_ttt import TttConfig, TttForConditionalGeneration
from modeling_ttt.exact_text_ttt import ExactTextLogitsProcessor
from modeling_ttt.masking_ttt import CACHE_NAME
from modeling_ttt.onnx_ttt import TttOnnxForConditionalGeneration
from modeling_ttt.samplers_ttt import reveal_schedule
from processing_ttt import TttProcessor

TEXT_TOKENS, AUDIO_TOKENS, BLOCK_LENGTH, DENOISING_STEPS = 13, 26, 26, 10
LONGEST_WORD = 16  # codes of a span of nano: a word
WORDS_PER_SECOND = 3.5  # of nano: 54 words in 15.4 s
# the most confident first, a fixed number at each step, whatever a generation config has
PUBLISHED_RULE: dict[str, Any] = {
    "remasking": "low_confidence",
    "reveal_schedule": "linear",
    "confidence_threshold": None,
    "entropy_bound": None,
}
NANO_STEPS = 8  # of the published rule, for a block of 16


@dataclass
class Reply:
    """
    A reply to decode.

    Args:
        model (`TttForConditionalGeneration`): Whose.
        inputs (`dict[str, torch.Tensor]`): Its prompts.
        form (`LogitsProcessor`): Forces the text, or the markers in it.
        options (`dict`): Of `generate`.
        frame_rate (`float`): Codes per second.
    """

    model: TttForConditionalGeneration
    inputs: dict[str, torch.Tensor]
    form: LogitsProcessor
    options: dict[str, Any] = field(default_factory=dict)
    frame_rate: float = 25.0

    @property
    def prompt_length(self) -> int:
        """Ids of the prompt."""
        return self.inputs["input_ids"].shape[1]

    def decode(self, model: TttForConditionalGeneration | None = None, **options: Any) -> torch.LongTensor:
        """Decode it with `generate`: prompt and reply."""
        processors = LogitsProcessorList([self.form])
        decoded = (model or self.model).generate(**self.inputs, logits_processor=processors, **self.options | options)
        return cast(torch.LongTensor, decoded)

    def seconds_of_speech(self, ids: torch.LongTensor) -> float:
        """Length of the audio of all decoded sequences together, in seconds."""
        first = self.model.config.audio_code_offset
        new = ids[:, self.prompt_length :]
        return int(((new >= first) & (new < first + self.model.config.audio_codebook_size)).sum()) / self.frame_rate


class ForcedForm(LogitsProcessor):
    """
    Lets 13 text ids pass, then forces a begin marker, then takes the next 13: a long reply in the layout of the paper.
    """

    def __init__(self, config: TttConfig, prompt_length: int):
        self.config = config
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Force or forbid the begin markers."""
        markers = [self.config.begin_audio_token_id, self.config.begin_last_audio_token_id, self.config.eos_token_id]
        forced = cast(torch.FloatTensor, scores.clone())
        if _text_in_a_row(input_ids[0, self.prompt_length :].tolist(), self.config) == TEXT_TOKENS:
            forced[:] = -torch.inf
            forced[:, markers[0]] = 0.0
        else:
            forced[:, markers] = -torch.inf
        return forced


def _text_in_a_row(ids: list[int], config: TttConfig) -> int:
    audio = [i for i, token_id in enumerate(ids) if _is_audio(token_id, config)]
    return len(ids) - (audio[-1] + 1 if audio else 0)


def _is_audio(token_id: int, config: TttConfig) -> bool:
    assert config.audio_token_start_id is not None
    return token_id >= config.audio_token_start_id


def spoken_reply(
    model: TttForConditionalGeneration, processor: TttProcessor, sentences: list[str], seconds: float, rows: int = 1
) -> Reply:
    """Nano reads sentences aloud, about as long, under its own generation config; each row begins at another one."""
    shift = max(1, len(sentences) // rows)
    num_words = round(seconds * WORDS_PER_SECOND)
    orders = [" ".join(sentences[row * shift :] + sentences[: row * shift]).split() for row in range(rows)]
    texts = [" ".join(islice(cycle(words), num_words)) for words in orders]
    inputs = processor.prepare([processor.messages("tts", text) for text in texts], reply_texts=texts)
    read = [processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    end_of_reply = model.config.eos_token_id
    assert isinstance(end_of_reply, int)
    form = ExactTextLogitsProcessor(model.config.markers(), end_of_reply, inputs["input_ids"], read)
    return Reply(model, dict(inputs), form, {"max_new_tokens": round(75 * seconds), "max_span_length": LONGEST_WORD})


def interleaved_reply(model: TttForConditionalGeneration, max_new_tokens: int, prompt_length: int = 64) -> Reply:
    """A model without words of its own: 13 ids of text and a span of 26, again and again."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(20, model.config.audio_token_start_id, (1, prompt_length), generator=generator)
    options = {
        "max_new_tokens": max_new_tokens,
        "block_length": BLOCK_LENGTH,
        "denoising_steps": DENOISING_STEPS,
        "max_span_length": AUDIO_TOKENS,
    }
    inputs = {"input_ids": prompt.to(model.device)}
    return Reply(model, inputs, ForcedForm(model.config, prompt_length), options, frame_rate=12.5)


def span_reply(length: int, span_block_length: int | None) -> Reply:
    """One long span of audio of a random model of six layers of 256, which sees its spans whole, or block by block."""
    attention: dict[str, Any] = (
        {"span_attention": "block", "span_block_length": span_block_length} if span_block_length else {}
    )
    model = random_model(hidden_size=256, layers=6, **attention)
    prompt = torch.randint(20, 2000, (1, 64), generator=torch.Generator().manual_seed(0))
    prompt[0, -1] = model.config.begin_audio_token_id
    options = {"max_new_tokens": length, "denoising_steps": NANO_STEPS, "block_length": LONGEST_WORD}
    return Reply(model, {"input_ids": prompt}, ForcedForm(model.config, 64), options)


@torch.inference_mode()
def published(reply: Reply, **options: Any) -> torch.LongTensor:
    """
    Decode one row as published: for-loops, the whole sequence at every step, logits of the whole vocabulary at every
    position.
    """
    model, config, ids = reply.model, reply.model.config, reply.inputs["input_ids"]
    options = {**vars(model.generation_config), **reply.options, **options}
    eligible, ends = model.eligible_audio_ids(), set(config.markers().end_token_ids)
    total = reply.prompt_length + options["max_new_tokens"]
    while ids.shape[1] < total:
        logits = model(ids, use_cache=False).logits[:, -1]
        logits[:, config.audio_token_start_id :] = -torch.inf
        token_id = reply.form(ids, logits).argmax(-1)
        ids = torch.cat([ids, token_id[None]], dim=1)
        if int(token_id) == config.eos_token_id:
            break
        if int(token_id) not in config.markers().begin_token_ids:
            continue
        end_marker = config.markers().end_of(int(token_id))
        length = min(options["block_length"], options["max_span_length"], total - ids.shape[1])
        block = torch.full((length,), config.mask_token_id)
        for count in reveal_schedule(length, options["denoising_steps"]) if length else []:
            scores = model(torch.cat([ids, block[None]], dim=1), use_cache=False).logits[0, -length:][:, eligible]
            confidence, best = scores.float().softmax(-1).max(-1)
            confidence[block != config.mask_token_id] = -1.0
            revealed = confidence.argsort(descending=True, stable=True)[:count]
            block[revealed] = eligible[best[revealed]]
        kept = next((i + 1 for i, token_id in enumerate(block.tolist()) if token_id in ends), length)
        closed = bool(kept) and int(block[kept - 1]) in ends
        ids = torch.cat([ids, block[None, :kept]], dim=1)
        if not closed and ids.shape[1] < total:
            ids = torch.cat([ids, torch.tensor([[end_marker]])], dim=1)
    return cast(torch.LongTensor, ids)


def random_model(hidden_size: int, layers: int, seed: int = 0, **attention: Any) -> TttForConditionalGeneration:
    """A random Qwen2 backbone with an audio alphabet of 16384 codes; `attention` as in `TttConfig`."""
    text_ids, codes = 2000, 16384
    text_config = AutoConfig.for_model(
        "qwen2",
        vocab_size=text_ids + codes + 4,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 128,
        max_position_embeddings=4096,
    )
    torch.manual_seed(seed)
    return TttForConditionalGeneration(
        TttConfig(
            text_config=text_config,
            audio_token_start_id=text_ids,
            audio_code_offset=text_ids + 1,
            audio_codebook_size=codes,
            mask_token_id=text_ids + codes + 1,
            end_audio_token_id=text_ids + codes + 2,
            end_last_audio_token_id=text_ids + codes + 3,
            begin_audio_token_id=10,
            begin_last_audio_token_id=11,
            pad_token_id=0,
            eos_token_id=1,
            **attention,
        )
    ).eval()


def autoregressive_twin(model: TttForConditionalGeneration) -> PreTrainedModel:
    """The same backbone and weights as a causal language model of transformers."""
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(model.config.text_config)).eval()
    twin.load_state_dict(model.state_dict())
    return twin.to(model.device)


@torch.no_grad()
def autoregressive_on_graph(
    engine: TttOnnxForConditionalGeneration, prompt: torch.LongTensor, count: int
) -> torch.LongTensor:
    """Write `count` ids one at a time with an exported graph, as a causal language model: prompt and ids."""
    ids: torch.Tensor = prompt
    cache = DynamicCache()
    for _ in range(count):
        new = ids[:, cache.get_seq_length() :]
        logits = engine.model(inputs_embeds=new[..., None], **{CACHE_NAME: cache}).last_hidden_state
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    return cast(torch.LongTensor, ids)


class FirstBlock(BaseStreamer):
    """Remembers when the first block of codes came, and when `speak` had made audio of it."""

    def __init__(self, audio_token_start_id: int, speak: Callable[[torch.Tensor], object]):
        self.start_id, self.speak = audio_token_start_id, speak
        self.seconds: float | None = None
        self.seconds_to_audio: float | None = None
        self.began = time.perf_counter()

    def put(self, value: torch.Tensor) -> None:
        """Look at what came."""
        if self.seconds is None and value.ndim == 1 and int(value[0]) >= self.start_id:
            self.seconds = time.perf_counter() - self.began
            self.speak(value)
            self.seconds_to_audio = time.perf_counter() - self.began

    def end(self) -> None:
        """Nothing is left to do."""

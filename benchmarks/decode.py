"""
Decoding speed, on the same weights and in one run: the published procedure, ours, and what a user would pick instead.

    python benchmarks/decode.py                       # nano and a random model of 100M parameters, a reply of 600 ids
    python benchmarks/decode.py --models nano --repeats 5 --rows 1 4 16

- "published": the whole sequence at every step, logits of the whole vocabulary at every position (paper, section 3.4).
- "no cache": `generate(use_cache=False)`: the whole sequence at every step, but only the block's rows and the audio columns are scored.
- "cached": `generate()`; "static cache": `generate(cache_implementation="static")`, compiled on a GPU.
- "cached, 4 steps": with four denoising steps per block instead of ten.
- "threshold": cached, and a step reveals all positions of confidence 0.5 or more (`confidence_threshold`). Other ids; what that costs in
  quality is measured by `sweep.py`, on a trained model: on random weights hardly anything is confident.
- "bfloat16": cached, the weights in half the bytes. Other ids.
- "autoregressive": the same backbone as an ordinary causal language model under transformers' own `generate`, text and sound one id at a time.

The first four must write the same ids; the script stops if they do not. The reply's form is forced, 13 ids of text and a span of 26, again
and again, because a random model would not keep to it. Medians over the repeats; seconds of speech at the codec's frame rate.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from modeling_ttt import TttConfig, TttForConditionalGeneration, nano_checkpoint
from modeling_ttt.samplers_ttt import reveal_schedule

TEXT_TOKENS, AUDIO_TOKENS, BLOCK_LENGTH, DENOISING_STEPS = 13, 26, 26, 10
PROMPT_LENGTH = 64


class ForcedForm(LogitsProcessor):
    """Lets 13 text ids pass, then forces a begin marker, then takes the next 13: a long reply in the layout of the paper."""

    def __init__(self, config: TttConfig, prompt_length: int):
        self.config = config
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Force or forbid the begin markers."""
        markers = [self.config.begin_audio_token_id, self.config.begin_last_audio_token_id, self.config.eos_token_id]
        reply = input_ids[0, self.prompt_length :]
        text_in_a_row = 0
        for token_id in reversed(reply.tolist()):
            if token_id >= self.config.audio_token_start_id:
                break
            text_in_a_row += 1
        forced = scores.clone()
        if text_in_a_row == TEXT_TOKENS:
            forced[:] = -torch.inf
            forced[:, markers[0]] = 0.0
        else:
            forced[:, markers] = -torch.inf
        return forced


@torch.inference_mode()
def published(model: TttForConditionalGeneration, prompt: torch.LongTensor, max_new_tokens: int) -> torch.LongTensor:
    """Decode one row as published, for-loops and whole forwards, with the same forced form."""
    config, ids = model.config, prompt
    eligible = model.eligible_audio_ids()
    ends = set(config.end_of_span_token_ids)
    form = ForcedForm(config, prompt.shape[1])
    total = prompt.shape[1] + max_new_tokens
    while ids.shape[1] < total:
        logits = model(ids, use_cache=False).logits[:, -1]
        logits[:, config.audio_token_start_id :] = -torch.inf
        token_id = form(ids, logits).argmax(-1)
        ids = torch.cat([ids, token_id[None]], dim=1)
        if int(token_id) != config.begin_audio_token_id:
            continue
        length = min(BLOCK_LENGTH, total - ids.shape[1])
        block = torch.full((length,), config.mask_token_id)
        for count in reveal_schedule(length, DENOISING_STEPS) if length else []:
            scores = (
                model(torch.cat([ids, block[None]], dim=1), use_cache=False).logits[0, -length:][:, eligible].float()
            )
            confidence, best = scores.softmax(-1).max(-1)
            confidence[block != config.mask_token_id] = -1.0
            revealed = confidence.argsort(descending=True, stable=True)[:count]
            block[revealed] = eligible[best[revealed]]
        kept = next((i + 1 for i, token_id in enumerate(block.tolist()) if token_id in ends), length)
        closed = kept < length or (length and int(block[kept - 1]) in ends)
        ids = torch.cat([ids, block[None, :kept]], dim=1)
        if not closed and ids.shape[1] < total:
            ids = torch.cat([ids, torch.tensor([[config.end_audio_token_id]])], dim=1)
    return ids


def random_model(hidden_size: int, layers: int, seed: int = 0) -> TttForConditionalGeneration:
    """A random Qwen2 backbone with an audio alphabet of 16384 codes."""
    text_ids, codes = 2000, 16384
    start = text_ids
    text_config = AutoConfig.for_model(
        "qwen2",
        vocab_size=start + codes + 4,
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
            audio_token_start_id=start,
            audio_code_offset=start + 1,
            audio_codebook_size=codes,
            mask_token_id=start + codes + 1,
            end_audio_token_id=start + codes + 2,
            end_last_audio_token_id=start + codes + 3,
            begin_audio_token_id=10,
            begin_last_audio_token_id=11,
            pad_token_id=0,
            eos_token_id=1,
        )
    ).eval()


def forced_reply(model: TttForConditionalGeneration, prompt: torch.LongTensor, ids: int, **options) -> torch.LongTensor:
    """Decode a reply of so many ids in the forced form."""
    return model.generate(
        prompt,
        max_new_tokens=ids,
        block_length=BLOCK_LENGTH,
        denoising_steps=options.pop("denoising_steps", DENOISING_STEPS),
        max_span_length=AUDIO_TOKENS,
        logits_processor=LogitsProcessorList([ForcedForm(model.config, prompt.shape[1])]),
        **options,
    )


def autoregressive_twin(model: TttForConditionalGeneration) -> torch.nn.Module:
    """The same backbone and weights as a causal language model of transformers."""
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(model.config.text_config)).eval()
    twin.load_state_dict(model.state_dict())
    return twin.to(model.device)


def measure(
    name: str, model: TttForConditionalGeneration, frame_rate: float, max_new_tokens: int, repeats: int
) -> None:
    """Run the decoders on one model and print their rows."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(20, model.config.audio_token_start_id, (1, PROMPT_LENGTH), generator=generator)
    half = copy.deepcopy(model).to(torch.bfloat16)
    twin = autoregressive_twin(model)
    alone = {"do_sample": False, "max_new_tokens": max_new_tokens, "min_new_tokens": max_new_tokens}
    same_ids: dict[str, Callable[[], torch.LongTensor]] = {
        "published": lambda: published(model, prompt, max_new_tokens),
        "no cache": lambda: forced_reply(model, prompt, max_new_tokens, use_cache=False),
        "cached": lambda: forced_reply(model, prompt, max_new_tokens),
        "static cache": lambda: forced_reply(model, prompt, max_new_tokens, cache_implementation="static"),
    }
    other_ids: dict[str, Callable[[], torch.LongTensor]] = {
        "cached, 4 steps": lambda: forced_reply(model, prompt, max_new_tokens, denoising_steps=4),
        "threshold": lambda: forced_reply(model, prompt, max_new_tokens, confidence_threshold=0.5),
        "bfloat16": lambda: forced_reply(half, prompt, max_new_tokens),
        "autoregressive": lambda: twin.generate(prompt, attention_mask=torch.ones_like(prompt), **alone),
    }
    decoders = same_ids | other_ids
    forwards = [0]
    hooks = [
        m.model.register_forward_hook(lambda *_: forwards.__setitem__(0, forwards[0] + 1)) for m in (model, half, twin)
    ]
    seconds: dict[str, list[float]] = {decoder: [] for decoder in decoders}
    counts, results = {}, {}
    for _ in range(repeats):  # in turn, so that a slow minute of the machine hits all
        for decoder, run in decoders.items():
            forwards[0] = 0
            began = time.perf_counter()
            results[decoder] = run()
            seconds[decoder].append(time.perf_counter() - began)
            counts[decoder] = forwards[0]
    for hook in hooks:
        hook.remove()
    if not all(torch.equal(results[decoder], results["published"]) for decoder in same_ids):
        raise SystemExit(f"{name}: the decoders do not agree")
    speech = int((results["cached"][0, PROMPT_LENGTH:] >= model.config.audio_code_offset).sum()) / frame_rate
    slowest = statistics.median(seconds["published"])
    for decoder, times in seconds.items():
        median = statistics.median(times)
        print(
            f"| {name} | {decoder} | {counts[decoder]} | {max_new_tokens / counts[decoder]:.2f} | {median:.2f} | "
            f"{slowest / median:.1f}x | {median / speech:.3f} |"
        )


def measure_rows(
    name: str, model: TttForConditionalGeneration, rows: list[int], max_new_tokens: int, repeats: int
) -> None:
    """Print how many ids a second batches of different prompts write; rows end at different times."""
    generator = torch.Generator().manual_seed(0)
    seconds: dict[int, list[float]] = {count: [] for count in rows}
    written: dict[int, int] = {}
    for _ in range(repeats):
        for count in rows:
            prompt = torch.randint(20, model.config.audio_token_start_id, (count, PROMPT_LENGTH), generator=generator)
            began = time.perf_counter()
            forced_reply(model, prompt, max_new_tokens)
            seconds[count].append(time.perf_counter() - began)
            written[count] = count * max_new_tokens
    alone = written[rows[0]] / statistics.median(seconds[rows[0]])
    for count in rows:
        rate = written[count] / statistics.median(seconds[count])
        print(f"| {name} | {count} | {rate:.0f} | {rate / alone:.1f}x |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["nano", "100M"], choices=["nano", "100M"])
    parser.add_argument("--max-new-tokens", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="sizes of nano's batches")
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, reply of {options.max_new_tokens} ids, medians of {options.repeats}\n"
    )
    print(
        "| model | decoder | forwards | ids per forward | seconds | speed-up | real-time factor |\n|---|---|---|---|---|---|---|"
    )
    nano = AutoModel.from_pretrained(nano_checkpoint()).eval()
    for name in options.models:
        model, frame_rate = (nano, 25.0) if name == "nano" else (random_model(hidden_size=768, layers=11), 12.5)
        label = f"{name} ({model.num_parameters() / 1e6:.0f}M)"
        measure(label, model, frame_rate, options.max_new_tokens, options.repeats)
    print("\n| model | rows | ids per second | against one row |\n|---|---|---|---|")
    measure_rows("nano", nano, options.rows, options.max_new_tokens // 4, options.repeats)


if __name__ == "__main__":
    main()

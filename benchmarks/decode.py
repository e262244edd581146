"""
Decoding in one run, on the same weights: the published procedure, ours, and what a user would pick instead; speed,
memory, and quality beside them.

    # nano, a reply of 20 s; minutes
    python benchmarks/decode.py --out benchmarks/results/decode.json --plot docs/assets/decode.svg
    # a random model of 100M parameters
    python benchmarks/decode.py --models 100M --seconds 10
    # also answers to spoken test questions
    python benchmarks/decode.py --speech data/nano

- "published": the whole sequence at every step, logits of the whole vocabulary at every position (paper, section 3.4).
- "cached": `generate()` under the published rule; the same ids, which is checked.
- "cached, ...": under another rule. Other ids: word error rate and right answers are beside them.
- "as shipped": under the checkpoint's own generation config.
- "..., ONNX float32" and "... int8" (`--onnx`): the same on ONNX Runtime, exported for this run; the ids of float32 are
  checked, also those of the model as shipped.
- "autoregressive": the same backbone as an ordinary causal language model under transformers' own `generate`, the
  same number of ids, text and audio one at a time. Nano was not trained for that: only its speed counts.

A reply's text is given, or its form is forced, so that all decode the same: nano reads given words, as `ttt speak`
does; a random model has 13 ids of text and a span of 26, again and again. Contenders run in turn, `--repeats` times;
medians; `--threads 1 2` measures all with one thread and with two. "CPU seconds" are the process's own
(`time.process_time`), which other work on the machine disturbs less than the clock; the speed-up is theirs with one
thread, and the clock's with more. "Peak MB" is what decoding takes beyond what was there before (Linux). First audio:
from a spoken question as a waveform to its first audio, streamed. WER: unseen sentences read aloud, transcribed by
pocketsphinx (`sweep.py`). Answers right: spoken test questions whose answer's text is exactly right; the text is
written id by id under every rule, but it sees the audio.

Two smaller tables: ids per second of batches, under the checkpoint's own config, and one long span under full and
under block-causal attention (a random model of six layers of 256, blocks of 16, 8 steps), where earlier blocks of a
span are run again at every step, or are final.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plot import plot
from replies import (
    DENOISING_STEPS,
    LONGEST_WORD,
    NANO_STEPS,
    PUBLISHED_RULE,
    Reply,
    autoregressive_on_graph,
    autoregressive_twin,
    interleaved_reply,
    published,
    random_model,
    span_reply,
    spoken_reply,
)
from sweep import ReadAloud, unseen_sentences
from transformers import AutoModel, AutoProcessor, PreTrainedModel

from finetune.nano.measure.model import Checkpoint
from finetune.nano.speech.synthesise import read_corpus
from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from modeling_ttt.export_onnx_ttt import DTYPES, export_onnx
from modeling_ttt.generation_options_ttt import GENERATION_DEFAULTS
from modeling_ttt.onnx_ttt import GRAPH_FILE, ONNX_FOLDER, TttOnnxForConditionalGeneration
from processing_ttt import TttAudioChunk, TttTalker


def settings(model: TttForConditionalGeneration, steps: int) -> dict[str, dict[str, Any]]:
    """
    The options of `generate`: the published rule, rules that need at most as many steps, and what the checkpoint
    itself holds.
    """
    shipped = {name: getattr(model.generation_config, name, None) for name in GENERATION_DEFAULTS}
    rules: dict[str, dict[str, Any]] = {
        "cached": {},
        "cached, half the steps": {"denoising_steps": steps // 2},
        "cached, confidence 0.9": {"confidence_threshold": 0.9},
        "cached, confidence 0.7": {"confidence_threshold": 0.7},
    }
    rules = {name: PUBLISHED_RULE | {"denoising_steps": steps} | rule for name, rule in rules.items()}
    return rules | {"cached, as shipped": {name: value for name, value in shipped.items() if value is not None}}


def exported(model: TttForConditionalGeneration, folder: Path) -> dict[str, Path]:
    """Graphs of the model for ONNX Runtime, by number format."""
    for dtype in DTYPES:
        export_onnx(model, folder / dtype, dtype)
    return {dtype: folder / dtype / ONNX_FOLDER / GRAPH_FILE for dtype in DTYPES}


def opened(model: TttForConditionalGeneration, graph: Path) -> TttOnnxForConditionalGeneration:
    """The model on ONNX Runtime, with as many threads as PyTorch has."""
    engine = TttOnnxForConditionalGeneration(model.config, graph)
    engine.generation_config = model.generation_config
    return engine


def contenders(
    reply: Reply,
    rules: dict[str, dict[str, Any]],
    half: TttForConditionalGeneration,
    twin: PreTrainedModel,
    engines: dict[str, TttOnnxForConditionalGeneration],
) -> dict[str, Callable[[], Any]]:
    """Every way to decode a reply: also with weights in bfloat16, on other engines, and as a language model."""
    prompt = reply.inputs["input_ids"]
    count = reply.decode(**rules["cached"]).shape[1] - prompt.shape[1]  # also warms up
    alone = {"do_sample": False, "max_new_tokens": count, "min_new_tokens": count}
    return {
        "published": lambda: published(reply, **rules["cached"]),
        **{name: partial(reply.decode, **rule) for name, rule in rules.items()},
        "cached, bfloat16": lambda: reply.decode(half, **rules["cached"]),
        **{
            f"{name}, ONNX {dtype}": partial(reply.decode, engine, **rules[name])
            for name in ("cached", "cached, as shipped")
            for dtype, engine in engines.items()
        },
        **{
            f"autoregressive, ONNX {dtype}": partial(autoregressive_on_graph, engine, prompt, count)
            for dtype, engine in engines.items()
        },
        "autoregressive": lambda: twin.generate(prompt, attention_mask=torch.ones_like(prompt), **alone),
    }


def measure_threads(
    name: str, reply: Reply, rules: dict[str, dict[str, Any]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of the table, for each number of threads; leaves PyTorch with the first."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        graphs = exported(reply.model, Path(folder)) if options.onnx else {}
        for threads in options.threads:
            torch.set_num_threads(threads)
            rows += [{"threads": threads} | row for row in measure(name, reply, rules, options.repeats, graphs)]
    torch.set_num_threads(options.threads[0])
    return rows


def measure(
    name: str, reply: Reply, rules: dict[str, dict[str, Any]], repeats: int, graphs: dict[str, Path]
) -> list[dict[str, Any]]:
    """Run all contenders in turn; one row of the table for each."""
    engines = {dtype: opened(reply.model, graph) for dtype, graph in graphs.items()}
    half, twin = copy.deepcopy(reply.model).to(torch.bfloat16), autoregressive_twin(reply.model)
    forwards: list[None] = []
    for model in (reply.model, half, twin, *engines.values()):
        model.model.register_forward_hook(lambda *_: forwards.append(None))
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        expected: dict[str, torch.LongTensor] = {}
        for contender, run in contenders(reply, rules, half, twin, engines).items():
            forwards.clear()
            before = _memory(reset=True)
            wall, cpu = time.perf_counter(), time.process_time()
            ids = expected[contender] = run()
            spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            peak = {} if before is None else {"peak_mb": (_memory() or before) - before}
            runs.setdefault(contender, []).append(
                spent | peak | {"forwards": len(forwards), "new_ids": ids.shape[1] - reply.prompt_length}
            )
        if not torch.equal(expected["cached"], expected["published"]):
            raise SystemExit(f"{name}: the cached decoder does not write the published procedure's ids")
        for rule in ("cached", "cached, as shipped") if engines else ():
            if not torch.equal(expected[f"{rule}, ONNX float32"], expected[rule]):
                raise SystemExit(f"{name}: ONNX Runtime does not write the ids of PyTorch, {rule}")
    rows: list[dict[str, Any]] = [
        {"model": name, "decoder": contender}
        | {key: statistics.median(run[key] for run in several) for key in several[0]}
        for contender, several in runs.items()
    ]
    clock = "cpu_seconds" if torch.get_num_threads() == 1 else "seconds"
    for row in rows:
        spoken = expected["cached" if "autoregressive" in row["decoder"] else row["decoder"]]
        row["ids_per_forward"] = row["new_ids"] / row["forwards"]
        row["speed_up"] = (rows[0][clock] / rows[0]["new_ids"]) / (row[clock] / row["new_ids"])
        row["real_time_factor"] = row[clock] / reply.seconds_of_speech(spoken)
    return rows


def _memory(reset: bool = False) -> float | None:
    """Megabytes this process has had at most since the last reset, or has now; `None` on other systems."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    name = "VmRSS" if reset else "VmHWM"
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(name))


def add_quality(rows: list[dict[str, Any]], sentences: int, speech: Path | None, questions: int) -> None:
    """Put nano's word error rate, its answers and its first audio beside the settings of `generate`."""
    reader = ReadAloud(nano_checkpoint(), unseen_sentences(sentences))
    rules = settings(reader.model, NANO_STEPS)
    for row in rows:
        options = rules.get(row["decoder"])
        if options is None:
            continue
        row["wer"] = reader.measure(options, seed=0)["wer"]
        row["first_audio"] = first_audio(reader.model, reader.processor, options)
        if speech is not None:
            row["answers_right"] = answers_right(speech / "test", questions, options)
    cached = next(row for row in rows if row["decoder"] == "cached")
    rows[0] |= {name: cached[name] for name in ("wer", "answers_right") if name in cached}  # the same ids


def answers_right(folder: Path, questions: int, options: dict[str, Any]) -> float:
    """Share of nano's answers to held-out spoken questions whose text is exactly right."""
    corpus = [(line, samples) for line, samples in read_corpus(folder) if line["split"] != "train"]
    corpus = corpus[:: max(1, len(corpus) // questions)]
    waveforms = [np.asarray(samples, np.float32) / 32768 for _, samples in corpus]
    replies = Checkpoint.from_pretrained(nano_checkpoint(), device="cpu", **options).ask_all("chat", waveforms)
    return statistics.mean(
        reply.text.strip() == line["answer"] for (line, _), reply in zip(corpus, replies, strict=True)
    )


def first_audio(model: TttForConditionalGeneration, processor: Any, options: dict[str, Any]) -> float:
    """Median seconds from a question's waveform to the first audio of its answer."""
    talker = TttTalker(model, processor, **options)
    seconds = []
    for number in (1, 2, 3):
        question = nano_checkpoint() / "questions" / f"{number}.wav"
        began = time.perf_counter()
        with talker.stream(audio=question) as stream:
            next(event for event in stream if isinstance(event, TttAudioChunk))
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure_rows(reply_of: Callable[[int], Reply], sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """How many ids a second batches of different prompts write; rows end at different times, and leave."""
    replies = {size: reply_of(size) for size in sizes}
    runs: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for _ in range(repeats):
        for size, reply in replies.items():
            wall, cpu = time.perf_counter(), time.process_time()
            ids = reply.decode()
            written = int((ids[:, reply.prompt_length :] != reply.model.config.pad_token_id).sum())
            runs[size].append((written / (time.perf_counter() - wall), written / (time.process_time() - cpu)))
    rates = {size: tuple(map(statistics.median, zip(*several, strict=True))) for size, several in runs.items()}
    return [
        {
            "weights": str(replies[size].model.dtype).removeprefix("torch."),
            "rows": size,
            "ids_per_second": wall,
            "ids_per_cpu_second": cpu,
            "gain": cpu / rates[sizes[0]][1],
        }
        for size, (wall, cpu) in rates.items()
    ]


def measure_spans(lengths: list[int], repeats: int) -> list[dict[str, Any]]:
    """Seconds that one span of so many codes takes under full and under block-causal attention."""
    rows = []
    for length in lengths:
        row: dict[str, Any] = {"codes": length}
        for name, block_length in {"full": None, "block": LONGEST_WORD}.items():
            reply = span_reply(length, block_length)
            runs = []
            for _ in range(repeats):
                cpu = time.process_time()
                ids = reply.decode()
                runs.append(time.process_time() - cpu)
            if ids.shape[1] - reply.prompt_length != length:
                raise SystemExit(f"The random model ended its span of {length} codes early; take another seed.")
            row[name] = statistics.median(runs)
        rows.append(row | {"gain": row["full"] / row["block"]})
    return rows


COLUMNS = {
    "model": "{}", "threads": "{}", "decoder": "{}", "forwards": "{:.0f}", "ids_per_forward": "{:.2f}",
    "seconds": "{:.1f}", "cpu_seconds": "{:.1f}", "speed_up": "{:.1f}x",
    "real_time_factor": "{:.2f}", "peak_mb": "{:.0f}", "first_audio": "{:.2f}", "wer": "{:.3f}",
    "answers_right": "{:.2f}",
}  # fmt: skip
ROW_COLUMNS = {
    "weights": "{}",
    "rows": "{}",
    "ids_per_second": "{:.0f}",
    "ids_per_cpu_second": "{:.0f}",
    "gain": "{:.1f}x",
}
SPAN_COLUMNS = {"codes": "{}", "full": "{:.2f} s", "block": "{:.2f} s", "gain": "{:.1f}x"}


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Markdown; a dash where nothing was measured, and no column of dashes."""
    shown = {name: form for name, form in columns.items() if any(name in row for row in rows)}
    lines = ["| " + " | ".join(name.replace("_", " ") for name in shown) + " |", "|---" * len(shown) + "|"]
    lines += [
        "| " + " | ".join(form.format(row[name]) if name in row else "–" for name, form in shown.items()) + " |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["nano"], choices=["nano", "100M"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech in the reply")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=100, help="read aloud for the word error rate; 0: no quality")
    parser.add_argument("--speech", type=Path, help="folder of synthesise.py, whose test questions are then answered")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32], help="sizes of nano's batches")
    parser.add_argument("--spans", type=int, nargs="*", default=[64, 128, 256, 512], help="codes of the long spans")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--onnx", action="store_true", help="also on ONNX Runtime")
    parser.add_argument("--out", type=Path, help="the numbers, as JSON")
    parser.add_argument("--plot", type=Path, help="the picture, as SVG or PNG")
    options = parser.parse_args()
    torch.set_num_threads(options.threads[0])
    print(f"torch {torch.__version__}, {options.seconds:g} s of speech\n")
    results: dict[str, Any] = {"threads": options.threads[0], "seconds_of_speech": options.seconds, "decoders": []}
    nano = AutoModel.from_pretrained(nano_checkpoint()).eval()
    processor = AutoProcessor.from_pretrained(nano_checkpoint())
    sentences = unseen_sentences(48)
    if "nano" in options.models:
        reply = spoken_reply(nano, processor, sentences, options.seconds)
        name = f"nano ({nano.num_parameters() / 1e6:.0f}M)"
        rows = measure_threads(name, reply, settings(nano, NANO_STEPS), options)
        if options.sentences:
            first = [row for row in rows if row["threads"] == options.threads[0]]
            add_quality(first, options.sentences, options.speech, options.questions)
        results["decoders"] += rows
    if "100M" in options.models:
        ids = round(options.seconds * 12.5 / 26 * (13 + 1 + 26 + 1))
        model = random_model(hidden_size=768, layers=11)
        reply = interleaved_reply(model, ids)
        rules = settings(model, DENOISING_STEPS)
        results["decoders"] += measure_threads("random (101M)", reply, rules, options)
    print(table(results["decoders"], COLUMNS))
    if options.rows:
        seconds = min(4.0, options.seconds)
        results["rows"] = []
        for model in (nano, copy.deepcopy(nano).to(torch.bfloat16)):
            results["rows"] += measure_rows(
                partial(spoken_reply, model, processor, sentences, seconds),
                options.rows,
                options.repeats,
            )
        print(f"\n{table(results['rows'], ROW_COLUMNS)}")
    if options.spans:
        results["spans"] = measure_spans(options.spans, options.repeats)
        print(f"\n{table(results['spans'], SPAN_COLUMNS)}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()

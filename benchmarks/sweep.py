"""
How nano should be decoded: rules and steps against a judge's transcripts, on sentences that training never saw,
and against right answers.

    python benchmarks/sweep.py --sentences 100                                  # half an hour of one core
    python benchmarks/sweep.py --sentences 100 --only denoising_steps entropy_bound
    # also answers: 20 minutes more
    python benchmarks/sweep.py --sentences 100 --speech data/nano --out benchmarks/results/sweep.json

Each setting reads the same held-out sentences aloud, word for word as `ttt speak` does (several rows at a time);
pocketsphinx transcribes them, with a bigram of the domain. What a setting leaves open is as published, whatever nano's
own config has.
Reported: word error rate; its difference to the published rule (8 steps, most confident first, a fixed number in each)
with the standard error that a bootstrap over the sentences gives; the share of sentences whose numbers and content
words are all transcribed right; ids per forward, the mean over the rows. Settings that draw run with three seeds, and
the spread of their error rates is shown. With `--speech`, settings that can be the best point answer held-out
spoken questions too: the text is written id by id under every rule, but it sees the audio of the words before it.

The best point, which nano's `generation_config.json` should hold: the most ids per forward among the settings that
are neither understood less well nor answer less well than the published rule by more than one standard error of the
difference.
"""

import argparse
import json
import random
import statistics
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from replies import NANO_STEPS, PUBLISHED_RULE
from tqdm import tqdm

from finetune.nano.domain.questions import items, normalise, text_corpus
from finetune.nano.measure.judge import Judge, score
from finetune.nano.measure.model import Checkpoint, is_exact
from finetune.nano.speech.synthesise import read_corpus
from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt import TttProcessor

BATCH_SIZE = 16
SEEDS = 3
PUBLISHED: dict[str, Any] = {"denoising_steps": NANO_STEPS}
SETTINGS: list[dict[str, Any]] = [
    PUBLISHED,
    *({"denoising_steps": steps} for steps in (1, 2, 4, 16)),
    *({"denoising_steps": 16, "confidence_threshold": threshold} for threshold in (0.2, 0.3, 0.5, 0.7, 0.9)),
    *({"denoising_steps": 16, "entropy_bound": bound} for bound in (1.0, 3.0, 6.0, 10.0)),
    {"denoising_steps": 16, "entropy_bound": 3.0, "remasking": "calibrated"},
    {"denoising_steps": 16, "confidence_threshold": 0.5, "remasking": "calibrated"},
    *({"denoising_steps": 8, "remasking": rule} for rule in ("calibrated", "random")),
    {"denoising_steps": 8, "audio_guidance_scale": 0.1},
    {"denoising_steps": 8, "audio_temperature": 0.7},
]


def is_random(setting: dict[str, Any]) -> bool:
    """Whether a setting draws."""
    return setting.get("remasking") == "random" or bool(setting.get("audio_temperature"))


def unseen_sentences(limit: int) -> list[str]:
    """Answers that training never saw, the same ones every time."""
    texts = sorted({item.answer for item in items() if item.split == "unseen_fact"})
    return random.Random(0).sample(texts, min(limit, len(texts)))


class ReadAloud:
    """Reads sentences aloud with one checkpoint and judges their transcripts."""

    def __init__(self, folder: Path, texts: list[str]):
        self.model = TttForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = TttProcessor.from_pretrained(folder)
        self.judge = Judge(text_corpus())
        self.texts = sorted(texts, key=len)

    def measure(self, setting: dict[str, Any], seed: int) -> dict[str, Any]:
        """Word error rate, the errors of each sentence, and cost of one setting."""
        transcripts, ids_per_forward = [], []
        for start in range(0, len(self.texts), BATCH_SIZE):
            texts = self.texts[start : start + BATCH_SIZE]
            messages = [self.processor.messages("tts", text) for text in texts]
            inputs = self.processor.prepare(messages, reply_texts=texts)
            generators = [torch.Generator().manual_seed(1000 * seed + start + row) for row in range(len(texts))]
            options = {"block_early_stop": True, "return_dict_in_generate": True} | PUBLISHED_RULE | setting
            out = self.model.generate(**inputs, generator=generators, **options)
            replies = self.processor.batch_decode_reply(out.sequences[:, inputs["input_ids"].shape[1] :])
            transcripts += [self.judge.transcribe(reply.audio) if len(reply.audio) else "" for reply in replies]
            ids_per_forward += out.tokens_per_forward.tolist()
        scores = score(self.texts, transcripts)
        errors = [_word_errors(*pair) for pair in zip(self.texts, transcripts, strict=True)]
        return {
            "wer": scores.wer,
            "keywords_right": scores.keywords,
            "ids_per_forward": statistics.mean(ids_per_forward),
            "errors": errors,
        }


class Answers:
    """Answers held-out spoken questions with one checkpoint."""

    def __init__(self, folder: Path, speech: Path):
        self.folder = folder
        held_out = [(line, waveform) for line, waveform in read_corpus(speech / "test") if line["split"] != "train"]
        self.lines = [line for line, _ in held_out]
        self.waveforms = [np.asarray(waveform, np.float32) / 32768 for _, waveform in held_out]

    def right(self, setting: dict[str, Any]) -> np.ndarray:
        """Which answers' texts are exactly right under a setting; drawn once."""
        options = {"block_early_stop": True} | PUBLISHED_RULE | setting
        replies = Checkpoint.from_pretrained(self.folder, device="cpu", **options).ask_all("chat", self.waveforms)
        return np.array([is_exact(line, reply) for line, reply in zip(self.lines, replies, strict=True)], float)


def compare_answers(answers: Answers, results: list[dict[str, Any]]) -> None:
    """
    Add the share of right answers, and its difference to the first one, the published rule's: to the fastest of the
    settings that are understood as well, then to the next, until one answers as well, too.
    """
    published = answers.right(results[0]["setting"])
    _add_answers(results[0], published, published)
    can_be_best = [
        one
        for one in results[1:]
        if is_as_intelligible(one) and one["ids_per_forward"] >= results[0]["ids_per_forward"]
    ]
    for result in tqdm(sorted(can_be_best, key=lambda one: -one["ids_per_forward"]), desc="answers"):
        _add_answers(result, answers.right(result["setting"]), published)
        if answers_as_well(result):
            break


def _add_answers(result: dict[str, Any], right: np.ndarray, published: np.ndarray) -> None:
    result["answers_right"] = float(right.mean())
    result["answers_difference"] = float((right - published).mean())
    result["answers_standard_error"] = standard_error(right - published, np.ones(len(right)))
    result["questions"] = len(right)


def _word_errors(reference: str, transcript: str) -> int:
    found = jiwer.process_words(normalise(reference), normalise(transcript))
    return found.substitutions + found.deletions + found.insertions


def standard_error(differences: np.ndarray, words: np.ndarray) -> float:
    """Standard error of a difference of word error rates, from a bootstrap over the sentences."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(words), size=(2000, len(words)))
    return float(np.std(differences[drawn].sum(-1) / words[drawn].sum(-1)))


def sweep(folder: Path, limit: int, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Measure every setting; the published rule comes first, and the others are compared with it."""
    reader = ReadAloud(folder, unseen_sentences(limit))
    words = np.array([len(normalise(text).split()) for text in reader.texts])
    results: list[dict[str, Any]] = []
    published = np.zeros(len(words))
    for setting in tqdm(settings, desc="settings"):
        runs = [reader.measure(setting, seed) for seed in range(SEEDS if is_random(setting) else 1)]
        errors = np.mean([run["errors"] for run in runs], axis=0)
        if not results:
            published = errors
        numbers = {
            key: statistics.mean(run[key] for run in runs) for key in ("wer", "keywords_right", "ids_per_forward")
        }
        results.append(
            {
                "setting": setting,
                **numbers,
                "wer_by_seed": [run["wer"] for run in runs],
                "difference": float((errors - published).sum() / words.sum()),
                "standard_error": standard_error(errors - published, words),
                "sentences": len(words),
            }
        )
    return results


def is_as_intelligible(result: dict[str, Any]) -> bool:
    """Whether a setting is understood as well as the published rule, within one standard error."""
    return result["difference"] <= result["standard_error"]


def answers_as_well(result: dict[str, Any]) -> bool:
    """Whether a setting answers as well as the published rule, within one standard error; true if it was not asked."""
    return result.get("answers_difference", 0.0) >= -result.get("answers_standard_error", 0.0)


def best(results: list[dict[str, Any]]) -> dict[str, Any]:
    """
    The most ids per forward among the settings that are understood, and answer, as well as the published rule, within
    one standard error. Where answers were compared, a setting without them is no candidate.
    """
    candidates = [result for result in results if "answers_right" in result] or results
    as_good = [result for result in candidates if is_as_intelligible(result) and answers_as_well(result)]
    return max(as_good, key=lambda result: result["ids_per_forward"])


def table(results: list[dict[str, Any]]) -> str:
    """Markdown, one row per setting."""
    rows = [
        "| setting | WER | against published | keywords right | answers right | against published | ids per forward |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        setting = ", ".join(f"{name.removeprefix('audio_')} {value}" for name, value in result["setting"].items())
        seeds = result["wer_by_seed"]
        spread = f" ({min(seeds):.3f} to {max(seeds):.3f})" if len(seeds) > 1 else ""
        rows.append(
            f"| {setting} | {result['wer']:.3f}{spread} | {result['difference']:+.3f} ± {result['standard_error']:.3f} "
            "| "
            f"{result['keywords_right']:.2f} | {_answers(result)} | {result['ids_per_forward']:.2f} |"
        )
    return "\n".join(rows)


def _answers(result: dict[str, Any]) -> str:
    if "answers_right" not in result:
        return "– | –"
    difference, error = result["answers_difference"], result["answers_standard_error"]
    return f"{result['answers_right']:.3f} | {difference:+.3f} ± {error:.3f}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_checkpoint())
    parser.add_argument("--sentences", type=int, default=60)
    parser.add_argument("--only", nargs="+", default=[], help="options; settings with another one are left out")
    parser.add_argument("--speech", type=Path, help="folder of synthesise.py, whose test questions are then answered")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    settings = [
        setting for setting in SETTINGS if not options.only or set(setting) <= {*options.only, "denoising_steps"}
    ]
    results = sweep(options.model, options.sentences, settings)
    if options.speech:
        compare_answers(Answers(options.model, options.speech), results)
    print(f"{table(results)}\n\nbest: {best(results)['setting']}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""
Nano's training examples: spoken corpora -> codes -> ids and labels, by task; and batches drawn from them without end.

Knows the folders that `synthesise.py` writes, the codec and the layout. Knows no model and no optimiser.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import IterableDataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from finetune.collate import Example, fill_blocks, pack_batch
from processing_ttt.codec_ttt import TttCodecModel
from processing_ttt.layout_ttt import TttLayout, aligned_groups
from processing_ttt.tasks_ttt import TASKS
from processing_ttt.vocabulary_ttt import add_ttt_tokens

from .domain import LARGEST_WRITTEN_NUMBER, items, keywords, number_words, text_corpus

WORDS_PER_GROUP = 1
FACTS_PER_LIST = 16
NUMBERS = [number_words(number) for number in range(101)]
TEXT_VOCAB_SIZE = 1024
NOISY_SHARE = 0.3  # of the spoken questions get a little noise, at 15 to 35 dB
GAIN_DB = (-12.0, 3.0)


def train_tokenizer(codebook_size: int) -> PreTrainedTokenizerFast:
    """
    Train nano's byte-level BPE on the domain's training sentences and the tasks' prompts, and add the markers and the audio alphabet.

    Args:
        codebook_size (`int`): Codes of the codec.

    Returns:
        `PreTrainedTokenizerFast`: Any text can be written with it; words of the domain are mostly one token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = text_corpus() + [f"system\n{task.system_prompt}\nuser\nassistant\n" for task in TASKS.values()] * 500
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=TEXT_VOCAB_SIZE, initial_alphabet=alphabet, min_frequency=2)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=2048, padding_side="left")
    add_ttt_tokens(fast, codebook_size)
    return fast


def read_shards(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]], np.ndarray]]:
    """Give name, index and samples of every finished shard of a corpus."""
    for index in sorted(folder.glob("shard-*.jsonl")):
        lines = [json.loads(line) for line in index.read_text().splitlines()]
        yield index.stem, lines, np.load(index.with_suffix(".npy"), mmap_mode="r")


@torch.inference_mode()
def encode_corpus(codec: TttCodecModel, folder: Path, out: Path, as_heard: bool, batch_size: int = 16) -> None:
    """
    Write the codes of a corpus, a file per shard; shards that are there already are left alone.

    Args:
        codec (`TttCodecModel`): The codec, final.
        folder (`Path`): A corpus of `synthesise.py`.
        out (`Path`): Gets `shard-00000.jsonl` with the corpus' fields and `codes`.
        as_heard (`bool`): Vary level and noise, as a microphone would (questions); otherwise as it is (answers).
        batch_size (`int`, *optional*, defaults to 16): Utterances encoded together.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, lines, samples in tqdm(list(read_shards(folder)), desc=f"encode {folder.name}", unit="shard"):
        if (out / f"{name}.jsonl").exists():
            continue
        rng = np.random.default_rng(int(name.split("-")[1]))
        order = sorted(range(len(lines)), key=lambda i: lines[i]["samples"])
        for start in range(0, len(order), batch_size):
            batch = [lines[i] for i in order[start : start + batch_size]]
            sounds = [
                samples[line["start"] : line["start"] + line["samples"]].astype(np.float32) / 32768 for line in batch
            ]
            if as_heard:
                sounds = [_as_heard(sound, rng) for sound in sounds]
            for line, codes in zip(batch, encode(codec, sounds), strict=True):
                line["codes"] = codes
        temporary = out / f"{name}.tmp"
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        temporary.rename(out / f"{name}.jsonl")


def encode(codec: TttCodecModel, sounds: list[np.ndarray]) -> list[list[int]]:
    """Give the codes of some sounds, float32 at the codec's rate, encoded as one padded batch."""
    values = torch.zeros(len(sounds), 1, max(map(len, sounds)))
    padding_mask = torch.zeros(len(sounds), values.shape[-1], dtype=torch.long)
    for row, sound in enumerate(sounds):
        values[row, 0, : len(sound)] = torch.from_numpy(sound)
        padding_mask[row, : len(sound)] = 1
    codes = codec.encode(values, padding_mask).audio_codes[:, 0]
    samples_per_code = codec.config.sampling_rate / codec.config.frame_rate
    return [
        row[: int(np.ceil(len(sound) / samples_per_code))].tolist() for row, sound in zip(codes, sounds, strict=True)
    ]


def _as_heard(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < NOISY_SHARE:
        level = np.sqrt(np.mean(sound**2)) * 10 ** (-rng.uniform(15, 35) / 20)
        sound = sound + (level * rng.standard_normal(len(sound))).astype(np.float32)
    return np.clip(sound * np.float32(10 ** (rng.uniform(*GAIN_DB) / 20)), -1, 1)


def read_codes(folder: Path) -> list[dict[str, Any]]:
    """Read what `encode_corpus` wrote."""
    return [json.loads(line) for path in sorted(folder.glob("shard-*.jsonl")) for line in path.read_text().splitlines()]


def build_examples(
    tokenizer: PreTrainedTokenizerFast, layout: TttLayout, codes: Path | None, frame_rate: float
) -> dict[str, list[Example]]:
    """
    Write every training example of nano.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): Nano's.
        layout (`TttLayout`): Nano's.
        codes (`Path`, *optional*): Folder with the encoded corpora `questions`, `wrapped`, `drills`, `answers` and `sentences`; without it, text only.
        frame_rate (`float`): Codes per second.

    Returns:
        `dict[str, list[dict]]`: Examples by task: `text` and `facts`, and with codes `chat`, `asr` and `tts`.
    """
    train = [item for item in items() if item.split == "train"]
    more = items(largest_number=LARGEST_WRITTEN_NUMBER)
    written = sorted({item.answer for item in more if item.split == "train"})
    build = layout.build_example
    examples = {
        "text": [build(tokenizer, "text", item.question, reply_text=item.answer) for item in train],
        "facts": _lists_of_facts(tokenizer, written),
    }
    if codes is None:
        return examples

    def groups(line: dict[str, Any]) -> list[tuple[str, list[int]]]:
        return aligned_groups(line["words"], line["codes"], frame_rate, WORDS_PER_GROUP)

    known = set(text_corpus())  # a corpus may hold more than the domain asks for

    def read(corpus: str) -> list[dict[str, Any]]:
        return [line for line in read_codes(codes / corpus) if line.get("question", line["text"]) in known]

    questions, answers, sentences = read("questions") + read("wrapped"), read("answers"), read("sentences")
    spoken_answers = {line["text"]: groups(line) for line in answers}
    dictated = questions + read_codes(codes / "drills")
    examples["asr"] = [build(tokenizer, "asr", codes=line["codes"], reply_text=line["text"]) for line in dictated]
    examples["chat"] = [
        build(tokenizer, "chat", codes=line["codes"], reply_groups=spoken_answers[line["answer"]])
        for line in questions
        if line["answer"] in spoken_answers
    ]
    read_aloud = answers + sentences
    examples["tts"] = [build(tokenizer, "tts", line["text"], reply_groups=groups(line)) for line in read_aloud]
    return examples


def _lists_of_facts(
    tokenizer: PreTrainedTokenizerFast, answers: list[str], rounds: int = 10, seed: int = 0
) -> list[Example]:
    """
    Write answers as plain text, a line each: half of the lists at random, half in order, operand by operand. Every answer restates its
    question, so this is arithmetic at eight ids a fact, where a question and its answer in a conversation take nearly forty.
    """
    rng = random.Random(seed)
    in_order = sorted(
        answers, key=_operands
    )  # "Thirteen minus five is eight." stands before "Thirteen minus six is seven."
    lists = []
    for number in range(rounds):
        ordered = in_order if number % 2 else rng.sample(answers, len(answers))
        first = rng.randrange(FACTS_PER_LIST)
        for start in range(first, len(ordered), FACTS_PER_LIST):
            text = "\n".join(ordered[start : start + FACTS_PER_LIST])
            ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            lists.append({"input_ids": ids, "labels": list(ids)})
    return lists


def _operands(answer: str) -> tuple[str, tuple[int, ...]]:
    """Sort key of an answer: what is done, then the numbers it is done to."""
    words = keywords(answer)
    numbers = tuple(NUMBERS.index(word) for word in words if word in NUMBERS)
    return " ".join(word for word in words if word not in NUMBERS), numbers[:2]


class PackedBatches(IterableDataset):
    """
    Batches without end: tasks drawn by their weights, examples of a task in shuffled rounds, packed into rows.

    Args:
        examples (`dict[str, list[dict]]`): Examples by task.
        weights (`dict[str, float]`): How often each task is drawn, per example.
        layout (`TttLayout`): Names the markers.
        tokens_per_batch (`int`): Ids of a batch, padding included.
        row_length (`int`): Ids of a packed row.
        block_length (`int`): Spans are filled to whole blocks of this length ...
        fill_prob (`float`): ... with this probability, per example.
        seed (`int`): Decides everything.
    """

    def __init__(
        self,
        examples: dict[str, list[Example]],
        weights: dict[str, float],
        layout: TttLayout,
        tokens_per_batch: int,
        row_length: int,
        block_length: int,
        fill_prob: float = 0.7,
        seed: int = 0,
    ):
        self.examples = examples
        self.weights = {task: weight for task, weight in weights.items() if task in examples}
        self.layout = layout
        self.tokens_per_batch = tokens_per_batch
        self.row_length = row_length
        self.block_length = block_length
        self.fill_prob = fill_prob
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches as `pack_batch` makes them."""
        rng = random.Random(self.seed)
        rounds = {task: self._rounds(task, random.Random(f"{self.seed} {task}")) for task in self.weights}
        tasks, weights = list(self.weights), list(self.weights.values())
        rows = self.tokens_per_batch // self.row_length
        chosen: list[Example] = []
        length = 0
        while True:
            example = next(rounds[rng.choices(tasks, weights)[0]])
            if rng.random() < self.fill_prob:
                example = fill_blocks(example, self.block_length, self.layout.vocabulary)
            if length + len(example["input_ids"]) > 0.95 * self.tokens_per_batch:
                batch = pack_batch(chosen, self.row_length, self.layout.vocabulary.pad_token_id)
                yield {name: tensor[:rows] for name, tensor in batch.items()}
                chosen, length = [], 0
            chosen.append(example)
            length += len(example["input_ids"])

    def _rounds(self, task: str, rng: random.Random) -> Iterator[Example]:
        order = list(self.examples[task])
        while True:
            rng.shuffle(order)
            yield from order

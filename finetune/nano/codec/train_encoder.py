"""
Train nano's codec to encode with Whisper's encoder: a small head on its features predicts the codes that the language
model was trained on.

    python -m finetune.nano.codec.train_encoder codes --model runs/nano \
        --speech data/nano/questions data/nano/dictation --out runs/encoder --minutes 5
    python -m finetune.nano.codec.train_encoder words --model runs/nano \
        --speech data/nano/questions data/nano/dictation data/nano/phrases --learning-rate 8e-4 \
        --natural data/nano/natural --recorded data/nano/recorded --out runs/encoder --minutes 40

`--model` is a checkpoint whose codec has the convolutional encoder: the teacher. The language model and the decoder
stay as they are.

1. `codes`: the fast synthesisers' speech, disturbed; cross-entropy of each digit against the teacher's codes of the
   clean speech.
2. `words`: a quarter of a batch is that, and the others are utterances whose codes by the teacher are not intelligible
   (natural voices, recorded people). The frozen language model's loss on all rows is added: that of the transcript or
   of the right answer after the predicted codes. The codes are the most probable ones; their gradient is that of the
   mean embedding under the predicted probabilities (straight through).

Whisper's weights are frozen. `--minutes` is time of this process's CPU, also across restarts. In the folder `--out`:
`codes.safetensors`, `words.safetensors` (weights, optimiser, progress; the same command goes on from there),
`time.json`, and `codec/`, which `AutoModel.from_pretrained` reads, at the end of each stage and every few minutes.

Depends on the codec, the model, and folders of `synthesise.py`. Independent of texts and synthesisers.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoProcessor

from modeling_ttt import TttForConditionalGeneration
from processing_ttt import TttProcessor
from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel
from processing_ttt.codec_whisper_ttt import TttCodecWhisperEncoder
from processing_ttt.layout_ttt import IGNORE_INDEX
from processing_ttt.tasks_ttt import TASKS

from ..speech.acoustics import as_recorded
from ..speech.synthesise import read_corpus
from ..speech.voices import SAMPLING_RATE
from .codec_stage import Reused, Stage, export

EXPORT_SECONDS = 600
BATCH = 16
LONGEST_SECONDS = 8.0
LONGEST_SILENCE = 0.6  # seconds before the speech and after it
ANSWER_SHARE = 0.5  # of the questions are learnt by their answer instead of their words
CODES_WEIGHT, WORDS_WEIGHT = 0.5, 1.0
HEAD_DROPOUT = 0.1  # on Whisper's features
NATURAL_ROWS, RECORDED_ROWS = 10, 2  # of a batch of the stage `words`
RESCAN_BATCHES = 40

Utterance = tuple[dict[str, Any], np.ndarray]  # index line, int16 samples


def student(teacher: TttCodecModel) -> TttCodecModel:
    """
    Make a codec with the encoder of Whisper tiny.en and the teacher's decoder; the head of the encoder is new.

    Args:
        teacher ([`TttCodecModel`]): With the convolutional encoder.

    Returns:
        [`TttCodecModel`]: In eval mode; only the head of its encoder requires gradients.

    Raises:
        ValueError: If the teacher has Whisper's encoder already.
    """
    if teacher.config.whisper_config is not None:
        raise ValueError(
            "The codec of --model has Whisper's encoder already: give a checkpoint whose codec `train_codec` trained."
        )
    from .convert_whisper import encoder_state, installed_whisper, read_variables

    whisper_config, whisper = encoder_state(read_variables(installed_whisper()))
    config = TttCodecConfig(**{**teacher.config.to_dict(), "whisper_config": whisper_config.to_dict()})
    codec = TttCodecModel(config).eval().requires_grad_(False)
    decoding = {name: value for name, value in teacher.state_dict().items() if not name.startswith("encoder.")}
    encoding = {f"encoder.whisper.{name}": value for name, value in whisper.items()}
    head_of_the_encoder = {f"encoder.{name}": value for name, value in head(codec.encoder).state_dict().items()}
    codec.load_state_dict(decoding | encoding | head_of_the_encoder)
    codec.encoder.requires_grad_(True)
    codec.encoder.whisper.requires_grad_(False)
    return codec


class TeacherAndStudent:
    """
    Encodes batches of disturbed speech by both codecs.

    Args:
        teacher ([`TttCodecModel`]): With the convolutional encoder.
        codec ([`TttCodecModel`]): The student.
    """

    def __init__(self, teacher: TttCodecModel, codec: TttCodecModel):
        self.teacher, self.codec = teacher, codec

    @torch.no_grad()
    def features(self, waveforms: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Whisper's features `(batch, frames, d_model)` of disturbed waveforms, and codes of each row `(batch,)`."""
        size = self.codec.config.samples_per_code
        samples, row_frames = padded([as_recorded(audio, rng) for audio in waveforms], size)
        encoder = self.codec.encoder
        assert isinstance(encoder, TttCodecWhisperEncoder)
        with torch.autocast("cpu", enabled=False):
            return encoder.features(self.codec.standard_level(samples), row_frames), row_frames

    @torch.no_grad()
    def taught_bins(self, waveforms: Sequence[np.ndarray]) -> torch.Tensor:
        """The teacher's digits of clean waveforms, `(batch, codes, dims)`; -1 after the end of a shorter row."""
        samples, row_frames = padded(waveforms, self.codec.config.samples_per_code)
        with torch.autocast("cpu", enabled=False):
            bins = self.teacher.bins(self.teacher.standard_level(samples), row_frames)
        within = torch.arange(bins.shape[1]) < row_frames[:, None]
        return bins.masked_fill(~within[..., None], -1)


def padded(waveforms: Sequence[np.ndarray], samples_per_code: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Waveforms as rows of whole codes, zeros after the end of a shorter one, and codes of each row `(batch,)`."""
    rows = [F.pad(torch.from_numpy(audio), (0, -len(audio) % samples_per_code)) for audio in waveforms]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) // samples_per_code for row in rows])


def draw(
    utterances: Sequence[Utterance], count: int, rng: np.random.Generator
) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Random utterances with random silence around them: index lines and float32 samples."""
    chosen = []
    for number in rng.integers(len(utterances), size=count):
        line, samples = utterances[int(number)]
        around = [int(rng.uniform(0, LONGEST_SILENCE) * SAMPLING_RATE) for _ in range(2)]
        audio = np.pad(samples.astype(np.float32) / 32768, around)
        chosen.append((line, audio))
    return chosen


def codes_loss(logits: torch.Tensor, bins: torch.Tensor, levels: Sequence[int]) -> torch.Tensor:
    """
    Cross-entropy of the digits, summed over the digits of a code and averaged over codes.

    Args:
        logits (`torch.FloatTensor` of shape `(batch, codes, sum(levels))`): From the head.
        bins (`torch.LongTensor` of shape `(batch, codes, dims)`): The right digits; -1 is not counted.
        levels (`Sequence[int]`): Levels of each digit.

    Returns:
        `torch.FloatTensor`: The loss.
    """
    parts = zip(logits.split(tuple(levels), dim=-1), bins.unbind(-1), strict=True)
    losses = [F.cross_entropy(part.flatten(0, 1), digit.flatten(), ignore_index=-1) for part, digit in parts]
    return sum(losses, start=logits.new_zeros(()))


class WordsLoss:
    """
    The frozen language model's loss of what should be understood from predicted codes.

    Args:
        model ([`TttForConditionalGeneration`]): The language model, frozen, in eval mode.
        processor ([`TttProcessor`]): Its processor.
        levels (`Sequence[int]`): Levels of each digit of a code.
    """

    def __init__(self, model: TttForConditionalGeneration, processor: TttProcessor, levels: Sequence[int]):
        self.model, self.processor, self.levels = model, processor, tuple(levels)
        first = model.config.audio_code_offset
        self.code_embeddings = model.get_input_embeddings().weight[first : first + model.config.audio_codebook_size]

    def __call__(
        self, logits: torch.Tensor, row_frames: torch.Tensor, lines: Sequence[dict], rng: np.random.Generator
    ) -> torch.Tensor:
        """
        Compute the loss.

        Args:
            logits (`torch.FloatTensor` of shape `(batch, codes, sum(levels))`): From the head.
            row_frames (`torch.LongTensor` of shape `(batch,)`): Codes of each row.
            lines (`Sequence[dict]`): Index line of each row's utterance.
            rng (`np.random.Generator`): Chooses between transcript and answer.

        Returns:
            `torch.FloatTensor`: Mean over rows of the mean over the ids to be written.
        """
        probabilities = code_probabilities(logits, self.levels)  # (batch, codes, codebook)
        codes = probabilities.argmax(-1)
        examples = [
            self._example(line, row[:count].tolist(), rng)
            for line, row, count in zip(lines, codes, row_frames, strict=True)
        ]
        input_ids, labels, attention_mask = self._pad(examples)
        mean = probabilities @ self.code_embeddings
        surplus = mean - mean.detach()  # zero, with the gradient of the mean embedding
        first = self.model.config.audio_code_offset
        is_code = (input_ids >= first) & (input_ids < first + self.model.config.audio_codebook_size)
        within = torch.arange(codes.shape[1]) < row_frames[:, None]

        def pass_gradient(module, arguments, output):
            return output.index_put((is_code,), surplus[within].to(output.dtype), accumulate=True)

        handle = self.model.get_input_embeddings().register_forward_hook(pass_gradient)
        try:
            output = self.model(
                input_ids,
                attention_mask,
                labels=labels,
                audio_mask=torch.zeros_like(input_ids, dtype=torch.bool),
                mask_prob=torch.ones(len(input_ids)),
                skip_logits=True,
                use_cache=False,
            )
        finally:
            handle.remove()
        return output.text_loss

    def _example(self, line: dict, codes: list[int], rng: np.random.Generator) -> dict[str, list[int]]:
        """A transcript to learn, or, of a question, its answer; a freely worded one is learnt by its answer alone."""
        is_question = line["answer"] != line["text"] and line["kind"] != "repeat"
        by_answer = is_question and ("question" in line or rng.random() < ANSWER_SHARE)
        system_prompt, wanted = (TASKS["text"].system_prompt, line["answer"]) if by_answer else (None, line["text"])
        layout, tokenizer = self.processor.layout, self.processor.tokenizer
        return layout.build_example(tokenizer, "asr", codes=codes, reply_text=wanted, system_prompt=system_prompt)

    def _pad(self, examples: Sequence[dict[str, list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = {name: [torch.tensor(example[name]) for example in examples] for name in ("input_ids", "labels")}
        pad = self.model.config.pad_token_id
        input_ids = pad_sequence(rows["input_ids"], batch_first=True, padding_value=pad)
        labels = pad_sequence(rows["labels"], batch_first=True, padding_value=IGNORE_INDEX)
        lengths = torch.tensor([len(row) for row in rows["input_ids"]])
        return input_ids, labels, (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()


def code_probabilities(logits: torch.Tensor, levels: Sequence[int]) -> torch.Tensor:
    """
    Probability of each code, its digits being independent.

    Args:
        logits (`torch.FloatTensor` of shape `(batch, codes, sum(levels))`): Of the digits.
        levels (`Sequence[int]`): Levels of each digit, the lowest first.

    Returns:
        `torch.FloatTensor` of shape `(batch, codes, codebook)`: In the order of the codes.
    """
    probabilities: torch.Tensor | None = None
    for part in logits.split(tuple(levels), dim=-1):
        digit = part.softmax(-1)
        # A later digit counts more in the code's number, so it varies slowest.
        probabilities = (
            digit if probabilities is None else (digit[..., :, None] * probabilities[..., None, :]).flatten(-2)
        )
    assert probabilities is not None
    return probabilities


def read(folders: Iterable[Path]) -> list[Utterance]:
    """Training utterances of some corpora."""
    longest = LONGEST_SECONDS * SAMPLING_RATE
    return [
        (line, samples)
        for folder in folders
        for line, samples in read_corpus(folder)
        if line["split"] == "train" and len(samples) <= longest
    ]


def head(encoder: TttCodecWhisperEncoder) -> torch.nn.ModuleDict:
    """The parts of the encoder that are trained."""
    names = ("input_norm", "downsample", "code_layers", "norm", "output_proj")
    return torch.nn.ModuleDict({name: getattr(encoder, name) for name in names})


@dataclass(frozen=True)
class Batch:
    """
    Features of disturbed utterances.

    Args:
        features (`torch.HalfTensor` of shape `(batch, frames, d_model)`): Whisper's features.
        row_frames (`torch.LongTensor` of shape `(batch,)`): Codes of each row.
        lines (`list[dict]`): Index line of each row's utterance.
        bins (`torch.LongTensor` of shape `(taught, codes, dims)`): The teacher's digits of the last rows.
    """

    features: torch.Tensor
    row_frames: torch.Tensor
    lines: list[dict[str, Any]]
    bins: torch.Tensor


class Batches:
    """
    Makes batches to learn from.

    Args:
        codecs ([`TeacherAndStudent`]): Both codecs.
        speech (`Sequence[Utterance]`): Utterances whose codes the teacher gives.
        others (`dict[Path, int]`): Corpora that are learnt from without the teacher, perhaps still being written, and
            how many rows of a batch come from each.
    """

    def __init__(self, codecs: TeacherAndStudent, speech: Sequence[Utterance], others: dict[Path, int]):
        self.codecs, self.speech, self.others = codecs, speech, others
        self.taught = BATCH - sum(others.values())
        self.new = 0

    def make(self, rng: np.random.Generator) -> Batch:
        """A batch of random utterances."""
        if self.new % RESCAN_BATCHES == 0:
            self.corpora = [(read([folder]), count) for folder, count in self.others.items()]
        self.new += 1
        drawn = [utterance for corpus, count in self.corpora for utterance in draw(corpus, count, rng)]
        drawn += draw(self.speech, self.taught, rng)
        features, row_frames = self.codecs.features([audio for _, audio in drawn], rng)
        bins = self.codecs.taught_bins([audio for _, audio in drawn[-self.taught :]])
        return Batch(features.half(), row_frames, [line for line, _ in drawn], bins)


def train(options: argparse.Namespace) -> None:
    """Run one stage."""
    torch.manual_seed(options.seed)
    processor = AutoProcessor.from_pretrained(options.model)
    teacher = processor.codec.eval().requires_grad_(False)
    codec = student(teacher)
    encoder = codec.encoder
    assert isinstance(encoder, TttCodecWhisperEncoder)
    parts, levels = head(encoder), codec.config.fsq_levels
    is_first = options.stage == "codes"
    if not is_first:
        load_head(parts, options.out / "codes.safetensors")
        model = TttForConditionalGeneration.from_pretrained(options.model).eval().requires_grad_(False)
        words_loss = WordsLoss(model, processor, levels)
    stage = Stage(options.stage, options.out, {"head": parts}, options.minutes, options.learning_rate)
    others = {} if is_first else {options.natural: NATURAL_ROWS, options.recorded: RECORDED_ROWS}
    batches = Batches(TeacherAndStudent(teacher, codec), read(options.speech), others)
    reused = Reused(batches.make, uses=5 if is_first else 2)

    def compute_loss(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        batch = reused.draw(rng)
        logits = encoder.head(F.dropout(batch.features.float(), HEAD_DROPOUT), batch.row_frames)
        codes = codes_loss(logits[-batches.taught :, : batch.bins.shape[1]], batch.bins, levels)
        if is_first:
            return codes, {"codes": codes.item()}
        words = words_loss(logits, batch.row_frames, batch.lines, rng)
        return WORDS_WEIGHT * words + CODES_WEIGHT * codes, {"words": words.item(), "codes": codes.item()}

    stage.run(compute_loss, {lambda: export(codec, options.out / "codec"): EXPORT_SECONDS})
    export(codec, options.out / "codec")


def load_head(parts: torch.nn.ModuleDict, state: Path) -> None:
    """Take the head's weights from the state of a stage."""
    if not state.exists():
        raise SystemExit(f"{state} is missing: run the stage `codes` with the same --out first.")
    prefix = "model.head."
    stored = load_file(state)
    parts.load_state_dict(
        {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    )


def main(arguments: Iterable[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("codes", "words"))
    parser.add_argument(
        "--model", type=Path, required=True, help="checkpoint whose codec has the convolutional encoder"
    )
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="corpora of the fast synthesisers")
    parser.add_argument("--natural", type=Path, help="corpus of natural voices, for `words`")
    parser.add_argument("--recorded", type=Path, help="corpus of a recorded person, for `words`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes of the stage, restarts included")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(None if arguments is None else list(arguments))
    torch.set_num_threads(1)
    if options.stage == "words" and None in (options.natural, options.recorded):
        parser.error("The stage `words` needs --natural and --recorded.")
    options.out.mkdir(parents=True, exist_ok=True)
    train(options)


if __name__ == "__main__":
    main()

"""
What ONNX Runtime and 8 bits cost: the same sentences read aloud and the same spoken questions answered, on PyTorch and
on exports of the same checkpoint.

    ttt export checkpoints/ttt-nano nano-int8 --dtype int8
    python benchmarks/edge.py --exports nano-int8 --speech data/nano --out benchmarks/results/edge.json

Settings are the checkpoint's own. Sentences and questions are those of `sweep.py`: unseen sentences, of which
pocketsphinx with a bigram of the domain writes transcripts, and held-out questions. Differences to PyTorch have the
standard error that a bootstrap gives. With `--int8-codec` the exported encoder also encodes the questions.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime import InferenceSession
from sweep import Answers, ReadAloud, standard_error, unseen_sentences
from tqdm import tqdm

from finetune.nano.domain.questions import normalise
from finetune.nano.measure.model import Checkpoint, is_exact
from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt.codec_interface_ttt import TttCodecOutput
from processing_ttt.export_codec_onnx_ttt import ENCODER_FILE


class EncoderGraph:
    """Replaces `encode` of a codec by its exported graph."""

    def __init__(self, graph: Path, samples_per_code: int):
        self.session = InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.samples_per_code = samples_per_code

    def encode(self, input_values: torch.Tensor, padding_mask: torch.Tensor | None = None) -> TttCodecOutput:
        """As [`TttCodecModel.encode`], one row after the other."""
        rows = []
        for number, row in enumerate(input_values[:, 0]):
            samples = row if padding_mask is None else row[: int(padding_mask[number].sum())]
            padded = np.pad(samples.numpy(), (0, -len(samples) % self.samples_per_code))
            (codes,) = self.session.run(None, {"waveform": padded[None]})
            rows.append(torch.from_numpy(codes[0]))
        audio_codes = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        return TttCodecOutput(audio_codes=audio_codes[:, None])


def measure(folder: Path, engine: str, options: argparse.Namespace) -> dict[str, Any]:
    """Errors of each sentence, ids per forward, and which questions are answered right."""
    reader = ReadAloud(nano_checkpoint(), unseen_sentences(options.sentences))
    reader.model = TttForConditionalGeneration.from_pretrained(folder, engine=engine).eval()
    read = reader.measure(own_settings(reader.model), seed=0)
    words = np.array([len(normalise(text).split()) for text in reader.texts])
    found = {"engine": engine, "folder": folder.name, "words": words, **read}
    if options.speech:
        answers = Answers(folder, options.speech)
        talker = Checkpoint.from_pretrained(folder, device="cpu", engine=engine)
        if engine == "onnx" and options.int8_codec:
            codec = talker.processor.codec
            graph = EncoderGraph(folder / "onnx" / ENCODER_FILE, codec.config.samples_per_code)
            codec.encode = graph.encode
        replies = talker.ask_all("chat", answers.waveforms)
        found["right"] = np.array([is_exact(*pair) for pair in zip(answers.lines, replies, strict=True)], float)
    return found


def own_settings(model: TttForConditionalGeneration) -> dict[str, Any]:
    """The checkpoint's own settings of decoding, which `ReadAloud` would replace by the published ones."""
    names = ["block_length", "first_block_length", "denoising_steps", "reveal_schedule", "remasking"]
    names += ["confidence_threshold", "entropy_bound", "block_early_stop", "max_span_length"]
    return {name: getattr(model.generation_config, name, None) for name in names}


def compared(found: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Numbers of one system beside those of the first."""
    errors = np.array(found["errors"]) - np.array(first["errors"])
    result = {key: found[key] for key in ("engine", "folder", "wer", "ids_per_forward")}
    result |= {
        "wer_difference": float(errors.sum() / found["words"].sum()),
        "wer_standard_error": standard_error(errors, found["words"]),
        "sentences": len(errors),
    }
    if "right" in found:
        right = found["right"] - first["right"]
        result |= {
            "answers_right": float(found["right"].mean()),
            "answers_difference": float(right.mean()),
            "answers_standard_error": standard_error(right, np.ones(len(right))),
            "questions": len(right),
        }
    return result


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_checkpoint())
    parser.add_argument("--exports", type=Path, nargs="+", required=True, help="folders of `ttt export`")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--speech", type=Path, help="folder of synthesise.py, whose test questions are then answered")
    parser.add_argument("--int8-codec", action="store_true", help="encode questions with the exported encoder, too")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    systems = [(options.model, "torch"), *((folder, "onnx") for folder in options.exports)]
    found = [measure(folder, engine, options) for folder, engine in tqdm(systems, desc="systems")]
    results = [compared(one, found[0]) for one in found]
    print(json.dumps(results, indent=1))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

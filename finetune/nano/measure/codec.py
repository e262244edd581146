"""
How much of the speech the codec preserves, by independent judges, and how fast it is.

    python -m finetune.nano.measure.codec --codec checkpoints/ttt-nano/codec --speech data/nano/voice-test \\
        --split unseen_fact
    python -m finetune.nano.measure.codec --codec checkpoints/ttt-nano/codec --speech data/dictation-test \\
        --voices rms awb --general
    python -m finetune.nano.measure.codec --codec checkpoints/ttt-nano/codec --speech prompts/manifest.jsonl --general

Four kinds of audio go to the judge: the synthesiser's own speech; its log-mel frames turned back by Griffin-Lim (what
the frames lose); the frames that the codec decodes, by Griffin-Lim (what the codes lose); and the codec's own audio
(what the vocoder loses). Beside the scores are DNSMOS and the likeness of the voice to the original's, where
`speechmos` and `resemblyzer` are installed, and for the codec bits of entropy per code, codes used, speed on one
thread.

Depends on the codec and the judges. Independent of token ids, the language model and how the codec was trained.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch.nn import functional as F
from transformers import AutoModel

from finetune.evaluation.judges import mean_opinion, speaker_similarity
from finetune.nano.domain.questions import text_corpus
from finetune.nano.speech.recorded import spoken_text
from finetune.nano.speech.synthesise import read_corpus
from finetune.nano.speech.voices import SAMPLING_RATE
from processing_ttt.audio_input_ttt import load_audio
from processing_ttt.codec_ttt import TttCodecModel

from .judge import Judge, score

GRIFFIN_LIM_STEPS = 32


def griffin_lim(codec: TttCodecModel, mel: torch.Tensor) -> torch.Tensor:
    """
    Audio from log-mel frames without any learnt part.

    Args:
        codec ([`TttCodecModel`]): Whose frames they are.
        mel (`torch.Tensor` of shape `(1, mel_frames, mel)`): Normalised log-mel frames.

    Returns:
        `torch.Tensor` of shape `(samples,)`: At `codec.config.sampling_rate`.
    """
    config = codec.config
    magnitudes = (mel * config.mel_std + config.mel_mean).exp() @ torch.linalg.pinv(codec.log_mel.filters)
    return torchaudio.functional.griffinlim(
        magnitudes.clamp(min=0).transpose(1, 2),
        window=torch.hann_window(config.n_fft),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.n_fft,
        power=1.0,
        n_iter=GRIFFIN_LIM_STEPS,
        momentum=0.99,
        length=None,
        rand_init=False,
    )[0]


def entropy(codes: Sequence[int]) -> float:
    """
    Bits per code of the distribution of single codes.

    Args:
        codes (`Sequence[int]`): Codes.

    Returns:
        `float`: 0 where all are equal, log2 of the codebook's size where all occur equally often.
    """
    shares = np.unique(np.asarray(codes), return_counts=True)[1] / len(codes)
    return float(-(shares * np.log2(shares)).sum())


@torch.inference_mode()
def code(
    codec: TttCodecModel, waveforms: Sequence[torch.Tensor]
) -> tuple[dict[str, list[torch.Tensor]], list[int], dict[str, float]]:
    """
    Send utterances through the codec.

    Args:
        codec ([`TttCodecModel`]): The codec.
        waveforms (`Sequence[torch.Tensor]`): Each float32 `(samples,)` at the codec's rate.

    Returns:
        `tuple`: The recordings by system, all the codes, and seconds spent by `encode` and `decode`.
    """
    systems: dict[str, list[torch.Tensor]] = {
        name: [] for name in ("original", "mel, Griffin-Lim", "codec, Griffin-Lim", "codec")
    }
    all_codes: list[int] = []
    seconds = {"encode": 0.0, "decode": 0.0}
    codec(waveforms[0][None, None])  # the first call sets up more than it computes
    for waveform in waveforms:
        began = time.perf_counter()
        codes = codec.encode(waveform[None, None]).audio_codes
        assert codes is not None
        encoded = time.perf_counter()
        values = codec.decode(codes).audio_values
        assert values is not None
        recording = values[0, 0]
        seconds["decode"] += time.perf_counter() - encoded
        seconds["encode"] += encoded - began
        level = codec.standard_level(F.pad(waveform, (0, len(recording) - len(waveform)))[None])
        all_codes += codes.flatten().tolist()
        systems["original"].append(waveform)
        systems["mel, Griffin-Lim"].append(griffin_lim(codec, codec.log_mel(level)))
        decoded = codec.decoder(codec.quantizer.from_codes(codes[:, 0]))
        systems["codec, Griffin-Lim"].append(griffin_lim(codec, decoded))
        systems["codec"].append(recording)
    return systems, all_codes, seconds


def judge_table(texts: Sequence[str], systems: dict[str, list[torch.Tensor]], is_domain: bool) -> str:
    """
    Ask all judges.

    Args:
        texts (`Sequence[str]`): The texts of the recordings.
        systems (`dict[str, list[torch.Tensor]]`): The recordings by system, from `code`; "original" is among them.
        is_domain (`bool`): Whether the texts are nano's own; the judge with a bigram of them writes no other words.

    Returns:
        `str`: A Markdown table, one row per system.
    """
    judges = ([Judge(text_corpus())] if is_domain else []) + [Judge()]
    domain_titles = " WER, domain bigram | numbers and keywords |" if is_domain else ""
    rows = [f"| audio |{domain_titles} WER, general English | CER, general English | DNSMOS | speaker similarity |"]
    rows.append("|---" * (rows[0].count("|") - 1) + "|")
    originals = [recording.numpy() for recording in systems["original"]]
    for name, recordings in systems.items():
        waves = [recording.numpy() for recording in recordings]
        *domain, general = (score(texts, [judge.transcribe(recording) for recording in waves]) for judge in judges)
        cells: list[float | None] = [number for found in domain for number in (found.wer, found.keywords)]
        cells += [general.wer, general.cer, mean_opinion(waves, SAMPLING_RATE)]
        cells.append(speaker_similarity(waves, originals, SAMPLING_RATE))
        rows.append(f"| {name} | " + " | ".join("–" if cell is None else f"{cell:.3f}" for cell in cells) + " |")
    return "\n".join(rows)


def read_speech(path: Path, split: str | None, voices: Sequence[str]) -> list[tuple[str, torch.Tensor]]:
    """
    Read texts and recordings.

    Args:
        path (`Path`): A folder of `synthesise.py`, or a manifest (`.jsonl`) with `audio` and `text`; digits are read
            as words, and what cannot be written in words is left out.
        split (`str`, *optional*): Only utterances of it; a manifest has none.
        voices (`Sequence[str]`): Only these, if any.

    Returns:
        `list[tuple[str, torch.Tensor]]`: Text and float32 `(samples,)` at 16 kHz.
    """
    if path.is_file():
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [
            (text, torch.from_numpy(load_audio(path.parent / line["audio"], SAMPLING_RATE)))
            for line in lines
            if (not voices or line.get("speaker") in voices) and (text := spoken_text(line["text"])) is not None
        ]
    return [
        (line["text"], torch.from_numpy(audio.astype(np.float32) / 32768))
        for line, audio in read_corpus(path)
        if split in (None, line["split"]) and (not voices or line["voice"] in voices)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Measure nano's speech codec.")
    parser.add_argument("--codec", required=True, help="folder of the codec")
    parser.add_argument(
        "--speech",
        type=Path,
        required=True,
        help="a folder written by finetune.nano.speech.synthesise, or a manifest.jsonl",
    )
    parser.add_argument("--split", help="only utterances of this split")
    parser.add_argument("--voices", nargs="+", default=[], help="only these voices")
    parser.add_argument("--general", action="store_true", help="texts are general English: no judge with nano's bigram")
    parser.add_argument("--count", type=int, default=60, help="utterances to judge")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    codec = AutoModel.from_pretrained(options.codec).eval()
    corpus = read_speech(options.speech, options.split, options.voices)
    if not corpus:
        parser.error(f"{options.speech} has no utterance of split {options.split!r} and voices {options.voices}.")
    spoken = corpus[:: max(1, len(corpus) // options.count)][: options.count]  # spread over all kinds of sentences
    texts, waveforms = [text for text, _ in spoken], [recording for _, recording in spoken]
    systems, codes, seconds = code(codec, waveforms)
    print(judge_table(texts, systems, is_domain=not options.general))
    length = sum(map(len, waveforms)) / codec.config.sampling_rate
    print(
        f"\n{len(texts)} utterances, {length:.0f} s; {entropy(codes):.2f} bits per code, {len(set(codes))} codes used;"
    )
    print("real time on one thread: " + ", ".join(f"{name} {length / spent:.0f}x" for name, spent in seconds.items()))


if __name__ == "__main__":
    main()

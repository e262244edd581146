"""
Transcribe recordings of any length: in pieces that the model takes, cut at pauses.

    audio ── load_audio, split_at_pauses ──► pieces ── generate, task asr ──► TttTranscript

Depends on the processor and on `generate`. Independent of how a transcript is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.generation.streamers import BaseStreamer

from .audio_input_ttt import load_audio
from .processing_ttt import TttProcessor
from .reading_ttt import SentenceStreamer
from .streaming_ttt import GeneratesReplies
from .transcript_ttt import TranscriptSegment, TttTranscript, split_at_pauses

PIECES_AT_ONCE = 8


@dataclass(frozen=True)
class TranscribingOutput:
    """
    What a recording that was streamed gave.

    Args:
        transcript ([`TttTranscript`]): As far as it was not cancelled.
        num_forwards (`int`): Forward passes of all pieces.
    """

    transcript: TttTranscript
    num_forwards: int


class Transcriber:
    """
    Transcribes recordings.

    Args:
        model (`TttForConditionalGeneration`): The model.
        processor (`TttProcessor`): Processor of the same checkpoint.
        max_seconds (`float`, *optional*): Longest audio that is transcribed in one piece; by default the processor's
            `transcription_seconds`.
        options: Arguments of every `generate` call.
    """

    def __init__(
        self, model: GeneratesReplies, processor: TttProcessor, max_seconds: float | None = None, **options: Any
    ):
        self.model, self.processor, self.options = model, processor, options
        self.max_seconds = processor.transcription_seconds if max_seconds is None else max_seconds

    def transcribe(self, audio: Any, language: str | None = None, system_prompt: str | None = None) -> TttTranscript:
        """
        Transcribe a recording, `PIECES_AT_ONCE` pieces in a batch.

        Args:
            audio: In any form that `load_audio` takes.
            language (`str`, *optional*): Language tag of the prompt.
            system_prompt (`str`, *optional*): Replaces the task's own prompt.

        Returns:
            [`TttTranscript`].

        Raises:
            ValueError: If the audio is unusable.
        """
        waveform, pieces = self._pieces(audio)
        replies: list[list[int]] = []
        for start in range(0, len(pieces), PIECES_AT_ONCE):
            chosen = [waveform[first:last] for first, last in pieces[start : start + PIECES_AT_ONCE]]
            inputs = self._prepared(chosen, language, system_prompt)
            ids = self.model.generate(**inputs, **self.options)
            replies += ids[:, inputs["input_ids"].shape[1] :].tolist()
        return self._transcript(len(waveform), pieces, replies)

    def stream_to(
        self, streamer: BaseStreamer, audio: Any, language: str | None = None, system_prompt: str | None = None
    ) -> TranscribingOutput:
        """
        Transcribe a recording, one piece after the other, to a streamer.

        Args:
            streamer (`BaseStreamer`): Gets one reply, and is ended as `generate` ends it.
            audio, language, system_prompt: As for `transcribe`.

        Returns:
            [`TranscribingOutput`].

        Raises:
            ValueError: If the audio is unusable.
        """
        waveform, pieces = self._pieces(audio)
        space = self.processor.tokenizer.encode(" ", add_special_tokens=False)
        joined = SentenceStreamer(streamer, self.processor.layout, space, len(pieces))
        replies: list[list[int]] = []
        num_forwards = 0
        for first, last in pieces:
            if joined.is_cancelled:
                break
            inputs = self._prepared([waveform[first:last]], language, system_prompt)
            output = self.model.generate(**inputs, **self.options, streamer=joined, return_dict_in_generate=True)
            num_forwards += output.num_forwards
            replies.append(output.sequences[0, inputs["input_ids"].shape[1] :].tolist())
        streamer.end()
        return TranscribingOutput(self._transcript(len(waveform), pieces[: len(replies)], replies), num_forwards)

    def _pieces(self, audio: Any) -> tuple[np.ndarray, list[tuple[int, int]]]:
        rate = self.processor.codec_config.sampling_rate
        waveform = load_audio(audio, rate, max_seconds=self.processor.max_audio_seconds)
        return waveform, split_at_pauses(waveform, rate, self.max_seconds)

    def _prepared(self, pieces: Sequence[np.ndarray], language: str | None, system_prompt: str | None) -> BatchFeature:
        """Inputs of `generate` for some pieces."""
        rate = self.processor.codec_config.sampling_rate
        messages = [
            self.processor.messages("asr", audio=(piece, rate), language=language, system_prompt=system_prompt)
            for piece in pieces
        ]
        return self.processor.prepare(messages).to(self.model.device)

    def _transcript(
        self, num_samples: int, pieces: Sequence[tuple[int, int]], replies: Sequence[Sequence[int]]
    ) -> TttTranscript:
        rate = self.processor.codec_config.sampling_rate
        parsed = [self.processor.layout.parse_reply(ids) for ids in replies]
        segments = tuple(
            TranscriptSegment(first / rate, last / rate, self.processor.decode_text(reply.text_ids))
            for (first, last), reply in zip(pieces, parsed, strict=True)
        )
        return TttTranscript(segments, num_samples / rate, all(reply.finished for reply in parsed))

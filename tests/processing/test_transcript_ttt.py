"""Recordings in pieces, and transcripts as subtitles and JSON."""

import numpy as np
import pytest
from streaming_fixtures import BLOCKS, text_of, tiny_talker

from processing_ttt import TranscriptSegment, TttStreamer, TttTalker, TttTranscript, split_at_pauses
from processing_ttt.transcribing_ttt import Transcriber

RATE = 16000


def speech(*seconds, pause=0.3):
    """Noise of some lengths, with a faint pause after each; and where the pauses begin and end."""
    generator = np.random.default_rng(0)
    parts, pauses, length = [], [], 0
    for each in seconds:
        parts += [
            0.1 * generator.standard_normal(int(each * RATE)),
            1e-3 * generator.standard_normal(int(pause * RATE)),
        ]
        length += len(parts[-2])
        pauses.append((length, length := length + len(parts[-1])))
    return np.concatenate(parts).astype(np.float32), pauses


def test_a_short_recording_is_one_piece():
    waveform, _ = speech(2.0)
    assert split_at_pauses(waveform, RATE, 5.0) == [(0, len(waveform))]


def test_a_long_recording_is_cut_inside_its_pauses():
    waveform, pauses = speech(2.0, 1.8, 2.4, 1.5, 2.2)
    pieces = split_at_pauses(waveform, RATE, 3.0)
    assert [start for start, _ in pieces[1:]] == [end for _, end in pieces[:-1]]
    assert pieces[0][0] == 0 and pieces[-1][1] == len(waveform)
    assert len(pieces) == 5
    for (_, end), (first, last) in zip(pieces[:-1], pauses, strict=False):
        assert first < end < last


def test_no_piece_is_longer_than_the_limit_where_there_are_no_pauses():
    waveform = 0.1 * np.random.default_rng(0).standard_normal(50 * RATE).astype(np.float32)
    pieces = split_at_pauses(waveform, RATE, 7.0)
    assert all(7 / 4 * RATE <= end - start <= 7 * RATE for start, end in pieces)
    assert sum(end - start for start, end in pieces) == len(waveform)


def test_silent_pieces_are_left_out():
    waveform, _ = speech(2.0)
    silence = np.zeros(20 * RATE, np.float32)
    pieces = split_at_pauses(np.concatenate([waveform, silence, waveform]), RATE, 4.0)
    assert pieces[0][0] == 0 and pieces[-1][1] == 2 * len(waveform) + len(silence)
    assert sum(end - start for start, end in pieces) < 15 * RATE
    assert split_at_pauses(silence, RATE, 4.0) == []


def test_a_piece_has_at_least_a_second():
    with pytest.raises(ValueError, match=r"pieces of 1 s or more, and not of 0.5 s"):
        split_at_pauses(np.ones(RATE, np.float32), RATE, 0.5)


SEGMENTS = (
    TranscriptSegment(0.0, 1.25, "Two plus two."),
    TranscriptSegment(1.25, 2.0, ""),
    TranscriptSegment(2.0, 3725.0624, "a < b & c"),
)
TRANSCRIPT = TttTranscript(SEGMENTS, 3725.5)


def test_a_transcript_as_srt():
    assert TRANSCRIPT.format("srt") == (
        "1\n00:00:00,000 --> 00:00:01,250\nTwo plus two.\n\n2\n00:00:02,000 --> 01:02:05,062\na < b & c"
    )


def test_a_transcript_as_vtt_escapes_markup():
    assert TRANSCRIPT.format("vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nTwo plus two.\n\n00:00:02.000 --> 01:02:05.062\na &lt; b &amp; c"
    )


def test_a_transcript_as_json_and_text():
    found = TRANSCRIPT.as_dict()
    assert found["text"] == TRANSCRIPT.format("text") == "Two plus two.  a < b & c"
    assert found["duration"] == 3725.5
    assert found["segments"][2] == {"id": 2, "start": 2.0, "end": 3725.062, "text": "a < b & c"}
    with pytest.raises(ValueError, match="text, srt, vtt, and not as 'doc'"):
        TRANSCRIPT.format("doc")


@pytest.fixture(scope="module")
def talker():
    tiny = tiny_talker()
    return TttTalker(tiny.model, tiny.processor, **BLOCKS | {"max_new_tokens": 12})


def test_a_short_recording_is_transcribed_as_the_task_asr_does(talker):
    waveform, _ = speech(1.0)
    transcript = talker.transcribe((waveform, RATE))
    assert transcript.text == talker.reply(audio=(waveform, RATE), task="asr").text
    assert transcript.segments == (TranscriptSegment(0.0, len(waveform) / RATE, transcript.text),)
    assert not transcript.finished, "the random model goes on for ever"


def test_each_piece_of_a_long_recording_is_transcribed_as_it_is_alone(talker):
    waveform, _ = speech(1.4, 1.2, 1.4)
    transcript = talker.transcribe((waveform, RATE), max_seconds=2.0)
    assert len(transcript.segments) == 3 and transcript.seconds == len(waveform) / RATE
    for segment in transcript.segments:
        piece = waveform[round(segment.start * RATE) : round(segment.end * RATE)]
        assert segment.text == talker.reply(audio=(piece, RATE), task="asr").text
    assert transcript.text == " ".join(segment.text for segment in transcript.segments)


@pytest.mark.parametrize("max_seconds", [2.0, 30.0])
def test_a_recording_is_streamed_as_one_reply(talker, max_seconds):
    waveform, _ = speech(1.4, 1.2)
    transcriber = Transcriber(talker.model, talker.processor, max_seconds, **talker.generation_options)
    with TttStreamer(talker.processor).follow(
        lambda streamer: transcriber.stream_to(streamer, (waveform, RATE))
    ) as streamer:
        events = list(streamer)
    whole = transcriber.transcribe((waveform, RATE))
    assert text_of(events) == whole.text
    assert streamer.output.transcript == whole
    assert len(whole.segments) == (2 if max_seconds == 2.0 else 1)


def test_audio_that_is_unusable_is_an_error_also_in_a_stream(talker):
    transcriber = Transcriber(talker.model, talker.processor)
    with (
        pytest.raises(ValueError, match="silent"),
        TttStreamer(talker.processor).follow(
            lambda streamer: transcriber.stream_to(streamer, (np.zeros(RATE, np.float32), RATE))
        ) as streamer,
    ):
        list(streamer)


def test_a_stream_that_is_closed_stops_before_the_next_piece(talker):
    waveform, _ = speech(*[1.5] * 6)
    transcriber = Transcriber(talker.model, talker.processor, 2.0, max_new_tokens=40)
    with TttStreamer(talker.processor, queue_size=1).follow(
        lambda streamer: transcriber.stream_to(streamer, (waveform, RATE))
    ) as streamer:
        next(streamer)
    assert len(streamer.output.transcript.segments) < 6

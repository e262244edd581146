import json

import numpy as np
import pytest
import torch
from finetune_fixtures import tiny_checkpoint
from prepare_fixtures import RATE, tone, write_manifest, write_recordings

from finetune.data.record_maker import Limits
from finetune.data.sources import open_source
from finetune.evaluation.codec_check import check_codec, verdict
from finetune.evaluation.codec_measures import code_usage, mel_distance, transcript_similarity
from finetune.evaluation.metrics import ErrorRates
from processing_ttt import TttProcessor
from processing_ttt.resampling_ttt import resample

# ------------------------------------------------------------------------------------------------------------- measures


def test_transcript_similarity_is_one_for_the_same_and_zero_for_what_is_like_any_other():
    texts = ["uno due", "tre quattro", "cinque"]
    assert transcript_similarity(texts, texts) == 1.0
    assert transcript_similarity(texts, [*texts[1:], texts[0]]) == 0.0, (
        "less alike than by chance is not counted below zero"
    )
    assert transcript_similarity(["a"], ["b"]) == 0.0


def test_transcript_similarity_counts_characters_against_those_of_the_next_recording():
    # Errors between the pairs: 1 and 0. Against the next one's resynthesis: "abcd" and "wxyz" share nothing: 4, and
    # "wxyz" against "abcx" is 4, since its only common letter, x, is elsewhere and costs as much to line up.
    assert transcript_similarity(["abcd", "wxyz"], ["abcx", "wxyz"]) == pytest.approx(1 - 1 / 8)


def test_a_judge_with_an_empty_transcript_of_a_recording_misses_all_that_it_writes_later():
    assert transcript_similarity(["", "abc"], ["xx", "abc"]) == pytest.approx(1 - 2 / (3 + 3)), (
        "by chance: 3 added to '', 3 changes of 'abc'"
    )


def test_mel_distance_ignores_the_level_and_not_the_audio():
    waveform = tone(0.5)
    assert mel_distance(waveform, RATE, 0.1 * waveform, RATE) == pytest.approx(0.0, abs=1e-2)
    assert mel_distance(waveform, RATE, np.pad(waveform, (0, 4000)), RATE) < 0.5, (
        "what is beyond the shorter one does not count"
    )
    assert mel_distance(waveform, RATE, tone(0.5, seed=1), RATE) > 5


def test_mel_distance_is_that_of_torchaudios_spectra():
    torchaudio = pytest.importorskip("torchaudio")
    spectrogram = torchaudio.transforms.MelSpectrogram(16_000, n_fft=640, hop_length=160, n_mels=80, power=2.0)
    waveforms = [resample(tone(0.5, seed=seed), RATE, 16_000) for seed in (0, 1)]
    decibels = [10 * spectrogram(torch.from_numpy(waveform)).clamp(min=1e-12).log10() for waveform in waveforms]
    one, other = [(each - each.max()).clamp(min=-60.0) for each in decibels]
    expected = float((one - other).abs().mean())
    assert mel_distance(waveforms[0], 16_000, waveforms[1], 16_000) == pytest.approx(expected, abs=1e-3)


def test_mel_distance_of_a_level_in_one_band_is_that_level():
    time = np.arange(RATE) / RATE
    high = np.sin(2 * np.pi * 3000 * time)
    low = np.sin(2 * np.pi * 500 * time)
    softer, loud = (
        mel_distance(low + 0.1 * high, RATE, low + 0.05 * high, RATE),
        mel_distance(low + 0.1 * high, RATE, low + 0.1 * high, RATE),
    )
    assert loud == 0 and 0.1 < softer < 6.03, "halved is 6.02 dB, in some of the bands"


def test_usage_of_codes_is_counted_over_all_recordings():
    assert code_usage([[1, 1, 2], [2]]) == (2, 1.0)
    assert code_usage([[5, 5]]) == (1, 0.0)
    assert code_usage([list(range(16))]) == (16, 4.0)


# -------------------------------------------------------------------------------------------------------------- verdict


def rates(cer):
    return ErrorRates(wer=2 * cer, cer=cer, raw_wer=cer, raw_cer=cer, exact=0.0, count=10)


@pytest.mark.parametrize(
    ("original", "resynthesis", "alike", "words"),
    [
        (0.02, 0.03, 0.99, ["The codec keeps this speech", "2.0%", "3.0%", "That is the ceiling"]),
        (0.02, 0.10, 0.9, ["loses a little", "worth while", "10.0%"]),
        (0.02, 0.25, 0.7, ["loses much"]),
        (0.02, 0.60, 0.3, ["does not carry this speech", "choose or train another codec"]),
        (0.90, 0.91, 0.97, ["No ceiling could be measured", "90% of the characters", "97% similar", "weak evidence",
        "keeps this speech"]),
        (0.90, 0.91, 0.40, ["No ceiling could be measured", "does not carry"]),
    ],
)  # fmt: skip
def test_the_verdict_says_what_the_numbers_mean(original, resynthesis, alike, words):
    said = verdict(rates(original), rates(resynthesis), alike, "whisper")
    assert all(word in said for word in words), said
    assert "with the same codec" not in said


def test_the_verdict_warns_of_a_judge_that_uses_the_codec_and_of_one_that_knows_another_language():
    assert "This judge encodes the recordings with the same codec" in verdict(rates(0.1), rates(0.1), 0.9, "model")
    assert "pocketsphinx does not support the language" in verdict(None, None, 0.9, "pocketsphinx")


# ------------------------------------------------------------------------------------------------------------ the whole


class Listener:
    """Hears how long audio is, to the tenth of a second: the codec keeps that."""

    name = "listener"

    def __init__(self, known=("it", "en")):
        self.known = known
        self.languages = set()

    def supports(self, language):
        return language in self.known

    def transcribe(self, waveforms, sampling_rate, language):
        self.languages.add(language)
        return [f"frase numero {round(10 * len(waveform) / sampling_rate)}" for waveform in waveforms]


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    return TttProcessor.from_pretrained(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture
def manifest(tmp_path):
    records = write_recordings(tmp_path / "recordings", 12)
    for record in records:
        record["audio"] = f"recordings/{record['audio']}"
    records[0]["audio"] = "missing.wav"
    return write_manifest(tmp_path / "manifest.jsonl", [{"text": "no audio"}, *records])


def test_a_check_measures_both_sides_and_leaves_a_report_and_audio(processor, manifest, tmp_path):
    listener = Listener()
    check = check_codec(open_source(str(manifest)), processor, listener, 6, out=tmp_path / "out")
    assert check.count == 6 and listener.languages == {"it"}
    assert check.original.count == check.resynthesis.count == 6
    assert 0 < check.codes_used <= check.codebook_size == 16 and 0 <= check.entropy_bits <= 4
    stored = json.loads((tmp_path / "out" / "codec_check.json").read_text())
    assert stored["verdict"] == check.verdict and len(stored["recordings"]) == 6
    for entry in stored["recordings"]:
        assert entry["transcript"].startswith("frase numero") and entry["text"].startswith("frase numero")
    assert check.verdict in (tmp_path / "out" / "codec_check.md").read_text()
    assert len(list((tmp_path / "out").glob("*-resynthesis.wav"))) == 5


def test_a_judge_of_english_is_asked_only_how_similar_its_transcripts_of_other_languages_are(processor, manifest):
    listener = Listener(known=("en",))
    check = check_codec(open_source(str(manifest)), processor, listener, 4)
    assert check.original is None and check.resynthesis is None and listener.languages == {None}
    english = check_codec(
        open_source(str(manifest), {"language": "nothing"}), processor, listener, 4, Limits(language="en")
    )
    assert english.original is not None and "en" in listener.languages


def test_recordings_are_spread_over_the_source(processor, manifest, tmp_path):
    check_codec(open_source(str(manifest)), processor, Listener(), 4, out=tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "codec_check.json").read_text())
    numbers = [int(entry["text"].split()[-1]) for entry in stored["recordings"]]
    assert numbers == [3, 6, 9, 1], "every third, and what is missing is replaced"


def test_nothing_to_listen_to_is_an_error_that_names_the_first_reason(processor, tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio": "nowhere.wav", "text": "ciao"}])
    with pytest.raises(ValueError, match=r"no recording with a transcript that can be used \(the first: no audio file"):
        check_codec(open_source(str(manifest)), processor, Listener())


def test_the_check_leaves_the_random_state_alone(processor, manifest):
    before = torch.get_rng_state()
    check_codec(open_source(str(manifest)), processor, Listener(), 2)
    assert torch.equal(before, torch.get_rng_state())

"""Synthetic speech with word times, its shards on disk, and the judge that hears it."""

import json
import math
import re

import numpy as np
import pytest

from finetune.nano.domain.spoken_numbers import number_words
from finetune.nano.speech import voices
from finetune.nano.speech.voices import EDGE_SILENCE, SAMPLING_RATE, VOICES, Voice

try:
    Voice("slt")
except OSError as error:
    pytestmark = pytest.mark.skip(reason=str(error))

SENTENCE = "Hello Anna, nice to meet you, my friend."


def loudness(audio: np.ndarray, second: float, width: float = 0.03) -> float:
    piece = audio[round((second - width / 2) * SAMPLING_RATE) : round((second + width / 2) * SAMPLING_RATE)]
    return float(np.sqrt(np.mean(piece**2)))


@pytest.mark.parametrize("name", VOICES)
def test_words_cover_the_audio_without_gaps_and_spell_the_text(name):
    spoken = Voice(name).speak(SENTENCE)
    assert spoken.audio.dtype == np.float32 and spoken.audio.ndim == 1
    assert " ".join(word.text for word in spoken.words) == SENTENCE
    assert spoken.words[0].start == 0
    assert math.isclose(spoken.words[-1].end, len(spoken.audio) / SAMPLING_RATE)
    assert all(word.end == after.start for word, after in zip(spoken.words, spoken.words[1:], strict=False))
    assert all(0.05 < word.end - word.start < 1.2 for word in spoken.words)


@pytest.mark.parametrize("name", VOICES)
def test_a_pause_belongs_to_the_word_before_it(name):
    spoken = Voice(name).speak(SENTENCE)
    overall = float(np.sqrt(np.mean(spoken.audio**2)))
    for word in spoken.words[:-1]:
        if word.text.endswith(","):
            assert loudness(spoken.audio, word.end - 0.06) < 0.15 * overall
            assert loudness(spoken.audio, word.end + 0.10, width=0.1) > 0.2 * overall


@pytest.mark.parametrize("name", VOICES)
def test_the_silence_at_both_ends_is_constant(name):
    for text in ("Seven.", SENTENCE):
        spoken = Voice(name).speak(text)
        edge = round(EDGE_SILENCE * SAMPLING_RATE)
        overall = float(np.sqrt(np.mean(spoken.audio**2)))
        assert np.sqrt(np.mean(spoken.audio[: edge // 2] ** 2)) < 0.1 * overall
        assert np.sqrt(np.mean(spoken.audio[-edge // 2 :] ** 2)) < 0.1 * overall


@pytest.mark.parametrize("name", VOICES)
def test_stretch_multiplies_the_sounding_duration_and_does_not_linger(name):
    voice = Voice(name)
    before = len(voice.speak(SENTENCE).audio)
    slower = len(voice.speak(SENTENCE, stretch=1.2).audio)
    after = len(voice.speak(SENTENCE).audio)
    assert before == after
    silence = 2 * EDGE_SILENCE * SAMPLING_RATE
    assert (slower - silence) / (before - silence) == pytest.approx(1.2, abs=0.04)


def test_numbers_in_words_keep_one_interval_per_written_word():
    text = f"{number_words(27).capitalize()} plus {number_words(50)} is {number_words(77)}."
    assert [word.text for word in Voice("slt").speak(text).words] == text.split()


def test_unspeakable_requests_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="choose one of slt, rms, awb, kal16"):
        Voice("nobody")
    voice = Voice("slt")
    for text, reason in (("", "letter or a digit"), ("one - two", "letter or a digit"), ("caf\u00e9", "ASCII")):
        with pytest.raises(ValueError, match=reason):
            voice.speak(text)
    with pytest.raises(ValueError, match="stretch"):
        voice.speak("Hello.", stretch=0.0)


def test_a_missing_library_names_its_package():
    with pytest.raises(OSError, match="Debian package `flite`"):
        voices._load("libflite_absent.so.1")


def test_shards_hold_what_the_index_lists_and_a_killed_run_goes_on(tmp_path, monkeypatch):
    synthesise = pytest.importorskip("finetune.nano.speech.synthesise")
    monkeypatch.setattr(synthesise, "UTTERANCES_PER_SHARD", 2)
    texts = ["Hello.", "Thank you.", "Goodbye.", "Good night.", "Bye."]
    jobs = [synthesise.Job(text, "kal16", 1.0, "train", {"kind": "talk"}) for text in texts]
    synthesise.write_shards(jobs, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("shard-*")) == [
        f"shard-0000{n}.{kind}" for n in range(3) for kind in ("jsonl", "npy")
    ]
    read = list(synthesise.read_corpus(tmp_path))
    assert [line["text"] for line, _ in read] == texts
    for line, audio in read:
        spoken = Voice("kal16").speak(line["text"])
        np.testing.assert_allclose(audio / 32768, spoken.audio, atol=1e-4)
        assert line["words"] == [[w.text, round(w.start, 4), round(w.end, 4)] for w in spoken.words]
        assert line["kind"] == "talk"
    assert json.loads((tmp_path / "time.json").read_text())["utterances"] == 5

    (tmp_path / "shard-00001.jsonl").unlink()  # as if killed between the two files
    untouched = (tmp_path / "shard-00000.npy").stat().st_mtime_ns
    assert [line["text"] for line, _ in synthesise.read_corpus(tmp_path)] == ["Hello.", "Thank you.", "Bye."]
    synthesise.write_shards(jobs, tmp_path)
    assert [line["text"] for line, _ in synthesise.read_corpus(tmp_path)] == texts
    assert (tmp_path / "shard-00000.npy").stat().st_mtime_ns == untouched

    synthesise.write_shards([*jobs, jobs[0]], tmp_path)  # the last shard was not full
    assert [line["text"] for line, _ in synthesise.read_corpus(tmp_path)] == [*texts, texts[0]]
    assert (tmp_path / "shard-00000.npy").stat().st_mtime_ns == untouched

    with pytest.raises(ValueError, match="made from other texts"):
        synthesise.write_shards(jobs[::-1], tmp_path)


def test_wordnet_phrases_are_plain_definitions(tmp_path):
    corpora = pytest.importorskip("finetune.nano.speech.corpora")
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 the licence has no gloss\n")
    (tmp_path / "data.noun").write_text(
        '0001 03 n 01 x 0 | (archaic) a small house of wood; "she lived there"\n'
        "0002 03 n 01 x 0 | too short\n"
        "0003 03 n 01 x 0 | one with 2 digits in it\n"
    )
    assert corpora.wordnet_phrases(tmp_path) == ["A small house of wood."]
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        corpora.wordnet_phrases(tmp_path / "absent")


def test_each_history_of_the_bigram_model_sums_to_one():
    pytest.importorskip("jiwer")
    from finetune.nano.measure.judge import bigram_arpa

    unigrams, backoffs, bigrams = {}, {}, {}
    for line in bigram_arpa(["Seven plus two.", "Seven minus two.", "Two plus two."]).splitlines():
        fields = line.split()
        if re.match(r"-?\d", line) and fields[-1] not in unigrams:
            log_prob, *rest = fields
            if line.count("<s>") and float(log_prob) == -99:
                unigrams["<s>"], backoffs["<s>"] = 0.0, 10 ** float(rest[1])
            elif len(rest) == 1 or re.match(r"-?\d", rest[-1]):
                unigrams[rest[0]] = 10 ** float(log_prob)
                backoffs |= {rest[0]: 10 ** float(rest[1])} if len(rest) == 2 else {}
        if re.match(r"-?\d", line) and len(fields) == 3 and not re.match(r"-?\d", fields[-1]):
            bigrams[fields[1], fields[2]] = 10 ** float(fields[0])
    assert sum(unigrams.values()) == pytest.approx(1, abs=1e-3)
    for history in backoffs:
        total = sum(bigrams.get((history, w), backoffs[history] * p) for w, p in unigrams.items() if w != "<s>")
        assert total == pytest.approx(1, abs=1e-3)


def test_the_judge_transcribes_a_sum_that_its_corpus_does_not_contain():
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed")
    from finetune.nano.measure.judge import Judge, score

    numbers = range(2, 13)
    corpus = [f"{number_words(a)} plus {number_words(b)} is {number_words(a + b)}" for a in numbers for b in numbers]
    unseen = "Twelve plus seven is nineteen."
    judge = Judge([sentence for sentence in corpus if sentence != "twelve plus seven is nineteen"])
    transcript = judge.transcribe(Voice("slt").speak(unseen).audio)
    assert score([unseen], [transcript]).wer == 0
    with pytest.raises(ValueError, match="glorbish"):
        Judge(["glorbish"])


def test_scores_ignore_case_and_punctuation_and_count_keywords():
    pytest.importorskip("jiwer")
    from finetune.nano.measure.judge import score

    scores = score(
        ["A banana is yellow.", "Two plus two is four."], ["the banana is yellow", "two plus two is forty four"]
    )
    assert scores.wer == pytest.approx(2 / 9)
    assert scores.exact == 0
    assert scores.keywords == 0.5

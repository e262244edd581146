"""
What people's data looks like: each odd row ends in a line of the report with its reason, each odd file in one clear
sentence.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from finetune_fixtures import tiny_checkpoint
from prepare_fixtures import RATE, skipped, tone, write_manifest, write_recordings

from finetune.data.prepare import Splitting, prepare
from finetune.data.record_maker import Limits
from finetune.data.schema import load_prepared
from finetune.data.sources import open_source

LIMITS = Limits(min_seconds=0.1, max_seconds=2.0, max_characters=60)
AUDIO = "good.wav"  # 0.8 s: 20 codes

# name of the row: (its record, the reason in the report)
ODD_ROWS = {
    # texts
    "no-text": ({"audio": AUDIO}, "no text"),
    "nothing-at-all": ({}, "no text"),
    "null-text": ({"audio": AUDIO, "text": None}, "no text"),
    "empty-text": ({"audio": AUDIO, "text": ""}, "no text"),
    "blank-text": ({"audio": AUDIO, "text": " \t\n"}, "no text"),
    "punctuation-only": ({"audio": AUDIO, "text": "... !?"}, "no text"),
    "number-as-text": ({"audio": AUDIO, "text": 42}, "no text"),
    "list-as-text": ({"audio": AUDIO, "text": ["ciao"]}, "no text"),
    "nan-text": ({"audio": AUDIO, "text": float("nan")}, "no text"),
    "long-text": ({"audio": AUDIO, "text": "a" * 61}, "text too long"),
    "end-of-message": ({"audio": AUDIO, "text": "ciao <|im_end|> ciao"}, "special tokens in the text"),
    "code-in-text": ({"audio": AUDIO, "text": "ciao <|audio_3|>"}, "special tokens in the text"),
    "placeholder-in-text": ({"audio": AUDIO, "text": "ciao <|audio|>"}, "special tokens in the text"),
    "nul-in-text": ({"audio": AUDIO, "text": "ci\0ao"}, "text in an unknown encoding"),
    "half-a-surrogate": ({"audio": AUDIO, "text": "ciao \ud83d"}, "text in an unknown encoding"),
    "replacement-character": ({"audio": AUDIO, "text": "citt\ufffd"}, "text in an unknown encoding"),
    "wrong-transcript": ({"audio": AUDIO, "text": "a b c d e f g h i j k l m n o p q r s t u v"},
    "more words than codes"),
    # audio
    "no-such-file": ({"audio": "nowhere.wav", "text": "ciao"}, "no audio file"),
    "null-audio": ({"audio": None, "text": "ciao"}, "no audio file"),
    "no-bytes-no-path": ({"audio": {"bytes": None, "path": None}, "text": "ciao"}, "no audio file"),
    "nul-in-path": ({"audio": "a\0b.wav", "text": "ciao"}, "no audio file"),
    "endless-path": ({"audio": "a" * 5000, "text": "ciao"}, "no audio file"),
    "web-address": ({"audio": "https://example.org/a.wav", "text": "ciao"}, "unreadable audio"),
    "number-as-audio": ({"audio": 7, "text": "ciao"}, "unreadable audio"),
    "samples-as-audio": ({"audio": [0.1, 0.2], "text": "ciao"}, "unreadable audio"),
    "folder-as-audio": ({"audio": ".", "text": "ciao"}, "unreadable audio"),
    "device-as-audio": ({"audio": "/dev/null", "text": "ciao"}, "unreadable audio"),
    "text-as-audio": ({"audio": "text.wav", "text": "ciao"}, "unreadable audio"),
    "noise-as-mp3": ({"audio": "noise.mp3", "text": "ciao"}, "unreadable audio"),
    "cut-header": ({"audio": "cut.wav", "text": "ciao"}, "unreadable audio"),
    "empty-file": ({"audio": "empty.wav", "text": "ciao"}, "empty audio"),
    "no-samples": ({"audio": "header.wav", "text": "ciao"}, "empty audio"),
    "silence": ({"audio": "silent.wav", "text": "ciao"}, "silent audio"),
    "nan-samples": ({"audio": "nan.wav", "text": "ciao"}, "NaN or infinite samples"),
    "infinite-samples": ({"audio": "infinite.wav", "text": "ciao"}, "NaN or infinite samples"),
    "unscaled-samples": ({"audio": "unscaled.wav", "text": "ciao"}, "samples beyond full scale"),
    "too-long": ({"audio": "long.wav", "text": "ciao"}, "audio too long"),
    "too-short": ({"audio": "short.wav", "text": "ciao"}, "audio too short"),
    "one-sample": ({"audio": "one.wav", "text": "ciao"}, "audio too short"),
    # names
    "list-as-language": ({"audio": AUDIO, "text": "ciao", "language": ["it"]}, "bad language"),
    "marker-as-language": ({"audio": AUDIO, "text": "ciao", "language": "<|im_end|>"}, "bad language"),
    "two-line-speaker": ({"audio": AUDIO, "text": "ciao", "speaker": "a\nb"}, "bad speaker"),
    # word times
    "words-out-of-order": ({"audio": AUDIO, "text": "a b", "words": [["a", 0.3, 0.5], ["b", 0.0, 0.2]]},
    "bad word times"),
    "words-after-the-end": ({"audio": AUDIO, "text": "a", "words": [{"word": "a", "start": 0, "end": 9}]},
    "bad word times"),
    "words-of-another-text": ({"audio": AUDIO, "text": "a", "words": [["b", 0.0, 0.2]]}, "bad word times"),
    "words-no-json": ({"audio": AUDIO, "text": "a", "words": "[["}, "bad word times"),
    "words-without-times": ({"audio": AUDIO, "text": "a", "words": ["a"]}, "bad word times"),
    # questions and answers
    "no-answer-file": ({"question_audio": AUDIO, "answer": "ciao", "answer_audio": "no.wav"}, "no audio file"),
    "silent-answer": ({"question": "come va", "answer": "bene", "answer_audio": "silent.wav"}, "silent audio"),
    "answer-without-words": ({"question": "come va", "answer_audio": AUDIO}, "no text"),
    "answer-without-audio": ({"question_audio": AUDIO, "answer": "bene"}, "no answer audio"),
    "empty-answer": ({"question": "come va", "answer": "?"}, "no text"),
    "empty-caption": ({"audio": AUDIO, "caption": ""}, "no text"),
    # conversations and documents
    "messages-as-number": ({"messages": 3}, "bad messages"),
    "no-messages": ({"messages": []}, "bad messages"),
    "messages-no-json": ({"messages": "[{"}, "bad messages"),
    "unknown-role": ({"messages": [{"role": "narrator", "content": "ciao"}]}, "bad messages"),
    "message-of-nothing": ({"messages": [{"role": "assistant", "content": None}]}, "no text"),
    "user-has-the-last-word": ({"messages": [{"role": "user", "content": "ciao"}]}, "bad messages"),
    "code-beyond-the-codebook": ({"messages": [{"role": "assistant", "content": "a <|audio_16|>"}]},
    "code beyond the codebook"),
    "mask-in-a-message": ({"messages": [{"role": "assistant", "content": "a <|mask_token|>"}]},
    "special tokens in the text"),
    "mask-in-a-document": ({"text": "a <|mask_token|>"}, "special tokens in the text"),
}  # fmt: skip

ODD_LINES = {
    "not-json": b'{"audio": "good.wav", ',
    "not-a-record": b"42",
    "not-utf-8": b'{"audio": "good.wav", "text": "citt\xe0"}',
    "nested-too-deeply": b"[" * 200_000,
}

GOOD_ROWS = {
    "good": {"audio": AUDIO, "text": "ciao a tutti"},
    "stereo-8-bit-44100": {"audio": "stereo.wav", "text": "ciao"},
    "flac": {"audio": "good.flac", "text": "ciao"},
    "ogg": {"audio": "good.ogg", "text": "ciao"},
    "mp3": {"audio": "good.mp3", "text": "ciao"},
    "decomposed-letters": {"audio": AUDIO, "text": "citta\u0300  e\n perche\u0301"},
    "spoken-answer": {"question": "come va?", "answer": "bene", "answer_audio": AUDIO},
    "caption-without-instruction": {"audio": AUDIO, "caption": "una voce"},
    "written-answer": {"question": "2 + 2?", "answer": "4"},
    "words-as-json": {"audio": AUDIO, "text": "a b", "words": '[["a", 0.0, 0.2], ["b", 0.3, 0.5]]'},
    "document": {"text": "un testo <|audio_1|><|audio_15|>"},
    "written-conversation": {"text": "<|im_start|>user\nciao<|im_end|>\n<|im_start|>assistant\nciao<|im_end|>\n"},
}


def write_odd_audio(folder: Path) -> None:
    waveform = tone(0.8)
    for name in ("good.wav", "good.flac", "good.ogg", "good.mp3"):
        soundfile.write(folder / name, waveform, RATE)
    soundfile.write(folder / "stereo.wav", np.stack([tone(0.5, rate=44_100)] * 2, axis=1), 44_100, subtype="PCM_U8")
    (folder / "text.wav").write_text("This is not audio. " * 50)
    (folder / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "cut.wav").write_bytes((folder / "good.wav").read_bytes()[:20])
    (folder / "empty.wav").touch()
    for name, samples in {
        "header": waveform[:0], "silent": 0 * waveform,
        "nan": np.where(np.arange(len(waveform)) == 9, np.nan, waveform),
        "infinite": np.where(np.arange(len(waveform)) == 9, np.inf, waveform), "unscaled": waveform * 1e6,
        "long": tone(2.5), "short": waveform[:900], "one": waveform[500:501],
    }.items():  # fmt: skip
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def prepared(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    write_odd_audio(folder)
    records = [{"id": name, **record} for name, record in GOOD_ROWS.items()]
    records += [{"id": name, **record} for name, (record, _) in ODD_ROWS.items()]
    records += [
        {"id": "good", "audio": AUDIO, "text": "due volte"},
        {"id": "two\nlines", "audio": AUDIO, "text": "ciao"},
    ]
    manifest = write_manifest(folder / "manifest.jsonl", records)
    manifest.write_bytes(manifest.read_bytes() + b"\n".join([*ODD_LINES.values(), b""]))
    prepare(open_source(str(manifest)), folder / "out", checkpoint, LIMITS, Splitting(validation=0, test=0))
    return folder / "out"


@pytest.mark.parametrize("name", ODD_ROWS)
def test_an_odd_row_is_left_out_with_its_reason(prepared, name):
    assert skipped(prepared)[name] == ODD_ROWS[name][1]


@pytest.mark.parametrize("name", GOOD_ROWS)
def test_an_unusual_row_that_can_be_used_is(prepared, name):
    assert name in load_prepared(prepared)["train"]["id"]


@pytest.mark.parametrize("place", range(len(ODD_LINES)), ids=list(ODD_LINES))
def test_an_odd_line_is_left_out_with_its_number(prepared, place):
    number = len(GOOD_ROWS) + len(ODD_ROWS) + 2 + place
    reason = "not a record" if list(ODD_LINES)[place] == "not-a-record" else "unreadable line"
    assert skipped(prepared)[f"{number:08d}"] == reason


def test_an_id_that_comes_twice_is_used_once_and_an_id_of_two_lines_is_none(prepared):
    rows = load_prepared(prepared)["train"]
    assert rows["text"][rows["id"].index("good")] == "ciao a tutti"
    assert skipped(prepared)["good"] == "duplicate id" and skipped(prepared)["two\nlines"] == "bad id"


def test_nothing_else_was_left_out_and_the_report_counts_it_all(prepared):
    report = json.loads((prepared / "report.json").read_text())
    assert report["prepared"] == len(GOOD_ROWS) and set(load_prepared(prepared)["train"]["id"]) == set(GOOD_ROWS)
    assert sum(report["skipped"].values()) == len(ODD_ROWS) + len(ODD_LINES) + 2
    assert report["found"] == report["prepared"] + sum(report["skipped"].values())
    readable = (prepared / "report.md").read_text()
    assert all(f"| {reason} | {count} |" in readable for reason, count in report["skipped"].items())


def test_word_times_may_be_written_as_json(prepared):
    rows = load_prepared(prepared)["train"]
    words = rows["words"][rows["id"].index("words-as-json")]
    assert [(word["word"], word["start"]) for word in words] == [("a", pytest.approx(0.0)), ("b", pytest.approx(0.3))]


def test_texts_are_stored_in_one_line_and_composed(prepared):
    rows = load_prepared(prepared)["train"]
    assert rows["text"][rows["id"].index("decomposed-letters")] == "città e perché"


# ---------------------------------------------------------------------------------------------------- files and folders


def odd_source(folder: Path, name: str) -> str:
    """Write an odd file or folder, and give its name."""
    path = folder / name
    content = {
        "broken.json": b"{",
        "object.json": b'{"text": "a"}',
        "broken.parquet": b"PAR1 no parquet",
        "audio.wav": b"",
        "empty.jsonl": b"\n\n",
        "useless.csv": b"file_name,text\nnowhere.wav,ciao\n",
    }
    if name in content:
        path.write_bytes(content[name])
    elif name == "empty-folder":
        path.mkdir()
    return str(path) if name != "no/such/hub/id" else name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.jsonl", "There is no file or folder"),
        ("no/such/hub/id", "There is no file or folder"),
        ("empty-folder", "no folder of data that is known"),
        ("audio.wav", "no table that can be read"),
        ("broken.json", "is no JSON"),
        ("object.json", "must hold a list of records, but holds a dict"),
        ("broken.parquet", "cannot be read as Parquet"),
        ("empty.jsonl", "holds no records"),
        ("useless.csv", r"None of the 1 records .* \(no audio file: 1; see"),
    ],
)
def test_an_odd_file_or_folder_is_an_error_in_one_sentence(checkpoint, tmp_path, name, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(open_source(odd_source(tmp_path, name)), tmp_path / "out", checkpoint)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": {"min_seconds": 5, "max_seconds": 1}}, "no audio is"),
        ({"limits": {"max_characters": 0}}, "at least 1"),
        ({"limits": {"align": "magic"}}, "'none' or 'proportional'"),
        ({"splitting": {"by": "moon"}}, "not by 'moon'"),
        ({"splitting": {"validation": 0.6, "test": 0.5}}, "leave some records to train on"),
        ({"num_proc": 0}, "at least 1"),
        ({"engine": "steam"}, "one of local, ray"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_any_work(tmp_path, options, message):
    manifest = write_manifest(tmp_path / "m.jsonl", write_recordings(tmp_path, 1))
    with pytest.raises(ValueError, match=message):
        if "limits" in options:
            options = {"limits": Limits(**options["limits"])}
        if "splitting" in options:
            options = {"splitting": Splitting(**options["splitting"])}
        prepare(open_source(str(manifest)), tmp_path / "out", "unused", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_written_into(tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", write_recordings(tmp_path, 1))
    with pytest.raises(ValueError, match="is not empty and holds no prepared dataset"):
        prepare(open_source(str(manifest)), tmp_path, "unused")
    with pytest.raises(ValueError, match="is a file"):
        prepare(open_source(str(manifest)), manifest, "unused")


@pytest.mark.parametrize("folder", ["work", "train", "test", "prepared.json"])
def test_folders_of_the_user_are_not_taken_for_ours_by_their_names(checkpoint, tmp_path, folder):
    out = tmp_path / "home"
    (out / folder).mkdir(parents=True)
    (out / folder / "thesis.txt").write_text("years")
    manifest = write_manifest(tmp_path / "m.jsonl", write_recordings(tmp_path, 1))
    with pytest.raises(ValueError, match="is not empty and holds no prepared dataset: choose another folder"):
        prepare(open_source(str(manifest)), out, checkpoint)
    assert [path.name for path in out.rglob("*")] == [folder, "thesis.txt"]

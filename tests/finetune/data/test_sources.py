import io
import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from finetune_fixtures import tiny_checkpoint
from prepare_fixtures import RATE, tone, write_manifest, write_recordings

from finetune.data.prepare import Splitting, prepare
from finetune.data.records import as_item
from finetune.data.schema import load_prepared
from finetune.data.sources import Source, load_from_hub, open_source


def items_of(path, **options):
    return list(open_source(str(path), **options).items())


# ------------------------------------------------------------------------------------------------------------ manifests


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"audio": "a.wav", "text": "x", "language": "it", "speaker": "s"},
        {"text": "x", "language": "it", "speaker": "s"}),
        ({"audio_filepath": "a.wav", "transcript": "x", "lang": "it", "speaker_id": 7}, {"text": "x", "speaker": 7}),
        ({"path": "a.wav", "sentence": "x", "locale": "it", "client_id": "c"}, {"speaker": "c", "language": "it"}),
        ({"audio": "a.wav", "caption": "a bell", "instruction": "what?"}, {"kind": "caption", "answer_text": "a bell"}),
        ({"question_audio": "a.wav", "answer": "x", "answer_audio": "b.wav"}, {"kind": "dialogue", "answer_text": "x"}),
        ({"question": "q", "answer": "x"}, {"kind": "text", "text": "q"}),
        ({"text": "only words"}, {"kind": "document"}),
        ({"messages": [{"role": "user", "content": "x"}]}, {"kind": "messages"}),
        ({"text": "<|im_start|>user\nx<|im_end|>\n"}, {"kind": "messages"}),
        ({"audio": None, "text": "x"}, {"kind": "recording", "audio": None}),
        ({"audio": "", "text": "x"}, {"kind": "recording", "audio": None}),
        ({"audio": "a.wav", "text": "x", "answer": "", "caption": "", "words": "", "messages": ""},
        {"kind": "recording", "words": None}),
        ({"audio": "a.wav", "text": "x", "answer": float("nan"), "caption": float("nan")},
        {"kind": "recording", "answer_text": None}),
        ({"audio": "a.wav", "text": "", "sentence": "x"}, {"kind": "recording", "text": "x"}),
    ],
)  # fmt: skip
def test_what_a_record_is_follows_from_what_it_holds(tmp_path, record, expected):
    item = as_item(record, 3, tmp_path)
    assert {name: getattr(item, name) for name in expected} == expected
    if item.audio is not None:
        assert item.audio == str(tmp_path / "a.wav"), "paths begin at the manifest"
    assert item.id == "00000003"


def test_fields_may_be_named_by_the_user(tmp_path):
    manifest = write_manifest(
        tmp_path / "m.jsonl", [{"audio": "a.wav", "raw": "ignored", "text": "Ciao!", "norm": "ciao"}]
    )
    assert items_of(manifest, columns={"text": "norm"})[0].text == "ciao"


def test_a_table_with_an_index_is_read_and_a_line_with_too_many_fields_is_not(tmp_path):
    (tmp_path / "m.csv").write_text(",audio,text\n0,a.wav,hello\n1,b.wav,yes,no\n")
    hello, crowded = items_of(tmp_path / "m.csv")
    assert (hello.problem, hello.text, hello.audio) == (None, "hello", str(tmp_path / "a.wav"))
    assert (crowded.problem, crowded.detail) == ("unreadable line", "line 3 has more fields than the header")


@pytest.mark.parametrize(
    ("name", "separator"), [("m.csv", ";"), ("m.csv", "\t"), ("m.tsv", ",")], ids=["semicolons", "tabs", "commas"]
)
def test_a_table_with_another_separator_is_refused_with_its_columns(tmp_path, name, separator):
    (tmp_path / name).write_text(f"audio{separator}text\na.wav{separator}hello\n")
    with pytest.raises(ValueError, match=r"separated by .* its first line is") as refusal:
        items_of(tmp_path / name)
    assert str([f"audio{separator}text"]) in str(refusal.value) and "--column FIELD=NAME" in str(refusal.value)


def test_a_table_whose_columns_are_named_by_the_user_is_read(tmp_path):
    (tmp_path / "m.csv").write_text("clip,words spoken\na.wav,hello\n")
    with pytest.raises(ValueError, match="no column that is known"):
        items_of(tmp_path / "m.csv")
    (item,) = items_of(tmp_path / "m.csv", columns={"audio": "clip", "text": "words spoken"})
    assert item.text == "hello"


def test_a_source_can_be_read_from_any_place(tmp_path):
    write_manifest(tmp_path / "a.jsonl", [{"text": f"a{n}"} for n in range(5)])
    (tmp_path / "b.json").write_text(json.dumps([{"text": f"b{n}"} for n in range(3)]))
    source = open_source(str(tmp_path))
    whole = list(source.items())
    assert [item.text for item in whole] == ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2"]
    assert all(list(source.items(start)) == whole[start:] for start in range(10))


def test_a_fingerprint_changes_with_the_table_and_with_the_names_of_fields(tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", [{"text": "a"}])
    before = open_source(str(manifest)).fingerprint()
    assert before == open_source(str(manifest)).fingerprint()
    assert before != open_source(str(manifest), {"text": "sentence"}).fingerprint()
    write_manifest(manifest, [{"text": "b"}])
    assert before != open_source(str(manifest)).fingerprint()


# -------------------------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_an_audio_folder_is_read_by_its_metadata(tmp_path, name):
    if name.endswith("csv"):
        (tmp_path / name).write_text('file_name,transcription\nsub/a.wav,"uno, due"\nb.wav,tre\n')
    else:
        write_manifest(tmp_path / name, [{"file_name": "sub/a.wav", "transcription": "uno, due"}, {"file_name": "b.wav",
            "transcription": "tre"}])  # fmt: skip
    found = items_of(tmp_path)
    assert [(item.id, item.audio, item.text) for item in found] == [
        ("sub/a.wav", str(tmp_path / "sub/a.wav"), "uno, due"),
        ("b.wav", str(tmp_path / "b.wav"), "tre"),
    ]


def common_voice(folder, *parts):
    (folder / "clips").mkdir()
    for part in parts:
        (folder / f"{part}.tsv").write_text(
            "client_id\tpath\tsentence\tup_votes\tlocale\n"
            + f'c1\t{part}.mp3\tDisse "ciao\t2\tit\n'
            + f"c2\t{part}2.mp3\tecco\t2\tit\n"
        )


def test_common_voice_keeps_its_splits_and_its_quotes(tmp_path):
    common_voice(tmp_path, "train", "dev", "test", "validated")
    found = items_of(tmp_path)
    assert [(item.id, item.split) for item in found] == [
        ("train.mp3", "train"), ("train2.mp3", "train"), ("dev.mp3", "validation"), ("dev2.mp3", "validation"),
        ("test.mp3", "test"), ("test2.mp3", "test"),
    ]  # fmt: skip
    first = found[0]
    assert (first.text, first.speaker, first.language) == ('Disse "ciao', "c1", "it")
    assert first.audio == str(tmp_path / "clips" / "train.mp3")


def test_common_voice_without_splits_is_what_was_validated(tmp_path):
    common_voice(tmp_path, "validated", "other")
    assert [(item.id, item.split) for item in items_of(tmp_path)] == [
        ("validated.mp3", None),
        ("validated2.mp3", None),
    ]


def test_common_voice_that_nobody_validated_is_refused(tmp_path):
    common_voice(tmp_path, "other")
    with pytest.raises(ValueError, match=r"train.tsv or validated.tsv"):
        open_source(str(tmp_path))


# --------------------------------------------------------------------------------------------- the released data format

CONVERSATION = [
    {"role": "user", "content": "<|audio_1|><|audio_2|>"},
    {"role": "assistant", "content": "ciao <|begin_of_audio|><|audio_3|><|end_of_audio_new|>"},
]


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet", "parquet with JSON"])
def test_the_released_format_is_read_in_each_of_its_forms(tmp_path, form):
    records = [{"messages": CONVERSATION}, {"text": "un testo <|audio_4|>"}]
    path = tmp_path / f"data.{form.split()[0]}"
    if form == "json":
        path.write_text(json.dumps(records))
    elif form == "jsonl":
        write_manifest(path, records)
    else:
        written = json.dumps(CONVERSATION) if "JSON" in form else CONVERSATION
        table = pyarrow.Table.from_pylist(
            [{"messages": written, "text": None}, {"messages": None, "text": records[1]["text"]}]
        )
        pyarrow.parquet.write_table(table, path)
    conversation, document = items_of(path)
    assert open_source(str(path)).count() == 2, "for the time that is left"
    assert conversation.kind == "messages" and document.kind == "document"
    found = json.loads(conversation.messages) if isinstance(conversation.messages, str) else conversation.messages
    assert found == CONVERSATION and document.text == "un testo <|audio_4|>"


# ------------------------------------------------------------------------------------------------------------------ Hub


def wav_bytes(seed):
    file = io.BytesIO()
    soundfile.write(file, tone(0.4, seed), RATE, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """A data set as a repository has it: Parquet files with audio in them, one a split."""
    folder = tmp_path_factory.mktemp("hub")
    features = datasets.Features({"audio": datasets.Audio(), "sentence": datasets.Value("string")})
    for split, count in (("train", 5), ("test", 2)):
        rows = [{"audio": {"bytes": wav_bytes(n), "path": None}, "sentence": f"{split} {n}"} for n in range(count)]
        # the library itself would need torchcodec
        table = pyarrow.Table.from_pylist(rows, schema=features.arrow_schema)
        pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
    return folder


def hub_source(folder, split=None, streaming=False):
    asked = {"path": str(folder), "name": None, "split": split, "streaming": streaming}
    return Source("owner/name", "hub", hub=asked)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_data_set_is_read_undecoded_with_its_splits_from_any_place(hub_folder, streaming):
    source = hub_source(hub_folder, streaming=streaming)
    whole = list(source.items())
    assert [(item.text, item.split) for item in whole] == [
        *((f"train {n}", "train") for n in range(5)), *((f"test {n}", "test") for n in range(2)),
    ]  # fmt: skip
    assert whole[3].audio == wav_bytes(3)
    assert all(list(source.items(start)) == whole[start:] for start in (0, 4, 5, 6, 9))
    assert len(list(hub_source(hub_folder, "test", streaming).items())) == 2


def test_streaming_and_splits_of_the_source_reach_the_prepared_rows(hub_folder, tmp_path):
    checkpoint = str(tiny_checkpoint(tmp_path / "checkpoint"))
    for name, streaming in (("streamed", True), ("loaded", False)):
        prepare(hub_source(hub_folder, streaming=streaming), tmp_path / name, checkpoint, splitting=Splitting("source"))
    streamed, loaded = load_prepared(tmp_path / "streamed"), load_prepared(tmp_path / "loaded")
    assert {split: len(rows) for split, rows in streamed.items()} == {"train": 5, "validation": 0, "test": 2}
    assert streamed["train"].to_list() == loaded["train"].to_list()


def test_splits_of_the_hub_keep_their_names(hub_folder, tmp_path):
    for name, file in (("train.clean", "train"), ("validation.clean", "test")):
        (tmp_path / f"{name}.parquet").write_bytes((hub_folder / f"{file}.parquet").read_bytes())
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("train.clean", "validation.clean")}
    source = Source(
        "owner/name", "hub", hub={"path": "parquet", "data_files": files, "split": None, "streaming": False}
    )
    assert [item.split for item in source.items()] == ["train.clean"] * 5 + ["validation.clean"] * 2


def test_an_id_that_nobody_has_is_an_error_in_one_sentence():
    with pytest.raises(ValueError, match=r"neither a file or folder here nor a data set that could be loaded"):
        list(open_source("nobody/nothing").items())


def test_parquet_tables_may_hold_the_audio_itself(tmp_path, hub_folder):
    items = items_of(hub_folder / "train.parquet")
    assert [item.audio for item in items] == [wav_bytes(n) for n in range(5)]


def test_recordings_of_a_manifest_may_be_anywhere(tmp_path):
    write_recordings(tmp_path / "recordings", 1)
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio": str(tmp_path / "recordings" / "0.wav"), "text": "x"}])
    assert items_of(manifest)[0].audio == str(tmp_path / "recordings" / "0.wav")


def test_a_data_set_that_is_a_script_is_read_from_the_hub_s_copy(monkeypatch):
    asked = []

    def load_dataset(*arguments, **named):
        asked.append((arguments, named))
        if "revision" not in named:
            raise RuntimeError("Dataset scripts are no longer supported, but found fleurs.py")
        return "rows"

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert load_from_hub("google/fleurs", "it_it", split="test") == "rows"
    copy = {"data_dir": "it_it", "revision": "refs/convert/parquet", "split": "test"}
    assert asked == [(("google/fleurs", "it_it"), {"split": "test"}), (("google/fleurs",), copy)]

import json

import datasets
import pytest

from finetune.data.schema import SPLITS, PreparedInfo, features, load_prepared, make_record, read_info, save_prepared

INFO = PreparedInfo("made.jsonl", "codec", "abc", 25.0, 64, {"max_seconds": 30})
ROW = make_record(
    "a",
    "recording",
    language="it",
    speaker="carlo",
    text="ciao a tutti",
    codes=[1, 2, 3, 63],
    words=[{"word": "ciao", "start": 0.0, "end": 0.5}],
    seconds=1800.0,
)


def test_a_prepared_folder_reads_back_what_was_saved(tmp_path):
    save_prepared(tmp_path / "out", {"train": [ROW, make_record("b", "text", text="q", answer_text="a")]}, INFO)
    splits = load_prepared(tmp_path / "out")
    assert list(splits) == list(SPLITS)
    assert splits["train"][0] == ROW
    assert splits["train"][1]["codes"] is None
    assert len(splits["validation"]) == len(splits["test"]) == 0
    assert splits["test"].features == features()
    info = read_info(tmp_path / "out")
    assert info.counts == {"train": 2, "validation": 0, "test": 0}
    assert info.hours["train"] == 0.5
    assert (info.frame_rate, info.codebook_size, info.settings) == (25.0, 64, {"max_seconds": 30})


def test_the_columns_are_those_that_training_reads():
    assert list(features()) == [
        "id", "kind", "language", "speaker", "text", "codes", "answer_text", "answer_codes", "words", "answer_words",
        "messages", "seconds",
    ]  # fmt: skip
    assert features()["codes"] == datasets.List(datasets.Value("int32"))


def test_a_folder_that_is_not_finished_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `ttt prepare`"):
        load_prepared(tmp_path)


def test_information_of_a_later_version_is_read_as_far_as_it_is_known(tmp_path):
    save_prepared(tmp_path, {}, INFO)
    stored = json.loads((tmp_path / "prepared.json").read_text())
    (tmp_path / "prepared.json").write_text(json.dumps(stored | {"moon_phase": "full"}))
    assert read_info(tmp_path).codec_fingerprint == "abc"


@pytest.mark.parametrize(
    ("kind", "values", "message"), [("song", {}, "one of recording"), ("text", {"txt": "?"}, "no column txt")]
)
def test_unknown_kinds_and_columns_are_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        make_record("a", kind, **values)

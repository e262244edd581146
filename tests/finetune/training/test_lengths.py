"""Lengths of examples: counted once for the same data and settings."""

import pytest
from processing_fixtures import tiny_tokenizer

from finetune.data.schema import PreparedInfo, make_record, save_prepared
from finetune.training.lengths import count_lengths
from finetune.training.mixture import MixedExamples, read_mixture
from processing_ttt.layout_ttt import TttLayout
from processing_ttt.vocabulary_ttt import add_ttt_tokens

TOKENIZER = tiny_tokenizer()
LAYOUT = TttLayout(add_ttt_tokens(TOKENIZER, 64), text_tokens=3, audio_tokens=5)


def examples_of(folder, count=100):
    """Examples of growing length, written anew."""
    rows = [make_record(f"t{i}", "text", text="a" * (1 + i % 7), answer_text="b" * (1 + i % 5)) for i in range(count)]
    save_prepared(folder, {"train": rows}, PreparedInfo("made", "codec", "f", 10.0, 64))
    return MixedExamples(read_mixture(folder), TOKENIZER, LAYOUT)


def one_more(example):
    return len(example["input_ids"]) + 1


def forbidden(example):
    raise AssertionError("These were counted before.")


def test_lengths_are_counted_once(tmp_path):
    examples = examples_of(tmp_path / "data")
    expected = [len(examples[i]["input_ids"]) for i in range(len(examples))]
    assert len(set(expected)) > 5
    assert count_lengths(examples, None, tmp_path / "run", {"aligned": 1}) == expected
    assert count_lengths(examples, forbidden, tmp_path / "run", {"aligned": 1}) == expected
    assert [path.suffix for path in (tmp_path / "run").iterdir()] == [".npy"]


def test_other_settings_and_other_data_are_counted_anew(tmp_path):
    examples = examples_of(tmp_path / "data")
    before = count_lengths(examples, None, tmp_path / "run", {"aligned": 1})
    assert count_lengths(examples, one_more, tmp_path / "run", {"aligned": 2}) == [length + 1 for length in before]
    more = examples_of(tmp_path / "data", count=101)
    assert count_lengths(more, one_more, tmp_path / "run", {"aligned": 1})[:100] == [length + 1 for length in before]


def test_several_processes_count_the_same(tmp_path):
    examples = examples_of(tmp_path / "data", count=300)
    alone = count_lengths(examples, one_more, tmp_path / "alone", {})
    assert count_lengths(examples, one_more, tmp_path / "together", {}, num_workers=2) == alone


@pytest.mark.parametrize("written", [b"", b"not an array"])
def test_a_file_that_is_no_count_is_counted_anew(tmp_path, written):
    examples = examples_of(tmp_path / "data")
    before = count_lengths(examples, None, tmp_path / "run", {})
    (path,) = (tmp_path / "run").iterdir()
    path.write_bytes(written)
    assert count_lengths(examples, None, tmp_path / "run", {}) == before

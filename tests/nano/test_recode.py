"""How a language model begins with other codes: embeddings as means of those that stood in their place."""

import json

import pytest
import torch
from transformers import AutoModel, AutoProcessor

from finetune.nano.checkpoint import recode
from modeling_ttt import nano_checkpoint


def write_codes(folder, utterances):
    folder.mkdir(parents=True)
    lines = [json.dumps({"id": name, "codes": codes}) + "\n" for name, codes in utterances.items()]
    (folder / "shard-00000.jsonl").write_text("".join(lines))


def test_what_stood_in_a_codes_place_is_counted_in_utterances_of_one_length(tmp_path):
    write_codes(tmp_path / "before", {"a": [0, 1, 1], "b": [2, 2], "c": [3]})
    write_codes(tmp_path / "after", {"a": [4, 4, 3], "b": [4, 2, 2]})
    counts = recode.replacements(tmp_path / "before", tmp_path / "after", 5)
    assert {(i, j): counts[i, j].item() for i, j in counts.nonzero().tolist()} == {(4, 0): 1, (4, 1): 1, (3, 1): 1}


def test_a_row_is_the_mean_of_those_in_its_place_and_stays_where_there_is_none():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    counts = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    assert recode.mean_rows(rows, counts).tolist() == [[0.75, 0.25], [0.0, 1.0], [5.0, 5.0]]


def test_a_checkpoint_reads_and_speaks_the_new_codes_as_it_did_the_old_ones(tmp_path):
    nano = nano_checkpoint()
    write_codes(tmp_path / "before/questions", {"a": [7] * 3})
    write_codes(tmp_path / "before/questions-again1", {"a": [9]})
    write_codes(tmp_path / "before/answers", {"b": [8, 6, 4, 4]})
    write_codes(tmp_path / "after/questions", {"a": [8, 8, 5]})
    write_codes(tmp_path / "after/questions-again1", {"a": [8]})
    write_codes(tmp_path / "after/answers", {"b": [8, 3, 3, 4]})
    arguments = (nano, nano / "codec", tmp_path / "before", tmp_path / "after", ["questions"], ["answers"])
    recode.recode(*arguments, tmp_path / "out")
    first, found = AutoModel.from_pretrained(nano), AutoModel.from_pretrained(tmp_path / "out")
    codes = first.config.audio_code_offset + torch.arange(10)
    old, new = (model.get_input_embeddings().weight.float() for model in (first, found))
    expected = old.clone()
    expected[codes[5]] = old[codes[7]]
    expected[codes[8]] = (2 * old[codes[7]] + old[codes[9]] + old[codes[8]]) / 4
    expected[codes[3]] = (old[codes[6]] + old[codes[4]]) / 2
    torch.testing.assert_close(new, expected)
    old, new = (model.get_output_embeddings().weight.float() for model in (first, found))
    expected = old.clone()
    expected[codes[3]] = (old[codes[6]] + old[codes[4]]) / 2
    torch.testing.assert_close(new, expected)
    assert AutoProcessor.from_pretrained(tmp_path / "out").codec.config.codebook_size == 1024


def test_corpora_without_a_common_utterance_are_refused(tmp_path):
    for name in ("before", "after"):
        write_codes(tmp_path / name / "questions", {name: [1]})
    nano = nano_checkpoint()
    with pytest.raises(SystemExit, match="no utterance of questions in common"):
        recode.recode(
            nano, nano / "codec", tmp_path / "before", tmp_path / "after", ["questions"], [], tmp_path / "out"
        )

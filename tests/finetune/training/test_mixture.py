import json
from collections import Counter

import numpy as np
import pytest
from processing_fixtures import tiny_tokenizer
from torch.utils.data import DataLoader

from finetune.data.schema import PreparedInfo, make_record, save_prepared
from finetune.training import token_cache as remembers
from finetune.training.examples import build_examples
from finetune.training.mixture import MixedExamples, read_mixture
from processing_ttt.layout_ttt import TttLayout
from processing_ttt.vocabulary_ttt import add_ttt_tokens

TOKENIZER = tiny_tokenizer()
LAYOUT = TttLayout(add_ttt_tokens(TOKENIZER, 64), text_tokens=3, audio_tokens=5)
WORDS = [{"word": "ciao", "start": 0.0, "end": 0.1}, {"word": "a", "start": 0.1, "end": 0.3}]


def info(fingerprint="f", codebook_size=64):
    return PreparedInfo("made", "codec", fingerprint, 10.0, codebook_size)


def recordings(count, name):
    return [
        make_record(
            f"{name}{i}", "recording", text="ciao a", codes=[i % 64, 1, 2], language="it", words=WORDS, seconds=0.3
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixture")
    save_prepared(root / "it", {"train": recordings(10, "it"), "test": recordings(2, "held")}, info())
    texts = [make_record(f"t{i}", "text", text="q", answer_text=str(i)) for i in range(30)]
    save_prepared(root / "en", {"train": texts}, info())
    return root


def mixed(folder, written, **kwargs):
    path = folder / "data.yaml"
    path.write_text(json.dumps(written))  # JSON is YAML
    return MixedExamples(read_mixture(path), TOKENIZER, LAYOUT, **kwargs)


def tasks_of_epoch(examples, epoch=0):
    return Counter(examples.record(int(position))[1] for position in examples.order(epoch))


REPLAY = {"replay_ratio": 0.2, "datasets": [{"path": "it"}, {"path": "en", "replay": True}]}


# --------------------------------------------------------------------------------------------------------------- shares


def test_a_folder_alone_teaches_each_row_each_task_once_an_epoch(folder):
    examples = MixedExamples(read_mixture(folder / "it"), TOKENIZER, LAYOUT)
    assert len(examples) == examples.epoch_length == 20
    for epoch in range(3):
        assert sorted(examples.order(epoch)) == list(range(20))
    only = MixedExamples(read_mixture(folder / "it", ["asr", "interleaved"]), TOKENIZER, LAYOUT)
    assert tasks_of_epoch(only) == {"asr": 10, "interleaved": 10}


def test_replay_takes_its_share_of_the_epoch_and_goes_through_its_rows(folder):
    examples = mixed(folder, REPLAY)
    assert examples.epoch_length == 25
    seen = Counter()
    for epoch in range(6):
        assert tasks_of_epoch(examples, epoch) == {"asr": 10, "tts": 10, "text": 5}
        seen += Counter(
            examples.record(int(p))[0]["id"] for p in examples.order(epoch) if examples.record(int(p))[1] == "text"
        )
    assert set(seen.values()) == {1} and len(seen) == 30, "six epochs of five are one round of thirty"


def test_weights_share_among_datasets_and_among_tasks(folder):
    weighted = {"datasets": [{"path": "it", "weight": 3, "tasks": {"asr": 1, "tts": 2}}, {"path": "en", "weight": 1}]}
    examples = mixed(folder, weighted)
    assert examples.epoch_length == 50
    # 50 * 3/4 = 37.5, a third and two thirds of it are 12.5 and 25; en 12.5: the first of the equal remainders is
    # rounded up
    assert tasks_of_epoch(examples) == {"asr": 13, "tts": 25, "text": 12}
    rows = Counter(examples.record(int(p))[0]["id"] for p in examples.order(0) if examples.record(int(p))[1] == "tts")
    assert sorted(rows.values()) == [2] * 5 + [3] * 5, "a new round begins only when each row was taken"


def test_without_weights_datasets_count_by_their_size(folder):
    assert tasks_of_epoch(mixed(folder, {"datasets": ["it", "en"]})) == {"asr": 10, "tts": 10, "text": 30}


def test_a_split_without_replay_rows_is_shared_by_what_is_there(folder):
    examples = mixed(folder, REPLAY, split="test")
    assert len(examples) == 4 and set(tasks_of_epoch(examples)) == {"asr", "tts"}
    assert len(mixed(folder, {"datasets": ["it"]}, split="validation")) == 0


# ------------------------------------------------------------------------------------------------------ the same always


def test_orders_depend_on_seed_and_epoch_alone(folder):
    one, other = mixed(folder, REPLAY, seed=3), mixed(folder, REPLAY, seed=3)
    later = other.order(7)  # nothing was asked before
    for epoch in range(8):
        last = one.order(epoch)
    assert (last == later).all()
    assert (mixed(folder, REPLAY, seed=4).order(7) != later).any()
    assert (one.order(6) != later).any()


def test_examples_are_the_same_whatever_the_number_of_workers(folder):
    examples = mixed(folder, REPLAY, aligned=1)
    order = [int(position) for position in examples.order(1)]
    alone = [examples[position] for position in order]
    for workers in (1, 2):
        loaded = DataLoader(examples, sampler=order, batch_size=None, num_workers=workers, collate_fn=list_of)
        assert list(loaded) == alone


def list_of(example):
    return example


def test_an_example_is_that_of_its_row_and_task(folder):
    examples = mixed(folder, REPLAY, aligned=1)
    for position in (0, 10, 20, 49):
        row, task = examples.record(position)
        assert examples[position] == build_examples(row, task, TOKENIZER, LAYOUT, 10.0, aligned=1)
    with pytest.raises(IndexError, match="50 examples, and none at 50"):
        examples[50]


@pytest.mark.parametrize(("longest_text", "most_texts"), [(1000, 20_000), (1000, 2), (3, 20_000), (0, 1)])
def test_what_a_tokenizer_remembers_is_what_it_would_say(folder, monkeypatch, longest_text, most_texts):
    monkeypatch.setattr(remembers, "LONGEST_TEXT", longest_text)
    monkeypatch.setattr(remembers, "MOST_TEXTS", most_texts)
    examples = mixed(folder, REPLAY, aligned=1)
    for position in [*range(len(examples)), *range(len(examples))]:
        example = examples[position]
        assert example == build_examples(*examples.record(position), TOKENIZER, LAYOUT, 10.0, aligned=1)
        example["input_ids"].append(0)  # whoever gets a list may change it
    assert len(examples.tokenizer._ids) <= most_texts
    if (longest_text, most_texts) == (1000, 20_000):
        # One for all audio, one for the text read aloud, one for the written question.
        assert len(examples.tokenizer._prompts) == 3


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"datasets": []}, "must hold a list `datasets`"),
        ([], "must hold a list `datasets`"),
        ({"datasets": [{"weight": 1}]}, "has a `path`"),
        ({"datasets": ["it"], "replay_ration": 0.1}, "has replay_ration, which"),
        ({"datasets": [{"path": "it", "task": "asr"}]}, "has task, which"),
        ({"datasets": [{"path": "it", "tasks": ["sing"]}]}, "to teach sing"),
        ({"datasets": [{"path": "it", "tasks": ["chat"]}]}, "no record that teaches chat"),
        ({"datasets": ["nowhere"]}, "holds no prepared dataset"),
        ({"datasets": ["it"], "replay_ratio": 0.2}, "or do neither"),
        ({"datasets": ["it", {"path": "en", "replay": True}]}, "or do neither"),
        ({"datasets": [{"path": "en", "replay": True}], "replay_ratio": 0.2}, "not marked `replay`"),
        ({"datasets": ["it"], "replay_ratio": 1}, "from 0 to below 1"),
        ({"datasets": [{"path": "it", "weight": -1}]}, "`weight` must be a number from 0"),
        ({"datasets": [{"path": "it", "weight": 0}]}, "weight above 0"),
        ({"datasets": [{"path": "it", "weight": 1}, "en"]}, "every dataset a `weight`, or none"),
        ({"datasets": [{"path": "it", "tasks": {"asr": 0}}]}, "share 0"),
    ],
)  # fmt: skip
def test_what_a_mixture_does_not_know_is_refused(folder, written, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        mixed(folder, written)


def test_datasets_of_different_codecs_are_not_mixed(folder, tmp_path):
    save_prepared(tmp_path / "other", {"train": recordings(1, "x")}, info("g"))
    with pytest.raises(ValueError, match="different codecs"):
        mixed(folder, {"datasets": ["it", str(tmp_path / "other")]})
    save_prepared(tmp_path / "larger", {"train": recordings(1, "x")}, info(codebook_size=128))
    with pytest.raises(ValueError, match="codec of 128 codes, but the model has 64"):
        mixed(folder, {"datasets": [str(tmp_path / "larger")]})


def test_tasks_stand_in_the_data_file_or_beside_a_folder_but_not_both(folder):
    mixed(folder, REPLAY)
    with pytest.raises(ValueError, match="names the tasks of each dataset itself"):
        read_mixture(folder / "data.yaml", ["asr"])
    with pytest.raises(FileNotFoundError, match=r"no prepared folder and no data file"):
        read_mixture(folder / "nothing.yaml")


def test_a_manifest_is_refused_with_the_command_that_prepares_it(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"audio": "1.wav", "text": "One."}\n{"audio": "2.wav", "text": "Two."}\n')
    with pytest.raises(ValueError, match=r"is not prepared: give the folder that `ttt prepare .*manifest\.jsonl"):
        read_mixture(tmp_path / "manifest.jsonl")


def test_an_order_is_a_plain_array_of_positions(folder):
    order = mixed(folder, REPLAY).order(0)
    assert order.dtype == np.int64 and order.shape == (25,)


def test_languages_are_those_that_are_learnt_and_not_those_that_are_replayed(folder, tmp_path):
    assert mixed(folder, REPLAY).languages == ["it"]
    rows = [
        make_record(f"t{i}", "text", text="q", answer_text="a", language=tag)
        for i, tag in enumerate(["ru", "en", "ru", None])
    ]
    save_prepared(tmp_path / "two", {"train": rows}, info())
    assert mixed(folder, {"datasets": [{"path": "it"}, {"path": str(tmp_path / "two")}]}).languages == [
        "en",
        "it",
        "ru",
    ]


def test_recordings_of_several_datasets_may_share_ids_and_what_is_replayed_is_not_among_them(tmp_path):
    for name in ("it", "fr", "en"):
        rows = [row | {"id": f"{i:08d}", "text": f"{name} {i}"} for i, row in enumerate(recordings(3, name))]
        save_prepared(tmp_path / name, {"train": rows, "validation": rows[:2]}, info())
    written = {"replay_ratio": 0.2, "datasets": [{"path": "it"}, {"path": "fr"}, {"path": "en", "replay": True}]}
    examples = mixed(tmp_path, written, split="validation")
    assert [examples.record(position)[0]["text"] for position in examples.recordings()] == [
        "it 0",
        "it 1",
        "fr 0",
        "fr 1",
    ]

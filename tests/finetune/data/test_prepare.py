import itertools
import json
import os
import signal
import subprocess
import sys
import time

import filelock
import numpy as np
import pytest
import torch
from checkout import ROOT
from finetune_fixtures import CODES, tiny_checkpoint
from prepare_fixtures import RATE, tone, write_manifest, write_recordings

from finetune.data.alignment import proportional_word_times
from finetune.data.encoding import codec_fingerprint, encode_waveforms
from finetune.data.prepare import Splitting, prepare
from finetune.data.record_maker import Limits
from finetune.data.records import Item, pack_items, unpack_items
from finetune.data.schema import SPLITS, load_prepared, read_info
from finetune.data.sources import open_source
from finetune.data.splits import assign_splits, hash_group, split_of_source
from modeling_ttt import nano_checkpoint
from processing_ttt import TttProcessor
from processing_ttt.audio_input_ttt import load_audio

COUNT = 14  # rows of the manifest: four shards of four


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    records = write_recordings(folder, COUNT)
    records[5]["audio"] = "missing.wav"
    return write_manifest(folder / "manifest.jsonl", records)


@pytest.fixture(scope="module")
def prepared(checkpoint, manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "prepared"
    prepare(open_source(str(manifest)), out, checkpoint, shard_items=4)
    return out


def rows_of(out):
    return {split: rows.to_list() for split, rows in load_prepared(out).items()}


# ----------------------------------------------------------------------------------------------------------------- rows


def test_each_recording_becomes_a_row_with_the_codes_of_its_audio_alone(checkpoint, manifest, prepared):
    processor = TttProcessor.from_pretrained(checkpoint)
    rows = [row for split in rows_of(prepared).values() for row in split]
    assert len(rows) == COUNT - 1
    for row in rows:
        number = int(row["text"].split()[-1])
        waveform = load_audio(str(manifest.parent / f"{number}.wav"), RATE)
        assert row["codes"] == processor.encode_audio(waveform, RATE)
        assert (row["kind"], row["language"], row["speaker"]) == ("recording", "it", f"s{number % 3}")
        assert row["seconds"] == len(waveform) / RATE and row["words"] is None


def test_the_information_names_the_codec_and_the_counts(checkpoint, prepared):
    info = read_info(prepared)
    processor = TttProcessor.from_pretrained(checkpoint)
    assert info.codec_fingerprint == codec_fingerprint(processor)
    assert (info.codebook_size, info.frame_rate) == (CODES, 25.0)
    assert info.counts == {split: len(rows) for split, rows in load_prepared(prepared).items()}
    assert sum(info.hours.values()) * 3600 == pytest.approx(
        sum(sum(rows["seconds"]) for rows in load_prepared(prepared).values())
    )


def test_a_fingerprint_tells_codecs_apart(checkpoint):
    processor = TttProcessor.from_pretrained(checkpoint)
    before = codec_fingerprint(processor)
    with torch.no_grad():
        next(processor.codec.encoder.parameters())[0] += 1e-3
    assert codec_fingerprint(processor) != before


def test_a_voice_that_was_trained_on_leaves_the_codes_of_a_codec_its_own(checkpoint):
    processor = TttProcessor.from_pretrained(checkpoint)
    before = codec_fingerprint(processor)
    with torch.no_grad():
        for part in (processor.codec.decoder, processor.codec.vocoder):
            next(part.parameters())[0] += 1e-3
    assert codec_fingerprint(processor) == before


def test_batches_encode_exactly_as_single_recordings_do():
    processor = TttProcessor.from_pretrained(nano_checkpoint())
    waveforms = [tone(seconds, seed) for seed, seconds in enumerate((0.31, 1.7, 0.02, 0.9, 0.9, 2.4, 0.64))]
    alone = [processor.encode_audio(waveform, RATE) for waveform in waveforms]
    for batch_size in (1, 2, 3, 7):
        assert encode_waveforms(processor, waveforms, batch_size) == alone


def test_audio_that_the_codec_refuses_does_not_take_its_batch_with_it(checkpoint):
    processor = TttProcessor.from_pretrained(checkpoint)
    good = tone(0.5)
    codes = encode_waveforms(processor, [good, np.zeros(0, np.float32), good], 3)
    assert codes[0] == codes[2] == processor.encode_audio(good, RATE)
    assert isinstance(codes[1], ValueError)


@pytest.mark.parametrize(
    "options",
    [{"num_proc": 2, "shard_items": 3}, {"batch_size": 5, "shard_items": 4}],
    ids=["two processes", "batches"],
)
def test_processes_and_batches_make_the_same_rows(checkpoint, manifest, prepared, tmp_path, options):
    prepare(open_source(str(manifest)), tmp_path / "out", checkpoint, **options)
    assert rows_of(tmp_path / "out") == rows_of(prepared)


@pytest.mark.slow  # half a minute of starting Ray
def test_a_ray_cluster_of_two_workers_makes_the_same_rows(checkpoint, manifest, prepared, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "text-to-talk[ray]"')
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 by default, which starves on a busy machine
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        prepare(open_source(str(manifest)), tmp_path / "out", checkpoint, engine="ray", num_proc=2, shard_items=3)
    finally:
        ray.shutdown()
    assert rows_of(tmp_path / "out") == rows_of(prepared)
    assert (tmp_path / "out" / "skipped.jsonl").read_text() == (prepared / "skipped.jsonl").read_text()


def test_items_survive_the_way_to_another_machine():
    items = [
        Item("a", audio=b"\x00\xff", answer_audio=b"more", text="città", words=[["a", 0.1, 0.2]]),
        Item("b", kind="text", text="half \ud83d", answer_text=3, audio="/a/path"),
    ]
    packed = pack_items(items)
    assert unpack_items({"items": packed["items"], "files": list(packed["files"])}) == items


# ------------------------------------------------------------------------------------------- killed, run again, refused


@pytest.fixture(scope="module")
def killed(checkpoint, manifest, tmp_path_factory):
    """
    Runs that were killed before their n-th rename, and run again. Four shards of two renames follow that of the
    settings.
    """
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(ROOT / "tests" / "support" / "prepare_kills.py"), checkpoint, str(manifest),
        str(folder), "3", "6", "9", "12", "17"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_a_run_that_is_killed_anywhere_ends_with_the_same_rows_when_run_again(killed, prepared):
    folder, runs = killed
    assert all(run["killed"] and run["resumed"] for run in runs), runs
    for run in runs:
        out = folder / str(run["place"])
        assert rows_of(out) == rows_of(prepared), run
        assert json.loads((out / "report.json").read_text()) == json.loads((prepared / "report.json").read_text())
        assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in prepared.iterdir())


def test_shards_that_were_there_are_not_made_again(killed):
    _, runs = killed
    assert [run["kept"] for run in runs] == [0, 2, 3, 4, 4]
    assert all(run["kept"] + run["remade"] == 4 for run in runs)


@pytest.mark.slow
def test_a_run_killed_from_outside_at_any_time_is_resumed(checkpoint, tmp_path):
    manifest = write_manifest(tmp_path / "manifest.jsonl", write_recordings(tmp_path, 60))
    prepare(open_source(str(manifest)), tmp_path / "whole", checkpoint)
    script = (
        "import sys; from finetune.data.prepare import prepare; from finetune.data.sources import open_source\n"
        "if __name__ == '__main__': prepare(open_source(sys.argv[1]), sys.argv[2], sys.argv[3], num_proc=2, "
        "shard_items=2)\n"
    )
    (tmp_path / "run.py").write_text(script)
    command = [sys.executable, str(tmp_path / "run.py"), str(manifest), str(tmp_path / "out"), checkpoint]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    work, kills = tmp_path / "out" / "work", 0
    for wanted in (3, 9, 20):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(work.glob("shard-*.parquet"))) < wanted:
            time.sleep(0.01)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")


def test_a_second_run_does_nothing(checkpoint, manifest, prepared):
    before = {
        path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file() and path.suffix != ".lock"
    }
    report = prepare(open_source(str(manifest)), prepared, checkpoint, shard_items=4)
    assert report == json.loads((prepared / "report.json").read_text())
    assert before == {
        path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file() and path.suffix != ".lock"
    }


def test_other_settings_into_the_same_folder_are_refused_by_name(checkpoint, manifest, prepared):
    with pytest.raises(ValueError, match=r"other settings \(max_seconds 30.0, not 5.0\): choose another folder"):
        prepare(open_source(str(manifest)), prepared, checkpoint, Limits(max_seconds=5.0), shard_items=4)
    with pytest.raises(ValueError, match="by 'hash', not 'speaker'"):
        prepare(open_source(str(manifest)), prepared, checkpoint, splitting=Splitting(by="speaker"), shard_items=4)
    with pytest.raises(ValueError, match="source '"):
        prepare(open_source(str(manifest), {"text": "speaker"}), prepared, checkpoint, shard_items=4)


@pytest.mark.parametrize("name", ["shard-00000.parquet", "shard-00001.parquet", "problems-00001.json"])
def test_a_damaged_shard_is_named_and_made_again(checkpoint, manifest, prepared, tmp_path, monkeypatch, caplog, name):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("finetune.data.prepare._assemble", lambda *_: None)  # as a run that was killed before
        prepare(open_source(str(manifest)), out, checkpoint, shard_items=4)
    (out / "work" / name).write_bytes((out / "work" / name).read_bytes()[:-1])
    prepare(open_source(str(manifest)), out, checkpoint, shard_items=4)
    assert f"Shard {int(name[-13:].split('.')[0][-5:])} in" in caplog.text and "is made again" in caplog.text
    assert rows_of(out) == rows_of(prepared)


def test_a_damaged_description_is_named(prepared, tmp_path):
    for content in ("{", "[]", '{"source": "only"}'):
        (tmp_path / "prepared.json").write_text(content)
        with pytest.raises(ValueError, match=r"prepared\.json' is damaged"):
            read_info(tmp_path)


def test_two_runs_do_not_write_into_one_folder(checkpoint, manifest, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        filelock.FileLock(tmp_path / "out" / "prepare.lock"),
        pytest.raises(ValueError, match="Another run is preparing"),
    ):
        prepare(open_source(str(manifest)), tmp_path / "out", checkpoint)


# --------------------------------------------------------------------------------------------------------------- splits


def test_splits_by_speaker_share_no_speaker(checkpoint, manifest, tmp_path):
    prepare(open_source(str(manifest)), tmp_path / "out", checkpoint, splitting=Splitting("speaker", 0.2, 0.2))
    speakers = {split: {row["speaker"] for row in rows} for split, rows in rows_of(tmp_path / "out").items()}
    assert all(speakers.values()) and sum(map(len, speakers.values())) == 3


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Train", "training", "train.clean.100", "train-other-500", "train_clean_360", "train960"]),
        ("validation", ["validation", "valid", "val", "dev", "eval", "evaluation", "validation.clean", "dev-other",
        "DEV2"]),
        ("test", ["test", "test.clean", "test_meeting", "test_net", "test-other", "test1"]),
    ],
)  # fmt: skip
def test_splits_of_a_source_are_known_by_how_their_names_begin(split, names):
    assert {name: split_of_source(name) for name in names} == dict.fromkeys(names, split)


@pytest.mark.parametrize("name", ["validated", "other", "heldout", "trainer", "train+test", "train_dev", "", "3"])
def test_a_split_that_may_be_held_out_is_not_guessed_about(name):
    with pytest.raises(ValueError, match=r"does not show whether it is trained on: call it train, validation or test"):
        split_of_source(name)


def test_a_manifest_keeps_its_splits_and_an_unknown_one_is_refused_before_any_row_is_made(checkpoint, tmp_path):
    records = [record | {"split": split} for record,
        split in zip(write_recordings(tmp_path, 4), ("train", "dev", "test_net", None), strict=True)]  # fmt: skip
    good = write_manifest(tmp_path / "good.jsonl", records)
    report = prepare(open_source(str(good)), tmp_path / "out", checkpoint, splitting=Splitting("source"))
    texts = {split: [row["text"][-1] for row in rows] for split, rows in rows_of(tmp_path / "out").items()}
    assert texts == {"train": ["0", "3"], "validation": ["1"], "test": ["2"]}
    assert report["notes"] == ["Records that name no split are in train: 1."]
    bad = write_manifest(tmp_path / "bad.jsonl", [*records, records[0] | {"split": "heldout"}])
    with pytest.raises(ValueError, match="split 'heldout'"):
        prepare(open_source(str(bad)), tmp_path / "bad", checkpoint, splitting=Splitting("source"))
    assert not list((tmp_path / "bad" / "work").glob("shard-*"))


def test_rows_that_say_the_same_words_go_to_the_same_split():
    texts = [f"frase {number % 20}" + ("!" if number % 2 else "") for number in range(200)]
    splits = assign_splits([hash_group(text, str(number)) for number, text in enumerate(texts)], 0.2, 0.2)
    assert len({(text.rstrip("!"), split) for text, split in zip(texts, splits, strict=True)}) == 20
    assert {split: splits.count(split) for split in SPLITS} == {"train": 120, "validation": 40, "test": 40}


def test_splits_do_not_depend_on_the_order_of_rows_but_on_the_seed():
    groups = [f"g{number}" for number in range(300)]
    first = dict(zip(groups, assign_splits(groups, 0.1, 0.1), strict=True))
    assert first == dict(zip(reversed(groups), assign_splits(groups[::-1], 0.1, 0.1), strict=True))
    assert first != dict(zip(groups, assign_splits(groups, 0.1, 0.1, seed=1), strict=True))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["a"] * 5, {"train": 5}),
        (["a"] * 5 + ["b"] * 2, {"train": 5, "test": 2}),
        (["a"] * 50 + ["b"] * 20 + ["c"] * 3, {"train": 50, "test": 3, "validation": 20}),
        ([None] * 4, {"train": 4}),
        ([], {}),
    ],
)
def test_few_large_groups_leave_the_largest_to_train_on(groups, expected):
    splits = assign_splits(groups, 0.05, 0.05)
    assert {split: splits.count(split) for split in SPLITS if split in splits} == expected


# ----------------------------------------------------------------------------------------------------------- word times


def test_word_times_share_out_the_time_without_pauses_by_length():
    waveform = np.concatenate([np.zeros(1600), tone(1.0) + 0.2, np.zeros(3200), tone(1.0) + 0.2, np.zeros(800)]).astype(
        np.float32
    )
    words = proportional_word_times("abcd efgh ij", waveform, RATE)  # 0.8, 0.8 and 0.4 s of the two sounding seconds
    assert [word["word"] for word in words] == ["abcd", "efgh", "ij"]
    assert words[0]["start"] == pytest.approx(0.1, abs=0.011) and words[0]["end"] == pytest.approx(0.9, abs=0.011)
    assert words[1]["end"] == pytest.approx(1.9, abs=0.011), "the pause of 0.2 s is jumped over"
    assert words[2]["end"] == pytest.approx(2.3, abs=0.011)
    assert all(one["end"] == next_one["start"] for one, next_one in itertools.pairwise(words))


def test_aligned_rows_have_the_words_of_their_text(checkpoint, manifest, tmp_path):
    prepare(open_source(str(manifest)), tmp_path / "out", checkpoint, Limits(align="proportional"))
    for row in rows_of(tmp_path / "out")["train"]:
        assert " ".join(word["word"] for word in row["words"]) == row["text"]
        assert 0 <= row["words"][0]["start"] < row["words"][-1]["end"] <= row["seconds"]

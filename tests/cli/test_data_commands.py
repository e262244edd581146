import pytest
from finetune_fixtures import tiny_checkpoint
from prepare_fixtures import write_manifest, write_recordings
from typer.testing import CliRunner

import ttt_cli
from finetune.data.schema import load_prepared, read_info


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def ttt(*arguments):
    return CliRunner().invoke(ttt_cli.app, list(map(str, arguments)))


def test_prepare_writes_a_dataset_and_says_what_it_holds(checkpoint, tmp_path):
    records = [{"audio": record["audio"], "norm": record["text"]} for record in write_recordings(tmp_path, 6)]
    records[2]["audio"] = "missing.wav"
    manifest = write_manifest(tmp_path / "manifest.jsonl", records)
    command = (
        "prepare",
        manifest,
        "--out",
        tmp_path / "out",
        "--model",
        checkpoint,
        "--column",
        "text=norm",
        "--language",
        "it",
    )
    done = ttt(*command, "--speaker", "carla", "--align", "proportional", "--split-by", "hash", "--test", 0.2)
    assert done.exit_code == 0, done.output
    assert "5 of 6 records were prepared." in done.output and "| no audio file | 1 |" in done.output
    row = load_prepared(tmp_path / "out")["train"][0]
    assert (row["language"], row["speaker"]) == ("it", "carla") and row["words"]
    assert read_info(tmp_path / "out").counts["test"] == 1


def test_codec_check_says_its_verdict(checkpoint, tmp_path):
    manifest = write_manifest(tmp_path / "manifest.jsonl", write_recordings(tmp_path, 3))
    done = ttt(
        "codec-check", manifest, "--model", checkpoint, "--judge", "model", "--count", 2, "--out", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    assert "| codes used |" in done.output and "No ceiling could be measured: model" in done.output
    assert (tmp_path / "out" / "codec_check.md").is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [("text", "must be FIELD=NAME"), ("voice=x", "with a field of id, audio"), ("text=", "must be FIELD=NAME")],
)
def test_a_column_that_cannot_be_meant_is_refused(tmp_path, given, message):
    manifest = write_manifest(tmp_path / "manifest.jsonl", write_recordings(tmp_path, 1))
    done = ttt("prepare", manifest, "--out", tmp_path / "out", "--column", given)
    assert isinstance(done.exception, ValueError) and message in str(done.exception)

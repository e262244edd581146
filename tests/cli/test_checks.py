"""What the command line refuses before it imports PyTorch, and what it says when it is interrupted."""

import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from checkout import own_packages
from finetune_fixtures import tiny_recipe
from typer.testing import CliRunner

import finetune.data.prepare
import finetune.training.train
import ttt_cli
from finetune.training.train import training_arguments

# Runs `ttt` and says whether it imported what takes seconds.
SCRIPT = """
import sys
import ttt_cli
try:
    ttt_cli.main()
finally:
    print("heavy" if {"torch", "transformers"} & sys.modules.keys() else "light")
"""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("transcribe missing.wav", "There is no file 'missing.wav'"),
        ("transcribe .", "'.' is a folder"),
        ("talk question.wav", "There is no file 'question.wav'"),
        ("talk --audio a.wav --audio b.wav", "Ask one question"),
        ("talk hello --text hello", "Ask one question"),
        ("talk hello --json --stream", "leave out --stream"),
        ("speak Hello. --out speech.m4a", "use .wav, .flac, .ogg, .mp3"),
        ("speak Hello. --device foo", "There is no device 'foo'"),
        ("speak Hello. --model ./nowhere", "There is no folder './nowhere'"),
        ("speak Hello. --adapter ./nowhere", "There is no folder './nowhere'"),
        ("train low_resource_loar", "There is no recipe 'low_resource_loar'"),
        ("train low_resource_lora --set lerning_rate=1", "did you mean `learning_rate`"),
        ("train low_resource_lora --set model=m --set data=nowhere --set output_dir=o", "no data file 'nowhere'"),
        ("prepare ./nowhere --out o", "There is no file or folder './nowhere'"),
        ("codec-check ./nowhere", "There is no file or folder './nowhere'"),
        ("evaluate ./nowhere --data d", "There is no folder './nowhere'"),
        ("evaluate model --data ./nowhere", "There is no prepared folder './nowhere'"),
        ("publish model ./folder", "'./folder' is no repository of the Hub"),
        ("merge model .", "'.' is not empty"),
        ("convert ./nowhere out", "There is no folder './nowhere'"),
        ("init ./nowhere out", "There is no folder './nowhere'"),
    ],
)
def test_a_bad_argument_is_one_line_before_anything_heavy_is_imported(tmp_path, command, message):
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command.split()],
        cwd=tmp_path,
        env=own_packages(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == "light\n", done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1 and message in done.stderr


def ttt(*arguments):
    return CliRunner().invoke(ttt_cli.app, list(map(str, arguments)))


def test_the_version_is_that_of_the_package():
    done = ttt("--version")
    assert done.exit_code == 0 and done.output == f"text-to-talk {version('text-to-talk')}\n"


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_an_interrupted_run_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune.training.train, "train", interrupt)
    monkeypatch.setattr(finetune.data.prepare, "prepare", interrupt)
    keys = ("--set", "model=m", "--set", f"data={tmp_path}", "--set", "output_dir=runs/x")
    trained = ttt("train", "low_resource_lora", *keys)
    assert trained.exit_code == 130
    assert "Interrupted. The same command goes on from the last checkpoint in runs/x" in trained.output
    (tmp_path / "manifest.jsonl").touch()
    prepared = ttt("prepare", tmp_path / "manifest.jsonl", "--out", tmp_path / "out")
    assert prepared.exit_code == 130 and "The same command goes on where it was stopped" in prepared.output


def test_training_shows_its_progress_however_quiet_transformers_is(tmp_path):
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        arguments = training_arguments(tiny_recipe("model", "data", tmp_path), validates=False, transcribes=False)
    finally:
        logging.set_verbosity(level)
    assert not arguments.disable_tqdm


def test_help_goes_by_both_names_and_no_option_promises_times_that_are_not_known():
    done = ttt("transcribe", "-h")
    assert done.exit_code == 0 and done.output == ttt("transcribe", "--help").output
    assert not re.search("srt|vtt", done.output)

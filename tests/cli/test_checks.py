"""What the command line refuses before it imports PyTorch, and what it says when it is interrupted."""

import gc
import os
import subprocess
import sys
import warnings
from importlib.metadata import version

import pytest
from checkout import own_packages
from finetune_fixtures import tiny_recipe
from typer.testing import CliRunner

import finetune.data.prepare
import finetune.training.train
import ttt_cli
from finetune.training.train import training_arguments
from ttt_cli.checks import as_question
from ttt_cli.main import _quiet
from ttt_cli.talker import _base

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
        ("talk question.txt", "There is no file 'question.txt'"),
        ("talk question.mp4", "There is no file 'question.mp4'"),
        ("talk ./question", "There is no file 'question'"),
        ("talk --text=", "The question is empty"),
        ("talk --audio a.wav --audio b.wav", "Ask one question"),
        ("talk hello --text hello", "Ask one question"),
        ("talk hello --json --stream", "leave out --stream"),
        ("talk a.wav b.wav", "ask several questions in a conversation with `ttt chat`"),
        ("talk what is --stream this", "put a text between quotation marks"),
        ("speak Hello there.", "put a text between quotation marks"),
        ("speak Hello. --speed 0", "Invalid value for '--speed'"),
        ("speak Hello. --speed fast", "See `ttt speak --help`."),
        (f"talk Hello. --seed {2**64}", f"A seed is from {-(2**63)} to"),
        ("talk Hello. --nothing", "No such option: --nothing"),
        ("talk Hello. --dtype float8", "'float8' is not one of"),
        ("evaluate", "Missing argument"),
        ("tlak Hello.", "Did you mean 'talk'? See `ttt --help`."),
        ("speak Hello. --out speech.m4a", "use .wav, .flac, .ogg, .mp3"),
        ("speak Hello. --device foo", "There is no device 'foo'"),
        ("chat Hello. missing.wav", "There is no file 'missing.wav'"),
        ("chat Hello. --out-dir .", "'.' is not empty"),
        ("chat Hello. --url ftp://here", "give the address of a server"),
        ("chat Hello. --url http://here --device cpu", "the server has loaded its model"),
        ("chat Hello. --url 127.0.0.1:9", "There is no realtime server at ws://127.0.0.1:9/v1/realtime"),
        ("chat Hello. --model ./nowhere", "There is no folder './nowhere'"),
        ("speak Hello. --language it", "--language it: nano knows en"),
        ("speak Hello. --model gpt2", "There is no folder 'gpt2', no download of it from the Hub"),
        ("talk Hello. --adapter owner/name", "There is no folder 'owner/name', no download of it from the Hub"),
        ("transcribe file --format srt --json", "--format srt prints one transcript"),
        ("transcribe file other --format vtt", "--format vtt prints one transcript"),
        ("convert owner/name out", "There is no folder 'owner/name', no download of it from the Hub"),
        ("init gpt2 out", "There is no folder 'gpt2', no download of it from the Hub"),
        ("merge base+owner/name out", "There is no folder 'base', no download of it from the Hub"),
        ("prepare owner/name --out o", "There is no folder 'owner/name', no download of it from the Hub"),
        ("speak Hello. --model ./nowhere", "There is no folder './nowhere'"),
        ("speak Hello. --adapter ./nowhere", "There is no folder './nowhere'"),
        ("train low_resource_loar", "There is no recipe 'low_resource_loar'"),
        ("train low_resource_lora --set lerning_rate=1", "did you mean `learning_rate`"),
        ("train low_resource_lora --set model=m --set data=nowhere --set output_dir=o", "no data file 'nowhere'"),
        ("prepare ./nowhere --out o", "There is no file or folder './nowhere'"),
        ("prepare manifest.jsonl --out o", "There is no file or folder 'manifest.jsonl'"),
        ("codec-check ./nowhere", "There is no file or folder './nowhere'"),
        ("evaluate ./nowhere --data d", "There is no folder './nowhere'"),
        ("evaluate model --data ./nowhere", "There is no prepared folder './nowhere'"),
        ("publish model ./folder", "'./folder' is no repository of the Hub"),
        ("publish model", "Say where to: ttt publish model OWNER/NAME uploads, --to FOLDER only writes a folder."),
        ("publish ./nowhere --to new", "There is no folder './nowhere'"),
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


def test_the_limits_of_a_seed_do_not_fill_the_help():
    assert str(2**63) not in ttt("talk", "--help").output


def test_without_arguments_the_commands_are_listed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=own_packages(), capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == "" and "Usage: ttt " in done.stdout and "transcribe" in done.stdout


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_an_interrupted_run_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune.data.prepare, "prepare", interrupt)
    (tmp_path / "manifest.jsonl").touch()
    prepared = ttt("prepare", tmp_path / "manifest.jsonl", "--out", tmp_path / "out")
    assert prepared.exit_code == 130 and "The same command goes on where it was stopped" in prepared.output


def test_an_interrupted_training_says_whether_there_is_a_checkpoint_to_go_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune.training.train, "train", interrupt)
    folder = tmp_path / "run"
    (tmp_path / "stages.yaml").write_text("stages: [{name: rows, method: rows}, {name: all, method: lora}]\n")
    keys = (f"--set=model={tmp_path}", f"--set=data={tmp_path}", f"--set=output_dir={folder}")
    alone, staged = ("train", "voice_lora", *keys), ("train", tmp_path / "stages.yaml", *keys)
    done = ttt(*alone)
    assert done.exit_code == 130
    assert f"begins {folder} again, which has no checkpoint yet: the key `eval_steps`" in done.stderr
    for name in ("checkpoint-9", "checkpoint-10", "rows/checkpoint-4"):
        (folder / name).mkdir(parents=True)
        (folder / name / "whole.json").touch()
    (folder / "checkpoint-20").mkdir()  # was being written
    assert f"The same command goes on from {folder / 'checkpoint-10'}." in ttt(*alone).stderr
    assert f"The same command goes on from {folder / 'rows' / 'checkpoint-4'}." in ttt(*staged).stderr
    (folder / "rows" / "training.json").touch()  # this stage is finished
    assert f"begins {folder / 'all'} again" in ttt(*staged).stderr


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("talk hello", "With --stream, it is written as it comes"),
        ("speak hello", "With --stream, it is written as it comes"),
        ("transcribe file", "The transcripts above are whole"),
        ("convert folder out", "the same command begins again"),
        ("init folder out", "the same command begins again"),
        ("export folder out", "the same command begins again"),
        ("merge folder out", "the same command begins again"),
        ("publish folder owner/name", "The same command uploads again"),
        ("codec-check folder", "The same command begins again"),
        ("prepare folder --out out", "The same command goes on where it was stopped"),
    ],
)
def test_every_command_that_is_interrupted_says_how_to_go_on(tmp_path, monkeypatch, command, advice):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    for module in ("talker", "checkpoints", "data", "training", "edge"):
        monkeypatch.setattr(f"ttt_cli.{module}.check_hub", interrupt)
    done = ttt(*command.split())
    assert done.exit_code == 130 and advice in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (
            "train low_resource_lora --set model=folder --set data=folder --set output_dir=out",
            "The same command begins out again",
        ),
        ("evaluate folder --data folder", "Nothing was measured yet"),
    ],
)
def test_commands_that_are_interrupted_while_pytorch_loads_say_how_to_go_on(tmp_path, monkeypatch, command, advice):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ttt_cli.training.status", interrupt)
    done = ttt(*command.split())
    assert done.exit_code == 130 and advice in done.stderr


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("onnxscript", "edge", "export folder out"),
        ("onnxruntime", "edge", "talk hello --engine onnx --model folder"),
        ("peft", "finetune", "talk hello --adapter folder"),
        ("jiwer", "finetune", "codec-check folder"),
        ("jiwer", "finetune", "evaluate folder --data folder"),
    ],
)
def test_a_missing_extra_is_named_before_anything_heavy_is_imported(tmp_path, module, extra, command):
    (tmp_path / "folder").mkdir()
    hidden = f"import sys\nsys.modules[{module!r}] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", hidden + SCRIPT, *command.split()],
        cwd=tmp_path,
        env=own_packages(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == "light\n", done.stderr
    assert done.stderr == f'Error: This needs {module}, which is not installed: pip install "text-to-talk[{extra}]".\n'


def test_another_speed_names_pyav_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("ttt_cli.talk.load", interrupt)
    assert "pip install av" in str(ttt("speak", "hello", "--speed", "2").exception)


def test_an_adapter_whose_base_is_elsewhere_says_which_option_names_it(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"from 'there/nano'; give its place now by --model"):
        _base("there/nano")
    assert _base(None) is None


def test_a_codec_that_cannot_be_downloaded_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = ttt("convert-codec", "owner", tmp_path / "out")
    assert isinstance(done.exception, FileNotFoundError) and "no folder 'owner/glm-4-voice-to" in str(done.exception)
    assert done.output == ""


def test_names_on_the_hub_are_not_asked_for_where_it_cannot_be_reached(tmp_path):
    """Connections to this machine's port 9 are refused at once; the library would try again for half a minute."""
    environment = {**own_packages(), "HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "*"}
    environment = {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-m", "ttt_cli", "talk", "hello", "--model", "gpt2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and done.stderr.startswith("Error: There is no folder 'gpt2'"), done.stderr


def test_warnings_to_users_are_one_line_and_those_to_libraries_are_not_shown(capsys):
    with warnings.catch_warnings():
        _quiet()
        warnings.warn("the disk is full", stacklevel=1)
        warnings.warn("rename your argument", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning: the disk is full\n"


def test_training_shows_its_progress_however_quiet_transformers_is(tmp_path, monkeypatch):
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    recipe = tiny_recipe("model", "data", tmp_path)
    for watched in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda watched=watched: watched)
        try:
            arguments = training_arguments(recipe, validates=False, transcribes=False)
        finally:
            logging.set_verbosity(level)
        assert arguments.disable_tqdm is not watched, "a bar on a terminal, the points of the curves in a log"


def test_on_a_terminal_downloads_have_a_bar_and_loading_weights_has_none():
    code = """
from ttt_cli.main import _quiet
from ttt_cli.options import show_progress
_quiet()
show_progress()
import huggingface_hub.utils, transformers.utils.logging
print(huggingface_hub.utils.are_progress_bars_disabled(), transformers.utils.logging.is_progress_bar_enabled())
"""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    terminal, stderr = pty.openpty()
    command, environment = [sys.executable, "-c", code], own_packages()
    environment.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr)
    os.close(stderr)
    os.close(terminal)
    assert done.stdout.split() == [b"False", b"False"]


def test_loading_is_not_searched_for_garbage_and_what_comes_later_is(monkeypatch):
    def loading(_):
        searched.append(gc.isenabled())
        raise ValueError("no such device")

    searched: list[bool] = []
    monkeypatch.setattr("ttt_cli.talker.check_device", loading)
    try:
        assert ttt("talk", "hello").exit_code == 1
        assert searched == [False] and gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_help_goes_by_both_names():
    done = ttt("transcribe", "-h")
    assert done.exit_code == 0 and done.output == ttt("transcribe", "--help").output
    assert "srt" in done.output and "--install-completion" in ttt("--help").output


def test_a_text_file_is_no_spoken_question(tmp_path):
    (tmp_path / "story.txt").write_text("Once upon a time.")
    with pytest.raises(ValueError, match="is a text file: ttt speak reads it aloud"):
        as_question(str(tmp_path / "story.txt"))
    assert as_question("What is in story.txt") == "What is in story.txt"


def test_tools_for_mcp_clients_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    done = CliRunner().invoke(ttt_cli.app, ["demo", "--mcp"])
    assert isinstance(done.exception, ImportError) and "pip install 'text-to-talk[demo]'" in str(done.exception)


def test_a_question_may_be_longer_than_a_file_name():
    assert as_question("Why? " * 100) == "Why? " * 100

"""From a folder of audio files to a talking adapter from the Hub, by the commands a user types."""

import csv
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import yaml
from checkout import ROOT
from finetune_fixtures import WORDS, tiny_checkpoint, tiny_recipe
from loopback_hub import LoopbackHub

RATE = 16_000

# One process for all commands: importing torch and transformers each time would take most of the test's time.
PROGRAM = """
import json, sys
import torch
import ttt_cli
from ttt_cli.main import _quiet
torch.set_num_threads(1)
_quiet()
for command in json.loads(sys.argv[1]):
    print(">>>", *command, flush=True)
    ttt_cli.app(command, standalone_mode=False)
"""


def folder_of_recordings(folder: Path, count: int) -> Path:
    """
    Audio files of two speakers with their transcripts, in the form of an `audiofolder`; one file is no audio at all.
    """
    rng = random.Random(0)
    folder.mkdir()
    with (folder / "metadata.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["file_name", "transcription", "language", "speaker"])
        for index in range(count):
            seconds = rng.uniform(0.3, 0.7)
            time = np.arange(round(seconds * RATE)) / RATE
            waveform = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 400) * time) * np.sin(np.pi * time / seconds)
            soundfile.write(folder / f"{index}.wav", waveform.astype(np.float32), RATE)
            lines.writerow(
                [f"{index}.wav", " ".join(rng.choices(WORDS, k=2)) + f" {index}", "it", f"speaker {index % 2}"]
            )
        lines.writerow(["broken.wav", "ciao", "it", "speaker 0"])
    (folder / "broken.wav").write_bytes(b"no audio")
    return folder


def test_a_folder_of_wav_files_becomes_an_adapter_on_the_hub_that_talks(tmp_path):
    folder_of_recordings(tmp_path / "speech", 24)
    base = tiny_checkpoint(tmp_path / "base")
    recipe = tiny_recipe(base, Path("prepared"), Path("run"), max_steps=4, eval_steps=2)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(vars(recipe)))
    question = ["--audio", "speech/0.wav", "--language", "it", "--model", str(base)]
    commands = [
        ["prepare", "speech", "--out", "prepared", "--model", str(base), "--validation", "0.2", "--test", "0.2"],
        ["train", "recipe.yaml", "--set", "learning_rate=2e-2"],
        ["evaluate", f"base={base}", "italian=run", "--data", "prepared", "--data", "prepared:train", "--limit", "3",
        "--out", "measured"],
        ["publish", "run", "you/ttt-it", "--base-model", "you/base", "--results", "measured/results.json", "--label",
        "italian", "--license", "cc0-1.0"],
        ["transcribe", *question, "--adapter", "run"],
        ["transcribe", *question, "--adapter", "you/ttt-it"],
        ["talk", *question, "--adapter", "it=you/ttt-it", "--out", "reply.wav"],
    ]  # fmt: skip
    with LoopbackHub() as hub:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(commands)], cwd=tmp_path, capture_output=True, text=True,
            timeout=600,
            env=hub.environment(tmp_path / "home", PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        files = hub.files("you/ttt-it")
    report = json.loads((tmp_path / "prepared" / "report.json").read_text())
    assert "broken" in json.dumps(report), "a file that is no audio is a line in the report"
    results = json.loads((tmp_path / "measured" / "results.json").read_text())
    assert {(result["model"], Path(result["data"]).name, result["task"]) for result in results} == {
        (model, data, task)
        for model in ("base", "italian")
        for data in ("prepared", "prepared:train")
        for task in ("asr", "tts")
    }
    assert (tmp_path / "measured" / "results.md").read_text().count("| italian |") == 4
    card = files["README.md"].decode()
    assert re.search(r"\| asr, prepared, wer \(n = \d\) \|", card) and "license: cc0-1.0" in card
    replies = dict(re.findall(r"^>>> (.*)\n((?:(?!>>>).*\n)*)", done.stdout, flags=re.MULTILINE))
    from_folder, from_hub = (text for command, text in replies.items() if command.startswith("transcribe"))
    assert from_folder == from_hub, "what comes from the Hub is what was trained"
    assert any(command.startswith("talk") for command in replies)

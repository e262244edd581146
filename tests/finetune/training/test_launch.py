"""`python -m finetune.train`, as `accelerate launch` starts it: errors are one line, before PyTorch is imported."""

import subprocess
import sys

import pytest
from checkout import ROOT, own_packages

from finetune import train as launch
from finetune.training import train as training

KEYS = ["low_resource_lora", "--set", "model=m", "--set", "data=d", "--set", "output_dir=o"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "Error: There is no recipe 'nowhere'"),
        (["low_resource_lora", "--set", "modl=m"], "did you mean `model`"),
        (["low_resource_lora"], "The recipe does not say `model`"),
        (["low_resource_lora", "--sett", "model=m"], "unrecognized arguments: --sett"),
        ([], "the following arguments are required: recipe"),
    ],
)
def test_a_wrong_argument_is_no_traceback_and_takes_no_import(arguments, message):
    script = "import sys, finetune.train as launch\ntry: launch.main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, env=own_packages(), capture_output=True, text=True
    )
    assert done.returncode in (1, 2) and done.stdout == "False\n"
    assert message in done.stderr and "Traceback" not in done.stderr


def test_what_training_refuses_is_one_line(monkeypatch):
    def refuse(recipe):
        raise ValueError("The data changed.")

    monkeypatch.setattr(training, "train", refuse)
    with pytest.raises(SystemExit, match=r"^Error: The data changed\.$"):
        launch.main(KEYS)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "finetune.training.train")
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(SystemExit, match=r"filelock.*text-to-talk\[finetune\]"):
        launch.main(KEYS)

"""`ttt export`, and answers of what it wrote on ONNX Runtime."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import own_packages

from modeling_ttt import nano_checkpoint

NANO = nano_checkpoint()
QUESTION = NANO / "questions" / "1.wav"


def ttt(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `ttt` as a user does."""
    command = [sys.executable, "-m", "ttt_cli", *map(str, arguments)]
    return subprocess.run(command, env=own_packages(), capture_output=True, text=True, timeout=600)


def test_a_checkpoint_that_was_not_exported_is_named_with_the_way_out(tmp_path):
    done = ttt("talk", QUESTION, "--engine", "onnx", "--out", tmp_path / "reply.wav")
    assert done.returncode == 1 and "has no export" in done.stderr and "ttt export" in done.stderr
    done = ttt("talk", QUESTION, "--engine", "onnx", "--adapter", NANO, "--out", tmp_path / "reply.wav")
    assert done.returncode == 1 and "ttt merge" in done.stderr
    done = ttt("export", NANO, tmp_path / "new", "--format", "openvino", "--dtype", "int8")
    assert done.returncode == 1 and "leave it out for --format openvino" in done.stderr
    done = ttt("export", NANO, NANO)
    assert done.returncode == 1 and "not empty" in done.stderr


@pytest.mark.slow
def test_nano_answers_on_onnx_runtime_as_on_pytorch_and_nearly_so_in_int8(tmp_path):
    answers, said = {}, {}
    for name in ("torch", "float32", "int8"):
        options = []
        if name != "torch":
            done = ttt("export", NANO, tmp_path / name, "--dtype", name)
            assert done.returncode == 0, done.stderr
            assert "ttt talk --engine onnx" in done.stdout
            said[name] = done.stdout
            options = ["--model", tmp_path / name, "--engine", "onnx"]
        done = ttt("talk", QUESTION, "--json", "--out", tmp_path / f"{name}.wav", *options)
        assert done.returncode == 0, done.stderr
        answers[name] = json.loads(done.stdout)["text"], (tmp_path / f"{name}.wav").read_bytes()
    assert answers["float32"] == answers["torch"]
    assert answers["int8"][0] == answers["torch"][0]
    assert "100% of the codes are equal" in said["float32"] and "% of the codes are equal" in said["int8"]
    sizes = {name: (tmp_path / name / "onnx" / "codec_encoder.onnx").stat().st_size for name in ("float32", "int8")}
    assert sizes["int8"] < 0.35 * sizes["float32"]
    manifest = json.loads((tmp_path / "int8" / "onnx" / "manifest.json").read_text())
    assert manifest["codec"]["equal_codes"] > 0.8 and manifest["codec"]["max_difference"] < 0.1
    assert manifest["equal_best_ids"] > 0.6 and not list((tmp_path / "int8").glob("*.safetensors"))

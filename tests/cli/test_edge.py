"""`ttt export`, and answers of what it wrote on ONNX Runtime."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkout import own_packages
from transformers import AutoModel

from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from text_to_talk import TttProcessor

pytest.importorskip("onnxscript", reason="the extra `edge` is not installed")
NANO = nano_checkpoint()
QUESTION = NANO / "questions" / "1.wav"
EXPORTERS = ("onnx", "onnx_ir", "onnxscript")  # what writes an export, and nobody needs who runs it


def ttt(*arguments: str | Path, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `ttt` as a user does, who may not have some packages."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({without}))"
    command = [sys.executable, "-c", f"{hidden}; import ttt_cli; ttt_cli.main()", *map(str, arguments)]
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
        options, without = [], ()
        if name != "torch":
            done = ttt("export", NANO, tmp_path / name, "--dtype", name)
            assert done.returncode == 0, done.stderr
            assert "ttt talk --engine onnx" in done.stdout
            said[name] = done.stdout
            options, without = ["--model", tmp_path / name, "--engine", "onnx"], EXPORTERS
        done = ttt("talk", QUESTION, "--json", "--out", tmp_path / f"{name}.wav", *options, without=without)
        assert done.returncode == 0, done.stderr
        answers[name] = json.loads(done.stdout)["text"], (tmp_path / f"{name}.wav").read_bytes()
    assert answers["float32"] == answers["torch"]
    assert answers["int8"][0] == answers["torch"][0]
    assert "100% of the codes are equal" in said["float32"] and "% of the codes are equal" in said["int8"]
    sizes = {name: (tmp_path / name / "onnx" / "codec_encoder.onnx").stat().st_size for name in ("float32", "int8")}
    assert sizes["int8"] < 0.35 * sizes["float32"]
    manifest = json.loads((tmp_path / "int8" / "onnx" / "manifest.json").read_text())
    assert manifest["codec"]["equal_codes"] > 0.8 and manifest["codec"]["max_difference"] < 0.1
    assert not list((tmp_path / "int8").glob("*.safetensors"))
    for name, least in (("float32", 1.0), ("int8", 0.93)):
        equal_text, equal_codes = equal_predictions(tmp_path / name)
        assert equal_text >= least and equal_codes >= least, name


@torch.no_grad()
def equal_predictions(folder: Path) -> tuple[float, float]:
    """Along real replies, the shares of text token ids and of codes for which an export predicts what PyTorch does."""
    processor = TttProcessor.from_pretrained(NANO)
    models = TttForConditionalGeneration.from_pretrained(NANO), AutoModel.from_pretrained(folder, engine="onnx")
    equal: dict[str, list[torch.Tensor]] = {"text": [], "codes": []}
    for number in (1, 3, 5):
        inputs = processor.prepare(processor.messages("chat", audio=NANO / "questions" / f"{number}.wav"))
        prompt_length = inputs["input_ids"].shape[1]
        ids = models[0].generate(**inputs)[0]
        text, spans = (
            torch.stack(both) for both in zip(*(predicted(m, ids, prompt_length) for m in models), strict=True)
        )
        equal["text"].append(text[0] == text[1])
        equal["codes"].append(spans[0] == spans[1])
    shares = {kind: torch.cat(both).float().mean().item() for kind, both in equal.items()}
    return shares["text"], shares["codes"]


def predicted(model, ids: torch.Tensor, prompt_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best id at each text position of a reply, and at each position of its spans, when that span is masked."""
    is_audio = [token_id >= model.config.audio_token_start_id for token_id in ids.tolist()]
    is_text = ~torch.tensor(is_audio)[prompt_length:]
    text = model(ids[None]).logits[0, prompt_length - 1 : -1].argmax(-1)[is_text]
    spans = []
    for begin in (i for i in range(prompt_length, len(ids)) if is_audio[i] and not is_audio[i - 1]):
        end = is_audio.index(False, begin) if False in is_audio[begin:] else len(ids)
        masked = torch.cat([ids[:begin], torch.full((end - begin,), model.config.mask_token_id)])
        spans.append(model(masked[None]).logits[0, begin:].argmax(-1))
    return text, torch.cat(spans)

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


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Nano as `ttt export` writes it, by number format, with what the command says."""
    folder, said = tmp_path_factory.mktemp("exports"), {}
    for dtype in ("float32", "int8"):
        done = ttt("export", NANO, folder / dtype, "--dtype", dtype)
        assert done.returncode == 0, done.stderr
        assert "ttt talk --engine onnx" in done.stdout
        said[dtype] = done.stdout
    return folder, said


def of_command(*arguments: str | Path, engine: str, exports: Path) -> str:
    """What a command of inference prints, by an export if the engine is a number format, without exporters."""
    options = [] if engine == "torch" else ["--model", exports / engine, "--engine", "onnx"]
    done = ttt(*arguments, *options, without=() if engine == "torch" else EXPORTERS)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_nano_answers_on_onnx_runtime_as_on_pytorch_and_nearly_so_in_int8(tmp_path, exports):
    folder, said = exports
    answers = {}
    for name in ("torch", "float32", "int8"):
        out = tmp_path / f"{name}.wav"
        answer = of_command("talk", QUESTION, "--json", "--out", out, engine=name, exports=folder)
        answers[name] = json.loads(answer)["text"], out.read_bytes()
    assert answers["float32"] == answers["torch"]
    assert answers["int8"][0] == answers["torch"][0]
    assert "100% of the codes are equal" in said["float32"] and "% of the codes are equal" in said["int8"]
    sizes = {name: (folder / name / "onnx" / "codec_encoder.onnx").stat().st_size for name in ("float32", "int8")}
    assert sizes["int8"] < 0.35 * sizes["float32"]
    manifest = json.loads((folder / "int8" / "onnx" / "manifest.json").read_text())
    assert manifest["codec"]["equal_codes"] > 0.8 and manifest["codec"]["max_difference"] < 0.1
    assert not list((folder / "int8").glob("*.safetensors"))
    for name, least in (("float32", 1.0), ("int8", 0.93)):
        equal_text, equal_codes = equal_predictions(folder / name)
        assert equal_text >= least and equal_codes >= least, name


@pytest.mark.slow
def test_what_reads_aloud_transcribes_and_serves_gives_the_same_on_onnx_runtime(tmp_path, exports):
    folder, _ = exports
    given = {}
    for name in ("torch", "float32"):
        out = tmp_path / f"{name}.wav"
        of_command("speak", "Seven plus three is ten.", "--out", out, engine=name, exports=folder)
        transcript = of_command("transcribe", QUESTION, engine=name, exports=folder)
        given[name] = transcript, out.read_bytes()
    assert given["float32"] == given["torch"] and given["torch"][0].strip()
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from spaces_demo.app import load_service
    from spaces_demo.service import TalkRequest

    services = load_service(device="cpu"), load_service(str(folder / "float32"), engine="onnx")
    replies = [service.reply(TalkRequest(text="What is two plus three?")) for service in services]
    assert replies[0].text == replies[1].text != ""
    assert (replies[0].audio == replies[1].audio).all()


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

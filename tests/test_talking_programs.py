"""
Nano for OpenVINO and ExecuTorch, as `ttt export` writes it: driven by the decoder of PyTorch, it answers with the same
token ids, and its codec gives the same audio.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from checkout import own_packages
from transformers import AutoConfig, GenerationConfig

from modeling_ttt import TttForConditionalGeneration, nano_checkpoint, onnx_ttt
from processing_ttt.export_codec_program_ttt import run_executorch, run_openvino
from text_to_talk import TttProcessor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # an export takes a busy machine long
NANO = nano_checkpoint()
QUESTION = NANO / "questions" / "1.wav"


class Program(onnx_ttt.OnnxBackbone):
    """A backbone of any runtime; its first forward pass has one cached position, which the mask hides."""

    def __init__(self, config, path):
        torch.nn.Module.__init__(self)
        self.config, self.run = config, runner(path)
        self.vocab_size, self.num_layers = config.vocab_size, config.num_hidden_layers
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.shapes = {name: [config.num_key_value_heads, size] for name in onnx_ttt.STATES}

    def _run(self, inputs, outputs):
        hidden = int(inputs["past_keys.0"].shape[2] == 0)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (hidden, 0))
        states = [inputs[f"past_{name}.{number}"] for number in range(self.num_layers) for name in onnx_ttt.STATES]
        states = [torch.nn.functional.pad(state, (0, 0, hidden, 0)) for state in states]
        logits, *states = self.run([inputs["input_ids"], mask, inputs["position_ids"], *states])
        outputs["logits"].copy_(logits)
        names = [f"present_{name}.{number}" for number in range(self.num_layers) for name in onnx_ttt.STATES]
        for name, state in zip(names, states, strict=True):
            outputs[name].copy_(state[:, :, hidden:])


def runner(path: Path):
    """A function from the inputs of a program to its outputs, in their order."""
    if path.suffix == ".pte":
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")
        return lambda inputs: method.execute([value.contiguous() for value in inputs])
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs):
        results = compiled([value.numpy() for value in inputs])
        return [torch.from_numpy(results[output]) for output in compiled.outputs]

    return run


@pytest.mark.parametrize(
    ("target", "program", "suffix", "run_codec"),
    [("openvino", "openvino_model.xml", ".xml", run_openvino), ("executorch", "model.pte", ".pte", run_executorch)],
)
def test_nano_answers_on_another_runtime_as_on_pytorch(tmp_path, monkeypatch, target, program, suffix, run_codec):
    pytest.importorskip(target, reason=f"the extra `{target}` is not installed")
    command = [sys.executable, "-m", "ttt_cli", "export", NANO, tmp_path / "nano", "--format", target]
    done = subprocess.run(command, env=own_packages(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "100% of the codes are equal" in done.stdout
    folder = tmp_path / "nano" / target
    monkeypatch.setattr(onnx_ttt, "_open_session", lambda path: path)
    monkeypatch.setattr(onnx_ttt, "OnnxBackbone", Program)
    exported = onnx_ttt.TttOnnxForConditionalGeneration(AutoConfig.from_pretrained(tmp_path / "nano"), folder / program)
    exported.generation_config = GenerationConfig.from_pretrained(tmp_path / "nano")
    model, processor = TttForConditionalGeneration.from_pretrained(NANO), TttProcessor.from_pretrained(NANO)
    for question in ({"audio": QUESTION}, {"text": "What is seven plus three?"}):
        inputs = processor.prepare(processor.messages("chat", **question))
        ids = model.generate(**inputs)
        assert torch.equal(exported.eval().generate(**inputs), ids)
        reply = ids[0, inputs["input_ids"].shape[1] :]
        codes = np.array([processor.layout.parse_reply(reply.tolist()).codes])
        expected = processor.decode_reply(reply)
        assert expected.text and codes.size
        audio = run_codec(folder / f"codec_decoder{suffix}", codes)[0]
        np.testing.assert_allclose(audio, expected.audio, atol=1e-3)
    waveform, rate = soundfile.read(QUESTION, dtype="float32")
    assert rate == processor.codec_config.sampling_rate
    samples_per_code = processor.codec.config.samples_per_code
    whole = waveform[None, : len(waveform) // samples_per_code * samples_per_code]
    expected = processor.codec.encode(torch.from_numpy(whole)[None]).audio_codes[0]
    codes = torch.from_numpy(run_codec(folder / f"codec_encoder{suffix}", whole))
    assert (codes == expected).float().mean() >= 0.99

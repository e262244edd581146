"""An export on a Hub: uploaded whole by `push_to_hub`, and loaded from there over HTTP, by a process of its own."""

import json
import subprocess
import sys

import pytest
from checkout import ROOT
from loopback_hub import LoopbackHub
from streaming_fixtures import tiny_talker

from text_to_talk import export

pytest.importorskip("onnxscript", reason="the extra `edge` is not installed")
PROGRAM = """
import json, sys
import torch
from transformers import AutoModel
from text_to_talk import TttTalker

torch.set_num_threads(1)
folder = sys.argv[1]
AutoModel.from_pretrained(folder, engine="onnx").push_to_hub("name/export")
talkers = [TttTalker.from_pretrained(name, engine="onnx") for name in (folder, "name/export")]
replies = [talker.reply(text="Hello there", task="text", max_new_tokens=20) for talker in talkers]
talkers[1].model.save_pretrained("saved")
TttTalker.from_pretrained("saved", engine="onnx")
print("RESULT" + json.dumps([reply.text for reply in replies]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `ttt export` writes, with a codec's graph of a few bytes, which the talker does not run."""
    folder, talker = tmp_path_factory.mktemp("export"), tiny_talker()

    def export_codec(codec, folder, *_):
        (folder / "codec_decoder.onnx").write_text("graph")
        return {"sha256": {"codec_decoder.onnx": export.file_sha256(folder / "codec_decoder.onnx")}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_codec", export_codec)
        export.export_checkpoint(talker.model, talker.processor, folder)
    return folder


def test_an_export_is_uploaded_whole_with_a_card_and_answers_from_the_hub(folder, tmp_path):
    with LoopbackHub(token="hf_loopback") as hub:
        environment = hub.environment(tmp_path, PYTHONPATH=str(ROOT))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, folder], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        files = hub.files("name/export")
    replies = json.loads(done.stdout.partition("RESULT")[2])
    assert replies[0] == replies[1] != ""
    written = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*") if path.suffix != ".py"}
    assert [name for name, path in written.items() if files[name] != path.read_bytes()] == []
    assert not any(name.endswith((".bin", "model.safetensors")) for name in files if "/" not in name)
    card = files["README.md"].decode()
    assert 'TttTalker.from_pretrained("name/export", engine="onnx")' in card and "trust_remote_code" not in card

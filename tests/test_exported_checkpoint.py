"""
A checkpoint as one folder for another runtime: what is in it, and what is refused before the work. The graphs
themselves are compared by the tests of each package, and as a whole by those of `ttt export`.
"""

import hashlib
import json
from types import SimpleNamespace

import pytest
from codec_fixtures import whisper_codec
from modeling_fixtures import tiny_model

from processing_ttt import TttCodecConfig, TttCodecModel
from text_to_talk import export


class Processor(SimpleNamespace):
    """What is asked of a processor."""

    def save_pretrained(self, folder):
        (folder / "processor_config.json").write_text("{}")


@pytest.fixture(autouse=True)
def exports(monkeypatch):
    """Exports that write a manifest and a name."""

    def export_onnx(model, output, dtype):
        manifest = {"dtype": dtype}
        (output / "onnx").mkdir()
        (output / "onnx" / "manifest.json").write_text(json.dumps(manifest))
        return manifest

    def export_program(model, output, target):
        manifest = {"format": target}
        (output / target).mkdir()
        (output / target / "manifest.json").write_text(json.dumps(manifest))
        return manifest

    def export_codec(codec, folder, dtype, target):
        (folder / f"codec.{target}").touch()
        return {"dtype": dtype}

    monkeypatch.setattr(export, "export_onnx", export_onnx)
    monkeypatch.setattr(export, "export_program", export_program)
    monkeypatch.setattr(export, "export_codec", export_codec)


@pytest.mark.parametrize("is_nanos", [True, False])
def test_only_a_codec_of_nanos_kind_is_exported_beside_the_model(tmp_path, is_nanos):
    codec = whisper_codec() if is_nanos else SimpleNamespace()
    manifest = export.export_checkpoint(tiny_model(), Processor(codec=codec), tmp_path, "int8")
    files = {"processor_config.json": hashlib.sha256(b"{}").hexdigest()}
    assert manifest == {"dtype": "int8", "files": files} | ({"codec": {"dtype": "int8"}} if is_nanos else {})
    assert json.loads((tmp_path / "onnx" / "manifest.json").read_text()) == manifest
    assert (tmp_path / "onnx" / "codec.onnx").exists() == is_nanos
    beside = {"config.json", "generation_config.json", "processor_config.json"}
    assert beside <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("target", ["openvino", "executorch"])
def test_another_runtime_has_a_folder_of_its_name_and_float32(tmp_path, target):
    processor = Processor(codec=whisper_codec())
    with pytest.raises(ValueError, match=f"int8 is for ONNX Runtime: the export for {target} is in float32"):
        export.export_checkpoint(tiny_model(), processor, tmp_path, "int8", target)
    manifest = export.export_checkpoint(tiny_model(), processor, tmp_path, target=target)
    files = {"processor_config.json": hashlib.sha256(b"{}").hexdigest()}
    assert manifest == {"format": target, "codec": {"dtype": "float32"}, "files": files}
    assert {path.name for path in (tmp_path / target).iterdir()} == {"manifest.json", f"codec.{target}"}


@pytest.mark.parametrize("target", ["openvino", "executorch"])
def test_a_codec_that_the_runtime_cannot_have_is_refused_before_the_model_is_exported(tmp_path, target):
    processor = Processor(codec=TttCodecModel(TttCodecConfig()))
    with pytest.raises(ValueError, match="for ONNX Runtime only"):
        export.export_checkpoint(tiny_model(), processor, tmp_path, target=target)
    assert not list(tmp_path.iterdir())


def test_who_waits_is_told_what_is_exported(tmp_path):
    told = []
    export.export_checkpoint(tiny_model(), Processor(codec=whisper_codec()), tmp_path, report=told.append)
    assert told == ["the model", "the codec"]


def test_a_checkpoint_without_its_codec_is_refused_before_the_export(tmp_path):
    class WithoutCodec(Processor):
        @property
        def codec(self):
            raise ValueError("no codec")

    with pytest.raises(ValueError, match="no codec"):
        export.export_checkpoint(tiny_model(), WithoutCodec(), tmp_path)
    assert not list(tmp_path.iterdir())

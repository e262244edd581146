"""
An export some of whose files are damaged, or those of another checkpoint of equal sizes, which would give noise or
other words: it is refused. The graphs here are a few bytes each, which ONNX Runtime cannot read.
"""

import json
import shutil
from pathlib import Path

import pytest
from streaming_fixtures import tiny_talker

from modeling_ttt.export_manifest_ttt import file_sha256
from processing_ttt import TttTalker
from spaces_demo.web.site import write_model
from text_to_talk import export

GRAPHS = {"sha256": ("model.onnx", "model.onnx.data"), "codec": ("codec_decoder.onnx", "codec_encoder.onnx")}
NOT_THE_FILE = r"^{} is not the file that the export's manifest names, .*of another export: export again with `ttt ex"
pytest.importorskip("onnxruntime", reason="the extra `edge` is not installed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What `ttt export` writes."""

    def written(folder: Path, part: str) -> dict[str, str]:
        folder.mkdir(exist_ok=True)
        for name in GRAPHS[part]:
            (folder / name).write_text(f"the graph {name}")
        return {name: file_sha256(folder / name) for name in GRAPHS[part]}

    def export_onnx(model, output, dtype):
        return {"model": {"vocab_size": model.config.vocab_size}, "sha256": written(output / "onnx", "sha256")}

    folder, talker = tmp_path_factory.mktemp("export"), tiny_talker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_onnx", export_onnx)
        patch.setattr(export, "export_codec", lambda codec, folder, *_: {"sha256": written(folder, "codec")})
        export.export_checkpoint(talker.model, talker.processor, folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "export")


def change(path: Path) -> None:
    """Give a file other content of the same size."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def refused(folder: Path, match: str) -> None:
    """Refused by the talker, and by the page in a browser."""
    with pytest.raises(ValueError, match=match):
        TttTalker.from_pretrained(folder, engine="onnx")
    with pytest.raises(ValueError, match=match):
        write_model(folder, folder / "page")


def test_a_whole_export_is_taken_also_with_other_options_of_decoding(folder):
    options = folder / "generation_config.json"
    options.write_text(json.dumps(json.loads(options.read_text()) | {"max_new_tokens": 7}))
    with pytest.raises(ValueError, match=r"ONNX Runtime .* cannot read"):
        TttTalker.from_pretrained(folder, engine="onnx")


@pytest.mark.parametrize(
    "name",
    [
        *(f"onnx/{name}" for names in GRAPHS.values() for name in names),
        *("codec/config.json", "codec/model.safetensors", "processor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    ],
)
def test_a_file_of_another_export_is_refused_and_a_missing_one(folder, name):
    change(folder / name)
    refused(folder, NOT_THE_FILE.format(name))
    (folder / name).unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=NOT_THE_FILE.format(name) + "|has no export"):
        TttTalker.from_pretrained(folder, engine="onnx")


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model.onnx.data"])
def test_a_graph_that_the_manifest_does_not_name_is_refused(folder, name):
    manifest = folder / "onnx" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["sha256"][Path(name).name]
    manifest.write_text(json.dumps(content))
    refused(folder, NOT_THE_FILE.format(name))


@pytest.mark.parametrize(
    ("part", "name"), [("sha256", "../../outside"), ("files", "../outside"), ("files", "/outside")]
)
def test_a_manifest_that_leads_out_of_the_folder_is_refused(folder, part, name):
    """Saving and publishing copy what the manifest names."""
    manifest = folder / "onnx" / "manifest.json"
    content = json.loads(manifest.read_text())
    content[part][name] = "0"
    manifest.write_text(json.dumps(content))
    refused(folder, "is not the manifest of an export: export again")

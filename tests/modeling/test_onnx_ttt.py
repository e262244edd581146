"""The engine on ONNX Runtime: the token ids of the PyTorch model, id for id, however a reply is decoded."""

import json
import sys
from collections import Counter

import pytest
import torch
from modeling_fixtures import BEGIN, FIRST_WORD, MASK, PAD, OpensSpansOften, tiny_model
from transformers import AutoModel
from transformers.generation import LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from modeling_ttt import TttForConditionalGeneration, export_onnx_ttt
from modeling_ttt.export_inputs_ttt import compare
from modeling_ttt.export_manifest_ttt import file_sha256
from modeling_ttt.export_onnx_ttt import export_onnx
from modeling_ttt.onnx_ttt import PresentLayer, TttOnnxForConditionalGeneration

onnx = pytest.importorskip("onnx", reason="the extra `edge` is not installed")
onnx_ir = pytest.importorskip("onnx_ir", reason="the extra `edge` is not installed")
PROMPTS = torch.tensor(
    [[FIRST_WORD, FIRST_WORD + 1, FIRST_WORD + 4, BEGIN], [PAD, PAD, FIRST_WORD + 2, FIRST_WORD + 3]]
)
OPTIONS = {"max_new_tokens": 40, "block_length": 6, "denoising_steps": 3, "max_span_length": 14}


@pytest.fixture(scope="module")
def model() -> TttForConditionalGeneration:
    return tiny_model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    manifest = export_onnx(model, folder)
    assert manifest["max_difference"] < 1e-4 and manifest["equal_best_ids"] == 1
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    return AutoModel.from_pretrained(folder, engine="onnx")


def generated(model, prompts=PROMPTS, **options):
    options.setdefault("generator", torch.Generator().manual_seed(0))
    return model.generate(
        prompts,
        attention_mask=(prompts != PAD).long(),
        logits_processor=LogitsProcessorList([OpensSpansOften()]),
        **OPTIONS | options,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"do_sample": True, "audio_temperature": 1.0},
        {"first_block_length": 2, "block_early_stop": True},
        {"confidence_threshold": 0.3},
        {"remasking": "calibrated"},
        {"audio_guidance_scale": 0.5},
        {"num_return_sequences": 2, "do_sample": True},
    ],
    ids=str,
)
def test_the_ids_are_those_of_the_pytorch_model(model, engine, options):
    expected = generated(model, **options)
    assert torch.equal(generated(engine, **options), expected)
    assert (expected[:, PROMPTS.shape[1] :] >= MASK - 20).any()  # spans among them


def test_one_sequence_streams_the_same_ids(model, engine):
    class Collected(BaseStreamer):
        def __init__(self, stops_after=10**9):
            self.ids, self.stops_after, self.is_cancelled = [], stops_after, False

        def put(self, value):
            self.ids += value.flatten().tolist()
            self.is_cancelled = len(self.ids) >= self.stops_after

        def end(self):
            pass

    for stops_after in (10**9, 9):
        streams = [Collected(stops_after) for _ in range(2)]
        ids = [
            generated(one, PROMPTS[:1], streamer=stream) for one, stream in zip((model, engine), streams, strict=True)
        ]
        assert torch.equal(*ids)
        assert streams[0].ids == streams[1].ids


def test_a_conversation_goes_on_over_the_cache_of_its_turns(model, engine):
    first = {one: generated(one, PROMPTS[:1], return_dict_in_generate=True) for one in (model, engine)}
    question = torch.cat([first[model].sequences, torch.tensor([[FIRST_WORD, FIRST_WORD + 5]])], dim=1)
    for batch in (1, 2):
        second = {}
        for one, output in first.items():
            cache = output.cache
            if batch == 2:
                cache.batch_repeat_interleave(2)
            second[one] = generated(
                one, question.expand(batch, -1), cache=cache, return_dict_in_generate=True
            ).sequences
            first[one] = generated(one, PROMPTS[:1], return_dict_in_generate=True)
        assert torch.equal(second[model], second[engine])
    assert all(isinstance(layer, PresentLayer) for layer in first[engine].cache.layers)


def test_a_prompt_in_pieces_is_the_prompt_at_once(model, engine):
    cache = None
    for length in (1, 3):
        cache = engine.prefill(PROMPTS[:1, :length], cache)
    assert torch.equal(generated(engine, PROMPTS[:1], cache=cache), generated(model, PROMPTS[:1]))


def test_it_scores_as_the_model_does_without_a_cache_and_with_one_of_pytorch(model, engine):
    numbers = compare(model, engine)
    assert numbers["max_difference"] < 1e-4 and numbers["equal_best_ids"] == 1
    ids = PROMPTS[:1]
    torch.testing.assert_close(engine(ids).logits, model(ids).logits.detach(), rtol=0, atol=1e-4)


def test_threads_do_not_spin_between_forwards(engine):
    """They would take the cores from PyTorch's: two threads took half as long again as one."""
    options = engine.model.session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == torch.get_num_threads()


def test_the_graph_has_few_operations(model, folder):
    operations = Counter(node.op_type for node in onnx.load(folder / "onnx" / "model.onnx").graph.node)
    layers = model.config.text_config.num_hidden_layers
    assert operations["Attention"] == layers and not operations["Expand"]
    assert operations["MatMul"] == 4 * layers + 1  # queries, keys and values; output; gate and up; down; and the logits
    assert operations["RMSNormalization"] == operations["RotaryEmbedding"] + 1 == 2 * layers + 1


def test_a_wrong_graph_is_refused_after_the_export(model, tmp_path, monkeypatch):
    compared = {"max_difference": 0.5, "equal_best_ids": 0.9}
    empty = onnx_ir.Model(onnx_ir.Graph([], [], nodes=[], opset_imports={"": 20}), ir_version=10)
    for name, replacement in {
        "_graph": lambda *_: empty,
        "_save": lambda _, path: [path.with_name(file).touch() for file in ("model.onnx", "model.onnx.data")],
        "TttOnnxForConditionalGeneration": lambda *_: None,
        "compare": lambda *_: compared,
    }.items():
        monkeypatch.setattr(export_onnx_ttt, name, replacement)
    with pytest.raises(RuntimeError, match=r"differ by 0\.5"):
        export_onnx(model, tmp_path)
    assert not (tmp_path / "onnx" / "manifest.json").exists()


def test_activations_are_rounded_but_not_before_the_down_projections(model, tmp_path):
    export_onnx(model, tmp_path, "int8")
    graph = onnx.load(tmp_path / "onnx" / "model.onnx").graph
    integers = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    stored = {tensor.name: list(tensor.dims) for tensor in integers if len(tensor.dims) == 2}
    backbone = model.config.text_config
    down = [name for name, shape in stored.items() if shape == [backbone.intermediate_size, backbone.hidden_size]]
    operations = {node.input[0]: node.op_type for node in graph.node} | {
        node.input[1]: node.op_type for node in graph.node if node.op_type == "MatMulInteger"
    }
    assert len(down) == backbone.num_hidden_layers and {operations[name] for name in down} == {"Cast"}
    assert {operations[name] for name in stored if name not in down} == {"MatMulInteger"}


def test_what_cannot_be_exported_is_refused_before_the_work(model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="windows"):
        export_onnx(tiny_model("mistral", text_config={"sliding_window": 6}), tmp_path)
    with pytest.raises(ValueError, match="must be one of"):
        export_onnx(model, tmp_path, "float8")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"needs onnxruntime, .*text-to-talk\[edge\]"):
        export_onnx(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_exports_are_refused(engine, folder, tmp_path):
    with pytest.raises(ValueError, match="compiles nothing"):
        generated(engine, cache_implementation="static")
    with pytest.raises(ValueError, match='"torch" or "onnx"'):
        TttForConditionalGeneration.from_pretrained(folder, engine="tensorrt")
    engine.config.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no export"):
        AutoModel.from_pretrained(tmp_path, engine="onnx")
    (tmp_path / "onnx").mkdir()
    for name in ("manifest.json", "model.onnx", "model.onnx.data"):
        (tmp_path / "onnx" / name).write_bytes((folder / "onnx" / name).read_bytes())
    manifest = tmp_path / "onnx" / "manifest.json"
    whole = json.loads(manifest.read_text())
    for text, message in (
        ("[]", "not the manifest"),
        ("{", "not the manifest"),
        (json.dumps(whole | {"model": 5}), "not the manifest"),
        (json.dumps(whole | {"model": whole["model"] | {"vocab_size": 9}}), "vocab_size 9"),
    ):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=message):
            AutoModel.from_pretrained(tmp_path, engine="onnx")
    graph = tmp_path / "onnx" / "model.onnx"
    graph.write_bytes(b"\x08\x0a" + b"x" * 100)
    manifest.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match="it is damaged"):
        AutoModel.from_pretrained(tmp_path, engine="onnx")
    later = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)
    later.opset_import[0].version = 99
    for content in (graph.read_bytes(), later.SerializeToString()):
        graph.write_bytes(content)
        manifest.write_text(json.dumps(whole | {"sha256": whole["sha256"] | {"model.onnx": file_sha256(graph)}}))
        with pytest.raises(ValueError, match=r"cannot read .*export it again with `ttt export`, or update onnxruntime"):
            AutoModel.from_pretrained(tmp_path, engine="onnx")
    graph.write_bytes((folder / "onnx" / "model.onnx").read_bytes())
    manifest.write_text(json.dumps(whole))
    with pytest.raises(FileNotFoundError, match=r"no generation_config\.json"):
        AutoModel.from_pretrained(tmp_path, engine="onnx")
    (tmp_path / "onnx" / "model.onnx.data").unlink()
    with pytest.raises(FileNotFoundError, match="has no export"):
        AutoModel.from_pretrained(tmp_path, engine="onnx")


def test_a_graph_without_its_export_is_not_saved_as_a_checkpoint_without_weights(model, folder, tmp_path):
    with pytest.raises(ValueError, match="of a graph alone"):
        TttOnnxForConditionalGeneration(model.config, folder / "onnx" / "model.onnx").save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_engine_without_its_extra_names_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install \"text-to-talk\[edge\]\""):
        AutoModel.from_pretrained(folder, engine="onnx")

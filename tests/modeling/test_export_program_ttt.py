"""A model for OpenVINO and ExecuTorch: the logits of PyTorch, with and without cached positions."""

import json
import sys

import pytest
import torch
from modeling_fixtures import tiny_model
from transformers.cache_utils import DynamicCache
from transformers.exporters import DynamoConfig, DynamoExporter

from modeling_ttt import export_program_ttt
from modeling_ttt.export_inputs_ttt import PACKAGES, check_exportable, compare, example_inputs
from modeling_ttt.export_program_ttt import export_program
from modeling_ttt.masking_ttt import CACHE_NAME


@pytest.mark.slow
@pytest.mark.parametrize("target", ["openvino", "executorch"])
def test_a_program_gives_the_logits_of_the_model(tmp_path, target):
    pytest.importorskip(target, reason=f"the extra `{target}` is not installed")
    manifest = export_program(tiny_model(), tmp_path, target)
    assert manifest["max_difference"] < 1e-4 and manifest["equal_best_ids"] == 1.0
    assert json.loads((tmp_path / target / "manifest.json").read_text()) == manifest
    assert {*manifest["sha256"], "manifest.json"} == {path.name for path in (tmp_path / target).iterdir()}


@pytest.mark.parametrize("difference", [0.1, float("nan")])
def test_a_program_that_differs_is_not_kept(tmp_path, monkeypatch, difference):
    class Exported:
        def save_pretrained(self, folder):
            for name in ("openvino_model.xml", "openvino_model.bin", "config.json"):
                (folder / name).touch()

    monkeypatch.setitem(PACKAGES, "openvino", ("openvino", ()))  # which is not needed here, nor always installed
    monkeypatch.setattr(export_program_ttt, "_exported", lambda *_: Exported())
    monkeypatch.setattr(export_program_ttt, "compare", lambda *_: {"max_difference": difference, "equal_best_ids": 1.0})
    with pytest.raises(RuntimeError, match=rf"differ by {difference} .*torch or openvino"):
        export_program(tiny_model(), tmp_path, "openvino")
    assert not (tmp_path / "openvino" / "manifest.json").exists()


def test_unknown_targets_and_missing_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="openvino, executorch, got 'coreml'"):
        export_program(tiny_model(), tmp_path, "coreml")
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(ImportError, match=r"needs executorch, .*pip install \"text-to-talk\[executorch\]\""):
        export_program(tiny_model(), tmp_path, "executorch")
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_an_ordinary_mask_holds_for_any_cached_length_in_what_transformers_exports():
    model = tiny_model()

    def inputs(*lengths):
        mask = torch.ones(2, sum(lengths), dtype=torch.long)
        return example_inputs(model, *lengths) | {"attention_mask": mask}

    exported = DynamoExporter().export(model, inputs(9, 6), config=DynamoConfig(dynamic=True))
    for lengths in ((9, 6), (15, 4), (2, 8)):
        torch.testing.assert_close(exported(**inputs(*lengths)).logits, model(**inputs(*lengths)).logits)


@pytest.mark.parametrize("target", PACKAGES)
def test_windows_and_other_devices_are_refused_for_every_runtime(target):
    with pytest.raises(ValueError, match="attends in windows"):
        check_exportable(tiny_model("mistral", text_config={"sliding_window": 6}), target)
    with pytest.raises(ValueError, match=r"is on meta: `model\.to\(\"cpu\"\)` moves it"):
        check_exportable(tiny_model().to("meta"), target)


def test_the_comparison_sees_a_wrong_cache_and_a_wrong_mask():
    model = tiny_model()
    assert compare(model, model) == {"max_difference": 0.0, "equal_best_ids": 1.0}

    def seeing_all(**inputs):
        return model(**inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])})

    def without_cache(**inputs):
        sees = inputs["attention_mask"][..., -inputs["input_ids"].shape[1] :]
        return model(**inputs | {CACHE_NAME: DynamicCache(), "attention_mask": sees})

    for wrong in (seeing_all, without_cache):
        assert compare(model, wrong)["max_difference"] > 0.01

"""What a user reads where an optional dependency is missing: one sentence, with what to install."""

import re
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import yaml
from checkout import ROOT
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe

import ttt_cli
from ttt_cli.extras import MODULES, way_out

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("extras") / "base")


@pytest.fixture
def without(monkeypatch):
    """
    Hide a module: importing it fails as if it were not installed, also for our modules that had imported it already.
    """

    def ours() -> dict:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "finetune"}

    def hide(name: str) -> None:
        for loaded in [*before, *(loaded for loaded in sys.modules if loaded.startswith("torch.utils.tensorboard"))]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)

    before = ours()
    yield hide
    for loaded in ours():  # imported while it was hidden: their classes are not those of the other tests
        del sys.modules[loaded]
    sys.modules.update(before)


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("datasets", "finetune", "prepare {data} --out {out}"),
        ("jiwer", "finetune", "codec-check {data}"),
        ("jiwer", "finetune", "evaluate {base} --data {data} --out {out}"),
        ("peft", "finetune", "train {recipe}"),
        ("tensorboard", "finetune", "train {recipe} --set report_to=tensorboard"),
        ("bitsandbytes", "quantized", "train {recipe} --set method=qlora"),
        ("peft", "finetune", "talk --text hello --adapter {data} --out {out}.wav"),
    ],
)
def test_a_missing_extra_is_one_sentence_that_names_it(
    module, extra, command, base, without, monkeypatch, capsys, tmp_path
):
    data = tiny_data(tmp_path / "data", 2, 1, 1)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(vars(tiny_recipe(base, data, tmp_path / "run", max_steps=1))))
    names = {"base": base, "data": data, "out": tmp_path / "out", "recipe": tmp_path / "recipe.yaml"}
    monkeypatch.setattr(sys, "argv", ["ttt", *command.format(**names).split()])
    without(module)
    with pytest.raises(SystemExit) as end:
        ttt_cli.main()
    assert end.value.code == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f'Error: This needs {module}, which is not installed: pip install "text-to-talk[{extra}]".'


def test_what_a_library_misses_is_found_behind_its_own_error():
    """
    transformers says "Could not import module", from the error that names it; metadata that is missing names the
    package.
    """
    try:
        try:
            raise ModuleNotFoundError("No module named 'peft.tuners'", name="peft.tuners")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Could not import module 'Trainer'.") from error
    except ModuleNotFoundError as error:
        assert "peft" in way_out(error) and "text-to-talk[finetune]" in way_out(error)
    assert "text-to-talk[quantized]" in way_out(PackageNotFoundError("bitsandbytes"))


def test_other_errors_keep_their_words():
    assert way_out(ImportError("cannot import name 'x'")) == "cannot import name 'x'"
    assert way_out(ModuleNotFoundError("No module named 'wandb'", name="wandb")) == "No module named 'wandb'"
    own = ImportError("The demo needs Gradio: pip install 'text-to-talk[demo]'.")
    own.__context__ = ModuleNotFoundError("No module named 'gradio'", name="gradio")
    assert way_out(own) == str(own)


@pytest.mark.skipif(tomllib is None, reason="tomllib came with Python 3.11")
def test_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]
    assert set(MODULES) == set(declared) - {"dev"}
    for extra, modules in MODULES.items():
        names, core = (
            {re.match(r"[A-Za-z0-9_.-]+", line)[0].replace("-", "_") for line in lines}
            for lines in (declared[extra], project["dependencies"])
        )
        assert set(modules) == names - core - {"text_to_talk"}, extra

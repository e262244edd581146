import typing
from pathlib import Path

import pytest

from finetune.training.recipe import OBJECTIVES, SHIPPED, Recipe, override, read_recipe
from modeling_ttt import configuration_ttt
from ttt_cli.training import train as train_command


def test_a_file_is_overridden_by_assignments_and_values_take_the_type_of_their_key(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("learning_rate: 2e-4\nmethod: full\nnum_train_epochs: 2\ntasks: [asr, tts]\n")
    recipe = read_recipe(path, ["learning_rate=1e-5", "packing=false", "lora_r=8"])
    assert (recipe.learning_rate, recipe.packing, recipe.lora_r) == (1e-5, False, 8)
    assert (recipe.method, recipe.num_train_epochs, recipe.tasks) == ("full", 2.0, "asr,tts")
    assert read_recipe(None) == Recipe()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rte", 1, "did you mean `learning_rate`"),
        ("lr", 1, "no key `lr`: did you mean `learning_rate`"),
        ("save_steps", 1, "no key `save_steps`: a checkpoint is written at each validation, every `eval_steps`"),
        ("save_strategy", "steps", "every `eval_steps` updates"),
        ("learning_rate", "fast", "type float and finite, but is 'fast'"),
        ("lora_r", 2.5, "type int, but is 2.5"),
        ("packing", "yes please", "type bool"),
        ("max_steps", True, "type int"),
        ("max_steps", float("inf"), "type int, but is inf"),
        ("max_steps", float("nan"), "type int, but is nan"),
        ("learning_rate", float("nan"), "type float and finite, but is nan"),
        ("num_train_epochs", float("inf"), "type float and finite, but is inf"),
        ("method", "loraa", "one of lora, qlora, rows, full"),
        ("clean_audio_prob", 1.5, "from 0 to 1"),
        ("gradient_accumulation_steps", 0, "at least 1"),
        ("save_total_limit", 1, "at least 2"),
        ("learning_rate", 0, "must be positive"),
        ("stages", "two", "is a list"),
        ("seed", -1, "`seed` must be from 0 to 4294967295"),
        ("seed", 2**64, "`seed` must be from 0 to 4294967295"),
        ("lora_r", 10**9, "`lora_r` must be from 0 to 4096"),
        ("dataloader_num_workers", 10**6, "`dataloader_num_workers` must be from 0 to 1024"),
        (3, 1, "keys are words, but one is 3"),
    ],
)
def test_what_a_recipe_cannot_mean_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        override(Recipe(), {key: value})


def test_a_file_that_is_no_recipe_and_an_assignment_without_a_value_are_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("- learning_rate\n")
    with pytest.raises(ValueError, match="is not a recipe"):
        read_recipe(path)
    with pytest.raises(ValueError, match="key=value"):
        read_recipe(None, ["learning_rate"])
    with pytest.raises(ValueError, match="--set model="):
        read_recipe(None).require("model")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("model: [", r"recipe\.yaml' is no valid YAML \(line 1, column 9: "),
        ("model: a\ndata: d\nmodel: b", r"no valid YAML \(line 3, column 1: the key `model` comes twice\)"),
        ("a: b: c", r"no valid YAML \(line 1, column 5: mapping values are not allowed here\)"),
        ("x: !!python/object/apply:os.getcwd []", "no valid YAML .*could not determine a constructor"),
        ("\x00", "no valid YAML"),
        ("[" * 5000, "no valid YAML"),
        ("stages: 3", "`stages` is a list, but is 3"),
        ("stages: [3]", "A stage is lines of `key: value`, but one is 3"),
        ("3: 4", "keys are words"),
        ("- model", "not a recipe"),
    ],
)
def test_a_slip_in_a_recipe_is_one_sentence(tmp_path, written, message):
    (tmp_path / "recipe.yaml").write_text(written)
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("key", ["packing", "tasks", "stages"])
def test_a_value_that_repeats_itself_a_billion_times_is_shown_short(tmp_path, key):
    levels = ["&a0 [x, x]", *(f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))]
    (tmp_path / "recipe.yaml").write_text(f"{key}: [{', '.join(levels)}]")
    with pytest.raises(ValueError) as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert len(str(caught.value)) < 2000


def test_a_slip_in_an_assignment_is_one_sentence():
    with pytest.raises(ValueError, match=r"--set model=\[ is no valid YAML"):
        read_recipe(None, ["model=["])


def test_the_command_line_names_every_shipped_recipe():
    hints = typing.get_type_hints(train_command, include_extras=True)["recipe"]
    named = hints.__metadata__[0].help.partition(": ")[2].rstrip(".").split(", ")
    assert sorted(named) == sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def test_a_shipped_recipe_goes_by_its_name():
    assert read_recipe(Path("voice_lora")).tasks == "tts"
    with pytest.raises(
        FileNotFoundError,
        match="shipped are from_llm, full_sft, low_resource_lora, nano, nano_lora_cpu, voice",
    ):
        read_recipe(Path("voice_laro"))


def test_stages_are_the_recipe_with_their_own_keys_each_in_its_own_folder():
    recipe = override(
        Recipe(),
        {
            "output_dir": "out",
            "learning_rate": 1,
            "stages": [{"name": "rows", "method": "rows"}, {"learning_rate": 0.5}],
        },
    )
    (first, rows), (second, rest) = recipe.stage_recipes()
    assert (first, rows.method, rows.learning_rate, rows.output_dir) == ("rows", "rows", 1.0, "out/rows")
    assert (second, rest.method, rest.learning_rate, rest.output_dir) == ("stage-2", "lora", 0.5, "out/stage-2")
    assert Recipe().stage_recipes() == [("", Recipe())]


@pytest.mark.parametrize(("stage", "message"), [({"lerning_rate": 1}, "learning_rate"), ({"name": "../x"}, "folder")])
def test_a_mistake_in_a_stage_shows_before_anything_is_trained(tmp_path, stage, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"stages: [{stage}]\n")
    with pytest.raises(ValueError, match=message):
        read_recipe(path)


def test_a_stage_is_named_where_it_says_the_key_itself(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("stages: [{name: rows, max_steps: 9, learning_rate: 1}, {max_steps: 9}]\n")
    with pytest.raises(ValueError, match=r"stages rows, stage-2 set `max_steps` themselves.*--set rows.max_steps"):
        read_recipe(path, ["max_steps=2"])
    with pytest.raises(ValueError, match="no stage 'hole'"):
        read_recipe(path, ["hole.max_steps=2"])
    recipe = read_recipe(path, ["rows.max_steps=2", "stage-2.lora_r=3", "seed=5"])
    assert [(s.max_steps, s.lora_r, s.seed) for _, s in recipe.stage_recipes()] == [(2, 32, 5), (9, 3, 5)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metric_for_best_model": "WER"}, "one of wer, cer, tts_cer and loss"),
        ({"metric_for_best_model": "tts_cer", "validation_texts": 0}, "needs `validation_texts`"),
        ({"validation_examples": 0}, "needs `validation_examples`"),
        ({"eval_steps": 0}, "number of updates, or a share"),
        ({"eval_steps": 2.5}, "number of updates, or a share"),
    ],
)
def test_what_no_validation_would_measure_is_refused_before_the_first(keys, message):
    with pytest.raises(ValueError, match=message):
        override(Recipe(), keys)


def test_shipped_recipes_train_as_decoded_but_the_papers_own():
    names = {path.stem: read_recipe(path).objective for path in SHIPPED.glob("*.yaml")}
    assert names.pop("full_sft") == "paper" and set(names.values()) == {"two_stream"} and len(names) == 5


def test_a_recipe_and_a_model_have_the_same_objectives():
    assert OBJECTIVES == configuration_ttt.OBJECTIVES and Recipe().objective == configuration_ttt.TttConfig().objective
    with pytest.raises(ValueError, match="`objective` is one of paper, two_stream, but is 'both'"):
        override(Recipe(), {"objective": "both"})


def test_keys_by_their_other_names_are_the_same_keys(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("misheard_codes: 0.1\nstages: [{name: last, validation_sounds: 3}]\n")
    recipe = read_recipe(path)
    assert recipe.replaced_prompt_codes == 0.1
    assert [stage.validation_texts for _, stage in recipe.stage_recipes()] == [3]
    assert read_recipe(None, ["misheard_codes=0.2"]).replaced_prompt_codes == 0.2
    with pytest.raises(ValueError, match="has no key `misheard_code`"):
        override(Recipe(), {"misheard_code": 0.1})

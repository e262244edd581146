"""What a teacher reveals at the masks of a batch: the blocks that it would decode."""

import sys

import pytest
import torch
from checkout import ROOT
from comparison_fixtures import BACKBONE, EXAMPLES, VOCABULARY, model_of, options
from modeling_fixtures import END, END_LAST, MASK, tiny_model
from two_stream_fixtures import BLOCKS, NO, RULE, SAMPLES, rows_with_copies

from modeling_ttt.two_streams_ttt import CopyRule

sys.path.append(str(ROOT / "benchmarks"))

import few_steps
from comparison import training
from comparison.distillation import teacher_labels
from comparison.systems import SYSTEMS


def whole_blocks_masked(batch):
    """Mask the last block of every copy whole."""
    for copy in range(1, int(batch["copy_ids"].max()) + 1):
        for sample in range(int(batch["sample_ids"].max()) + 1):
            places = ((batch["copy_ids"] == copy) & (batch["sample_ids"] == sample))[0].nonzero()[:, 0][-4:]
            if len(places):
                batch["labels"][0, places] = 0
                batch["input_ids"][0, places] = MASK
                yield sample, places


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("config", [{}, BLOCKS], ids=["whole spans", "block-causal"])
def test_a_teacher_completes_a_block_as_it_decodes_it(num_steps, config):
    rule = RULE if not config else CopyRule(RULE.audio_token_start_id, MASK, (END, END_LAST), 4, is_block_causal=True)
    model = tiny_model(**config)
    batch = rows_with_copies(SAMPLES, rule)
    blocks = list(whole_blocks_masked(batch))
    found = teacher_labels(model, batch, num_steps)
    assert len(blocks) >= 3
    for sample, places in blocks:
        prompt = torch.tensor([SAMPLES[sample][0][: int(batch["position_ids"][0, places[0]])]])
        options = {"block_length": 4, "denoising_steps": num_steps, "max_new_tokens": 4, "use_cache": False}
        decoded = model.generate(prompt, **options)[0, prompt.shape[1] :].tolist()
        is_end = [token_id in (END, END_LAST) for token_id in decoded]
        kept = is_end.index(True) + 1 if any(is_end) else 4
        assert found[0, places].tolist()[:kept] == decoded[:kept]


def test_only_labels_of_masks_change_and_more_steps_change_them():
    batch = rows_with_copies(SAMPLES)
    assert len(list(whole_blocks_masked(batch))) > 1
    is_masked = (batch["copy_ids"] > 0) & (batch["labels"] != NO)
    before = {name: tensor.clone() for name, tensor in batch.items()}
    differ = []
    for seed in range(6):
        one, four = (teacher_labels(tiny_model(seed=seed), batch, steps) for steps in (1, 4))
        for labels in (one, four):
            assert torch.equal(labels[~is_masked], batch["labels"][~is_masked])
            assert not torch.isin(labels[is_masked], torch.tensor([NO, MASK])).any()
        differ.append(not torch.equal(one, four))
    assert any(differ)
    assert all(torch.equal(batch[name], before[name]) for name in batch)


def test_a_batch_without_masks_keeps_its_labels():
    batch = rows_with_copies(SAMPLES[2:])
    assert torch.equal(teacher_labels(tiny_model(), batch, 4), batch["labels"])


def test_training_goes_on_from_a_finished_run_and_learns_from_it_also_after_it_was_killed(tmp_path):
    system = SYSTEMS["ttt-two-stream"]

    def run(folder, seed=1, **more):
        return training.train(
            tmp_path / folder, system, seed, EXAMPLES, VOCABULARY, options(4), backbone=BACKBONE, **more
        )

    run("first", 0)
    start = {"start": tmp_path / "first"}
    run("recorded", **start)
    run("taught", **start, teacher_steps=2)
    run("killed", **start, teacher_steps=2, stop_after=2)
    run("killed", **start, teacher_steps=2)
    weights = {}
    for folder in ("first", "recorded", "taught", "killed"):
        model = model_of("ttt-two-stream")
        training.load_finished(tmp_path / folder, model)
        weights[folder] = model.lm_head.weight
    assert torch.equal(weights["taught"], weights["killed"])
    assert not torch.equal(weights["taught"], weights["recorded"])
    assert not torch.equal(weights["recorded"], weights["first"])


def test_the_table_has_a_row_for_each_way_and_number_of_steps():
    numbers = {"qa_speech": 0.5, "tts_wer": 0.25, "forwards": 12.0}
    runs = [
        {
            "way": way,
            "seed": seed,
            "training": {"cpu_seconds": 120.0},
            "measured": {str(n): numbers for n in few_steps.STEPS},
        }
        for way in few_steps.WAYS
        for seed in (0, 1)
    ]
    rows = few_steps.table(runs).splitlines()
    assert len([row for row in rows if row.endswith("| 0.500 ± 0.000 | 0.250 ± 0.000 | 12.0 ± 0.0 |")]) == 12
    assert rows[-1] == "CPU minutes, the teacher's codes: 2.0"

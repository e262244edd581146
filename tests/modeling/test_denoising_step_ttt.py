"""One denoising step: what it reveals, and when a block is finished."""

from types import SimpleNamespace

import pytest
import torch

from modeling_ttt.configuration_ttt import TttMarkers
from modeling_ttt.samplers_ttt import (
    DenoisingStep,
)

MASKED = 9
MARKERS = TttMarkers(
    audio_token_start_id=5,
    audio_code_offset=5,
    audio_codebook_size=2,
    mask_token_id=MASKED,
    begin_audio_token_id=0,
    begin_last_audio_token_id=1,
    end_audio_token_id=7,
    end_last_audio_token_id=8,
)


def denoising(**options):
    fields = {
        "remasking": "low_confidence",
        "confidence_threshold": None,
        "entropy_bound": None,
        "audio_temperature": 0.0,
        "audio_top_k": None,
        "audio_top_p": None,
        "block_early_stop": False,
    }
    return DenoisingStep.from_options(SimpleNamespace(**(fields | options)), MARKERS, torch.tensor([5, 6, 7, 8]))


# Position by position the best code is 6, 5 and the end marker 7; the second position is the most certain.
THREE = [[0.2, 0.5, 0.2, 0.1], [0.9, 0.05, 0.03, 0.02], [0.1, 0.1, 0.7, 0.1]]


def test_a_step_reveals_the_first_by_priority_and_leaves_its_arguments_alone():
    block, logits = torch.tensor([MASKED] * 3), torch.tensor([THREE]).log()
    before = logits.clone()
    output = denoising().step(logits, [block], [1], [None])
    assert output.blocks.tolist() == [[MASKED, 5, MASKED]]
    assert output.is_finished == [False]
    torch.testing.assert_close(output.confidence, torch.tensor([[0.5, 0.9, 0.7]]))
    assert block.tolist() == [MASKED] * 3 and torch.equal(logits, before)


@pytest.mark.parametrize("rule", [{}, {"confidence_threshold": 0.99}, {"entropy_bound": 0.0}])
def test_the_last_step_reveals_every_mask_under_any_rule(rule):
    output = denoising(**rule).step(torch.tensor([THREE]).log(), [torch.tensor([MASKED] * 3)], [3], [None])
    assert output.blocks.tolist() == [[6, 5, 7]]
    assert output.is_finished == [True]


def test_what_is_revealed_stays_and_a_shorter_block_is_padded():
    blocks = [torch.tensor([MASKED, 6, MASKED]), torch.tensor([MASKED, MASKED])]
    output = denoising().step(torch.tensor([THREE, THREE]).log(), blocks, [1, 2], [None, None])
    assert output.blocks.tolist() == [[MASKED, 6, 7], [6, 5, -1]]
    assert output.is_finished == [False, True]


def test_a_block_is_finished_early_where_a_rule_or_an_end_marker_says_so():
    logits, block = torch.tensor([THREE]).log(), [torch.tensor([6, 7, MASKED])]
    assert denoising(block_early_stop=True).step(logits, block, [0], [None]).is_finished == [True]
    assert denoising().step(logits, block, [0], [None]).is_finished == [False]
    assert denoising(confidence_threshold=0.1).step(logits, block, [0], [None]).is_finished == [True]

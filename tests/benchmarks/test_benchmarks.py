"""
What the benchmarks rest on: the slow decoder writes the fast one's ids, noise is estimated, and the best point is
chosen as stated.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkout import ROOT
from modeling_fixtures import AUDIO_START, BEGIN, FIRST_WORD, tiny_model

from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from modeling_ttt.exact_text_ttt import ExactTextLogitsProcessor
from processing_ttt import TttProcessor

sys.path.append(str(ROOT / "benchmarks"))

import plot
import replies
import sweep

W = FIRST_WORD


@pytest.mark.parametrize("seed", range(3))
def test_the_published_procedure_and_generate_read_the_same_text(seed):
    model = tiny_model(seed=seed)
    prompt, text = torch.tensor([[W, W + 1]]), [W, W + 1, W + 2]
    form = ExactTextLogitsProcessor(model.config.markers(), model.config.eos_token_id, prompt, [text])
    options = {"max_new_tokens": 60, "block_length": 5, "denoising_steps": 3, "max_span_length": 5}
    inputs = {"input_ids": prompt, "reply_text_ids": torch.tensor([text]), "reply_word_ends": torch.ones(1, 3)}
    reply = replies.Reply(model, inputs, form, options)
    ids = reply.decode()
    assert replies.published(reply).tolist() == ids.tolist()
    new = ids[0, 2:].tolist()
    assert new[-1] == model.config.eos_token_id
    assert [t for t in new if W <= t < AUDIO_START] == text


def test_a_text_is_read_for_about_as_long_as_asked():
    model, processor = (load.from_pretrained(nano_checkpoint()) for load in (TttForConditionalGeneration, TttProcessor))
    reply = replies.spoken_reply(model, processor, ["Grass is green.", "Two and two is four."], 3.0, rows=2)
    assert reply.inputs["reply_text_ids"].shape[0] == 2
    seconds = reply.seconds_of_speech(reply.decode()) / 2
    assert 2.0 < seconds < 4.5


def test_speech_lasts_as_long_as_its_codes():
    model = tiny_model()
    reply = replies.Reply(
        model, {"input_ids": torch.tensor([[W]])}, replies.ForcedForm(model.config, 1), frame_rate=4.0
    )
    code, end = model.config.audio_code_offset, model.config.end_audio_token_id
    assert reply.seconds_of_speech(torch.tensor([[W, BEGIN, code, code + 1, end]])) == 0.5


def result(ids_per_forward, difference, standard_error):
    return {"ids_per_forward": ids_per_forward, "difference": difference, "standard_error": standard_error}


def test_the_best_point_is_the_fastest_within_one_standard_error_of_the_published_rule():
    results = [result(1.0, 0.0, 0.0), result(2.0, 0.01, 0.02), result(3.0, 0.05, 0.02), result(1.5, -0.1, 0.02)]
    assert sweep.best(results) is results[1]
    results[0] |= {"answers_right": 0.8, "answers_difference": 0.0, "answers_standard_error": 0.0}
    assert sweep.best(results) is results[0]  # where answers were compared, others are no candidates
    results[1] |= {"answers_right": 0.7, "answers_difference": -0.1, "answers_standard_error": 0.02}
    assert sweep.best(results) is results[0]
    results[1]["answers_standard_error"] = 0.2
    assert sweep.best(results) is results[1]


def test_only_settings_that_can_be_the_best_are_asked_questions():
    """One that is understood less well cannot, nor one that is slower than the published rule or than another one."""
    results = [result(1.0, 0.0, 0.0), result(2.0, 0.01, 0.02), result(3.0, 0.05, 0.02), result(0.7, -0.1, 0.02)]
    results += [result(2.5, 0.0, 0.02), result(1.5, 0.0, 0.02)]
    for number, one in enumerate(results):
        one["setting"] = number
    right = {0: [1.0, 0.0, 1.0, 1.0], 1: [1.0, 1.0, 1.0, 1.0], 4: [0.0, 0.0, 0.0, 0.0]}
    sweep.compare_answers(SimpleNamespace(right=lambda number: np.array(right[number])), results)
    assert [one.get("answers_right") for one in results] == [0.75, 1.0, None, None, 0.0, None]
    assert results[1]["answers_difference"] == 0.25 and sweep.best(results) is results[1]


def test_the_standard_error_is_that_of_a_mean():
    differences = np.array([0, 1] * 50)  # of one-word sentences: a standard deviation of a half, a hundred draws
    assert sweep.standard_error(differences, np.ones(100)) == pytest.approx(0.05, rel=0.1)
    assert sweep.standard_error(np.ones(100), np.ones(100)) == 0


def test_the_plot_is_drawn_from_what_the_benchmark_writes(tmp_path):
    decoders = [
        {"model": "nano", "threads": threads, "decoder": name, "speed_up": speed_up}
        for threads, name, speed_up in ((1, "published", 1.0), (1, "cached", 9.0), (2, "other threads", 5.0))
    ]
    decoders[1]["wer"] = 0.125
    batches = [{"weights": "float32", "rows": rows, "ids_per_cpu_second": 70.0 * rows} for rows in (1, 2, 4)]
    results = {"decoders": decoders, "rows": batches, "seconds_of_speech": 20.0, "threads": 1}
    plot.plot(results, tmp_path / "decode.svg")
    drawn = (tmp_path / "decode.svg").read_text()
    assert drawn.count("<svg") == 1 and "WER 0.12" in drawn and "other threads" not in drawn

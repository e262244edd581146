"""
The comparison is fair and says what it does: equal order, equal cuts, losses and decoders as defined, runs that survive
a kill.
"""

import random
import sys
from types import SimpleNamespace

import pytest
import torch
from checkout import ROOT
from comparison_fixtures import (
    BACKBONE,
    EXAMPLES,
    LENGTHS,
    VOCABULARY,
    batch_of,
    example,
    logits_alone,
    model_of,
    options,
    rows_of_step,
)
from modeling_fixtures import (
    AUDIO_START,
    BEGIN,
    CODE_0,
    END,
    END_LAST,
    END_USER,
    EOS,
    FIRST_WORD,
    MASK,
    PAD,
    left_padded,
    tiny_model,
)
from torch.nn import functional as F

from finetune.training.collate import lay_rows

sys.path.append(str(ROOT / "benchmarks"))

from comparison import evaluation, nar, table, training
from comparison.given_text import GivenText
from comparison.systems import SYSTEMS, System, compute_loss, create_model, make_batch

W = FIRST_WORD


# ---------------------------------------------------------------------------------------------------------------- equal


def test_all_systems_begin_with_the_same_weights():
    first = model_of("ttt").state_dict()
    for name in SYSTEMS:
        weights = model_of(name).state_dict()
        assert weights.keys() == first.keys()
        assert all(torch.equal(weights[key], first[key]) for key in first)
    other = create_model(SYSTEMS["ttt"], VOCABULARY, seed=1, backbone=BACKBONE).state_dict()
    assert not torch.equal(other["lm_head.weight"], first["lm_head.weight"])


def test_the_order_depends_on_the_seed_alone_and_a_longer_run_begins_alike():
    short = training.plan_batches(LENGTHS, options(3), seed=0)
    assert short == training.plan_batches(LENGTHS, options(5), seed=0)[:3]
    assert short != training.plan_batches(LENGTHS, options(3), seed=1)
    for step in short:
        assert len(step) <= 2
        assert all(sum(LENGTHS[task][number] for task, number in row) <= 64 for row in step)


@pytest.mark.parametrize("step", range(3))
def test_all_systems_see_the_same_examples_where_nothing_is_cut(step):
    clean = lay_rows(rows_of_step(step), 64, PAD)
    assert torch.equal(batch_of("ar", step)["input_ids"], clean["input_ids"])
    diffused = batch_of("ttt-no-sst", step)
    restored = torch.where(diffused["audio_mask"], diffused["labels"], diffused["input_ids"])
    assert torch.equal(restored, clean["input_ids"])


@pytest.mark.parametrize("step", range(3))
def test_ablations_cut_and_mask_alike(step):
    full, no_ppm, block = (batch_of(name, step) for name in ("ttt", "ttt-no-ppm", "ttt-block"))
    assert torch.equal(full["sample_ids"], no_ppm["sample_ids"])
    assert not (full["audio_mask"] & ~no_ppm["audio_mask"]).any()  # what PPM keeps clean is all that differs
    assert all(torch.equal(full[name], block[name]) for name in full)


def test_each_ablation_switches_off_one_strategy():
    configs = {name: model_of(name).config for name in SYSTEMS if SYSTEMS[name].family == "ttt"}
    strategies = {
        name: (c.clean_audio_prob, c.prefix_preservation_prob, SYSTEMS[name].span_truncation_prob, c.span_attention)
        for name, c in configs.items()
    }
    assert strategies == {
        "ttt": (0.3, 0.3, 0.5, "full"),
        "ttt-no-banom": (0.0, 0.3, 0.5, "full"),
        "ttt-no-ppm": (0.3, 0.0, 0.5, "full"),
        "ttt-no-sst": (0.3, 0.3, 0.0, "full"),
        "ttt-block": (0.3, 0.3, 0.5, "block"),
        "ttt-block-8": (0.3, 0.3, 0.5, "block"),
        "ttt-filled": (0.3, 0.3, 0.5, "full"),
        "ttt-two-stream": (0.3, 0.3, 0.0, "full"),
        "ttt-two-stream-half": (0.3, 0.3, 0.0, "full"),
    }
    objectives = {name: config.objective for name, config in configs.items()}
    assert [name for name in configs if objectives[name] != "paper"] == ["ttt-two-stream", "ttt-two-stream-half"]


# -------------------------------------------------------------------------------------------------------------- AR, NAR


def test_the_ar_loss_is_the_mean_cross_entropy_of_the_replies_next_ids():
    model, rows = model_of("ar"), rows_of_step(0)
    assert max(map(len, rows)) > 1  # packed examples must not see each other
    batch = make_batch(SYSTEMS["ar"], model, rows, 64, VOCABULARY, 0, 0)
    nats = []
    for found in (e for row in rows for e in row):
        scores = model(torch.tensor([found["input_ids"]])).logits[0].log_softmax(-1)
        nats += [-scores[i - 1, label] for i, label in enumerate(found["labels"]) if label != -100]
    assert compute_loss(SYSTEMS["ar"], model, batch)["loss"].item() == pytest.approx(
        torch.stack(nats).mean().item(), rel=1e-4
    )


@pytest.mark.parametrize("step", range(3))
def test_two_streams_keep_the_examples_clean_and_copy_all_or_half_of_their_blocks(step):
    clean = sorted(tuple(found["input_ids"]) for row in rows_of_step(step) for found in row)
    blocks = []
    for name in ("ttt-two-stream", "ttt-two-stream-half"):
        batch = batch_of(name, step)
        found, copied = [], 0
        for ids, samples, copies in zip(*(batch[n] for n in ("input_ids", "sample_ids", "copy_ids")), strict=True):
            found += [tuple(ids[(samples == n) & (copies == 0)].tolist()) for n in range(int(samples.max()) + 1)]
            copied += int((copies > 0).sum())
        assert sorted(found) == clean and copied % 16 == 0
        blocks.append(copied // 16 / len(clean))
        losses = compute_loss(SYSTEMS[name], model_of(name), batch)
        assert min(float(losses[part].detach()) for part in ("text_loss", "audio_loss")) > 0
    assert blocks == [2, 1]  # an example has two spans of a block


def test_a_step_is_measured_beside_that_of_ttt():
    names = ("ttt", "ttt-two-stream", "ar")
    seconds = training.step_costs([SYSTEMS[n] for n in names], EXAMPLES, VOCABULARY, options(3), BACKBONE)
    assert [len(taken) for taken in seconds] == [2, 2, 2] and min(map(min, seconds)) > 0


def test_nar_masks_text_and_audio_of_the_reply_and_nothing_of_the_prompt():
    batch = lay_rows([[example(0), example(1, codes=3)], [example(2)]], 64, PAD)
    is_reply = batch["labels"] != -100
    masked = torch.zeros_like(is_reply)
    for seed in range(40):
        noised = nar.corrupt_reply(batch, MASK, torch.Generator().manual_seed(seed))
        assert not (noised.audio_mask & ~is_reply).any()
        assert torch.equal(noised.input_ids, torch.where(noised.audio_mask, MASK, batch["input_ids"]))
        assert torch.equal(noised.labels, batch["labels"])
        masked |= noised.audio_mask
    assert torch.equal(masked, is_reply)


def test_nar_replies_are_one_span_of_each_sample():
    ids = torch.tensor([[W, CODE_0, CODE_0, W, W, CODE_0, W, CODE_0]])
    is_reply = torch.tensor([[0, 0, 0, 0, 1, 1, 0, 1]]).bool()
    samples = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1]])
    found = nar.reply_span_ids(ids, is_reply, AUDIO_START, samples)[0].tolist()
    prompt_text, prompt_audio, reply, other_reply = found[0], found[1], found[4], found[7]
    assert found == [-1, prompt_audio, prompt_audio, -1, reply, reply, -1, other_reply]
    assert prompt_text == -1 and len({prompt_audio, reply, other_reply, -1}) == 4


def test_the_nar_loss_weights_masked_ids_by_one_over_p_and_divides_by_the_reply():
    model, examples = model_of("nar").eval(), [example(0), example(1, codes=3)]
    batch = lay_rows([examples], 64, PAD)
    batch |= vars(nar.corrupt_reply(batch, MASK, torch.Generator().manual_seed(5)))
    start, expected = 0, []
    for found in examples:
        here = slice(start, start + len(found["input_ids"]))
        start, prompt = here.stop, found["labels"].count(-100)
        is_masked = batch["audio_mask"][0, here]
        assert is_masked.any()
        spans = [(2, prompt - 1), (prompt, len(found["input_ids"]))]  # the question's audio; the reply
        logits = logits_alone(model, batch["input_ids"][0, here].tolist(), spans)
        nats = F.cross_entropy(logits[is_masked], torch.tensor(found["labels"])[is_masked], reduction="none")
        expected.append(nats.sum() / batch["mask_prob"][0, here][0] / (len(found["labels"]) - prompt))
    assert nar.nar_loss(model, batch).item() == pytest.approx((sum(expected) / 2).item(), rel=1e-4)


def test_a_reply_is_cut_inside_and_loses_its_end():
    whole = example(0)
    prompt = whole["labels"].count(-100)
    for seed in range(30):
        cut = nar.truncate_reply(whole, random.Random(seed))
        length = len(cut["input_ids"]) - prompt
        assert cut["labels"] == whole["labels"][: len(cut["labels"])] and len(cut["labels"]) == len(cut["input_ids"])
        assert 0.3 * 18 - 1 < length < 0.9 * 18 + 1


def test_nar_learns_what_is_behind_the_end_as_far_as_decoding_looks():
    whole = example(0)
    prompt = whole["labels"].count(-100)
    filled = nar.fill_reply(whole, 16, EOS)
    assert filled["input_ids"] == whole["input_ids"] + [EOS] * 15  # a reply of 17 ids opens two blocks of 16
    assert filled["labels"] == whole["labels"] + [EOS] * 15 and len(filled["labels"]) == prompt + 32
    is_whole = []
    for step in range(4):
        rows, batch = rows_of_step(step), batch_of("nar", step)
        for row, labels in enumerate(batch["labels"]):
            for number in range(len(rows[row])):
                ids = labels[(batch["sample_ids"][row] == number) & (labels != -100)].tolist()
                is_whole.append(EOS in ids)
                assert EOS not in ids or (len(ids) % 16 == 0 and set(ids[ids.index(EOS) :]) == {EOS})
    assert {True, False} == set(is_whole)  # the others are cut


def test_filled_spans_end_where_a_block_does():
    rows = rows_of_step(0)
    plain, filled = (
        make_batch(System("", "ttt", 0.0, fills), model_of("ttt"), rows, 64, VOCABULARY, 0, 0)
        for fills in (False, True)
    )
    for batch, is_filled in ((plain, False), (filled, True)):
        lengths = [len(ids) for ids in spans_of(batch)]
        assert all(length % 16 == 0 for length in lengths) == is_filled
    for short, long in zip(spans_of(plain), spans_of(filled), strict=True):
        assert long[: len(short)] == short and set(long[len(short) :]) <= {short[-1]} <= {END, END_LAST}


def spans_of(batch: dict[str, torch.Tensor]) -> list[list[int]]:
    """Reply spans with their end markers, as they are learnt."""
    found = []
    for labels in batch["labels"].tolist():
        span: list[int] = []
        for label in labels:
            is_audio = label >= AUDIO_START
            if span and not is_audio:
                found.append(span)
                span = []
            if is_audio:
                span.append(label)
        assert not span
    return found


def test_nar_reveals_the_most_confident_masks_first():
    logits = torch.full((1, 3, 4), 0.0)
    logits[0, 0, 1], logits[0, 1, 2], logits[0, 2, 3] = 2.0, 9.0, 5.0
    revealed, ids = nar._reveal(logits, torch.tensor([[True, False, True]]), 1)
    assert revealed.tolist() == [[False, False, True]]  # the most confident of all is no mask any more
    assert ids.tolist() == [[1, 2, 3]]


def decode_slowly(model, prompt: list[int], spans: list[tuple[int, int]], limit: int, block: int, steps: int):
    """The NAR procedure without cache, batch or samplers."""
    reply, forwards = [], 1
    while EOS not in reply and len(reply) < limit:
        masks = [MASK] * min(block, limit - len(reply))
        shares = [len(masks) // steps + (step < len(masks) % steps) for step in range(steps)]
        for share in shares:
            before_end = masks[: masks.index(EOS)] if EOS in masks else masks
            if MASK not in before_end:
                break
            ids = prompt + reply + masks
            logits = logits_alone(model, ids, [*spans, (len(prompt), len(ids))])[-len(masks) :]
            logits[:, [MASK, PAD, AUDIO_START]] = -torch.inf
            sure, best = logits.softmax(-1).max(-1)
            order = sorted((i for i, t in enumerate(masks) if t == MASK), key=lambda i: (-float(sure[i]), i))
            for i in order[:share]:
                masks[i] = int(best[i])
            forwards += 1
        reply += masks
    return (reply[: reply.index(EOS) + 1] if EOS in reply else reply), forwards


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_nar_decoding_equals_the_procedure_run_slowly(seed):
    model = tiny_model(seed=seed)
    prompts = [[W, BEGIN, CODE_0, CODE_0 + 3, END_USER, W + 1], [W + 2, W + 3]]
    spans: list[list[tuple[int, int]]] = [[(2, 4)], []]
    inputs = left_padded(prompts)
    out = nar.decode_nar(model, inputs["input_ids"], inputs["attention_mask"], 14, block_length=6, denoising_steps=4)
    for row in range(2):
        reply, forwards = decode_slowly(model, prompts[row], spans[row], 14, 6, 4)
        assert out.replies[row] == reply
        assert out.num_forwards[row] == forwards


@torch.inference_mode()
def test_nar_decoding_stops_at_the_end_marker():
    model = tiny_model()
    for head in (EOS, W):
        model.lm_head.weight.zero_()
        model.lm_head.weight[head] = 1.0
        model.model.norm.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
        out = nar.decode_nar(model, torch.tensor([[W]]), torch.ones(1, 1).long(), 10, block_length=4, denoising_steps=2)
        if head == EOS:
            # the prompt, and one step: the first position ends it
            assert (out.replies, out.num_forwards) == (
                [[EOS]],
                [2],
            )
        else:
            assert (out.replies, out.num_forwards) == ([[W] * 10], [1 + 3 * 2])


@pytest.mark.parametrize("name", ["ar", "nar", "ttt"])
def test_replies_and_their_forwards_are_the_same_alone_and_in_a_batch(name, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 12)
    model, prompts = model_of(name).eval(), [[W, W + 1, W + 2], [W + 3]]
    replies, forwards = evaluation.decode(SYSTEMS[name], model, prompts, PAD)
    for row, prompt in enumerate(prompts):
        alone, (count,) = evaluation.decode(SYSTEMS[name], model, [prompt], PAD)
        assert (alone[0], count) == (replies[row], forwards[row])
        assert 0 < len(alone[0]) <= 12 and (name != "ar" or count == len(alone[0]))


@pytest.mark.parametrize("name", ["ar", "ttt"])
def test_a_given_text_is_written_as_it_is_and_its_audio_is_left_to_the_model(name, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 40)
    model, prompts, texts = model_of(name).eval(), [[W, W + 1, W + 2], [W + 3]], [[W + 1, W + 4], [W + 2]]
    replies, _ = evaluation.decode(SYSTEMS[name], model, prompts, PAD, given=GivenText(texts, VOCABULARY))
    free, _ = evaluation.decode(SYSTEMS[name], model, prompts, PAD)
    assert replies != free
    for reply, text in zip(replies, texts, strict=True):
        written = [token_id for token_id in reply if FIRST_WORD <= token_id < AUDIO_START]
        assert written == text[: len(written)]
        assert written == text or len(reply) == 40  # the audio of a random model may not end
        assert any(token_id >= AUDIO_START for token_id in reply)


def test_a_causal_model_chooses_among_all_audio_while_a_span_is_open():
    prompts = torch.tensor([[PAD, W]])
    rule = GivenText([[W + 1, W + 2]], VOCABULARY).logits_processor(prompts)

    def allowed(*reply):
        scores = rule(torch.tensor([[PAD, W, *reply]]), torch.zeros(1, VOCABULARY.vocab_size))
        return scores[0].isfinite().nonzero().flatten().tolist()

    assert allowed() == [W + 1]
    assert allowed(W + 1) == sorted([W + 2, BEGIN])
    assert allowed(W + 1, BEGIN) == allowed(W + 1, BEGIN, CODE_0) == list(range(AUDIO_START, VOCABULARY.vocab_size))
    assert allowed(W + 1, BEGIN, CODE_0, END) == [W + 2]


@pytest.mark.parametrize(("name", "blocks"), [("ttt", (16, 8)), ("ttt-block", (16, 8)), ("ttt-block-8", (8, 4))])
def test_spans_are_decoded_in_the_blocks_that_they_were_trained_with(name, blocks):
    model, asked = model_of(name).eval(), {}

    def generate(ids, **options):
        asked.update(options)
        return type(model).generate(model, ids, **options)

    fake = SimpleNamespace(generate=generate, parameters=model.parameters)
    evaluation.decode(SYSTEMS[name], fake, [[W]], PAD)
    assert (asked["block_length"], asked["denoising_steps"]) == blocks
    assert model.config.span_attention == "full" or model.config.span_block_length == blocks[0]


def test_a_reply_is_timed_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(evaluation, "decode", lambda system, model, prompts, *rest: asked.append(prompts))
    layout = SimpleNamespace(vocabulary=VOCABULARY)
    benchmark = SimpleNamespace(processor=None, layout=layout, questions=[], sentences=[])
    taken = evaluation.Measurement(benchmark, SYSTEMS["ttt"], model=None)._seconds([[W], [W + 1]])
    assert asked == [[[W]], [[W + 1]]]
    assert taken.keys() == {"seconds", "cpu_seconds"} <= table.COLUMNS.keys() and min(taken.values()) >= 0


# ------------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", ["ar", "nar", "ttt"])
def test_a_run_that_was_killed_ends_like_one_that_was_not(name, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STEPS_PER_POINT", 1)

    def run(folder, **kwargs):
        return training.train(folder, SYSTEMS[name], 0, EXAMPLES, VOCABULARY, options(5), backbone=BACKBONE, **kwargs)

    whole = run(tmp_path / "whole")
    assert run(tmp_path / "killed", stop_after=2)["steps"] == 2
    assert not (tmp_path / "killed" / training.MODEL).exists()
    resumed = run(tmp_path / "killed")
    assert resumed["curve"] == whole["curve"] and len(whole["curve"]) == 5
    assert resumed["tokens"] == whole["tokens"] > 0
    models = [model_of(name) for _ in range(2)]
    for model, folder in zip(models, ("whole", "killed"), strict=True):
        training.load_finished(tmp_path / folder, model)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert not torch.equal(models[0].lm_head.weight, model_of(name).lm_head.weight)


def test_a_run_does_not_go_on_with_other_options(tmp_path):
    training.train(tmp_path, SYSTEMS["ar"], 0, EXAMPLES, VOCABULARY, options(4), stop_after=1, backbone=BACKBONE)
    with pytest.raises(ValueError, match="steps"):
        training.train(tmp_path, SYSTEMS["ar"], 0, EXAMPLES, VOCABULARY, options(5), backbone=BACKBONE)

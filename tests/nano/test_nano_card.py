"""The tables of docs/nano.md and the numbers of nano's model card, from numbers as the measurement gives them."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from finetune.nano.measure.card import card_tables, held_out_answers, interval, share_of

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "nano.json").read_text())
CARD = ROOT / "checkpoints" / "ttt-nano" / "README.md"


def test_the_interval_of_a_share_is_wilson_s():
    assert interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_the_tables_count_held_out_questions_alone_and_name_every_kind():
    errors = {"wer": 0.25, "cer": 0.125, "exact": 0.5, "keywords": 0.75, "n": 8}
    judged = {"domain bigram": errors, "general English": errors | {"wer": 0.5}}
    spoken = ("reply, against its own text", "reply, against the right answer")
    spoken += tuple(
        name.format(what)
        for what in ("answers", "general English")
        for name in ("speak, unseen {}", "{}, the synthesiser itself", "{}, the synthesiser through the codec")
    )
    result = dict.fromkeys(spoken, judged)
    result["reply, against its own text"] = judged | {"DNSMOS": {"overall": 3.14, "n": 4}}
    result |= dict.fromkeys(
        ("repeat", "hear, unseen questions", "hear, seen questions", "hear, general English"), errors
    )
    splits = {"unseen_sentence": (0.5, 4), "unseen_template": (1.0, 4), "unseen_fact": (0.0, 8), "train": (1.0, 100)}
    result |= {
        "answer by split": {name: {"exact": exact, "n": n} for name, (exact, n) in splits.items()},
        "answer by voice": {"slt": {"exact": 0.375, "n": 16}},
        "answer by kind": {"sum": {"exact": 0.25, "n": 12}, "joke": {"exact": 0.75, "n": 4}},
        "hear, unseen questions, exact by kind": {"sum": 0.5, "joke": 1.0},
        "wrong answers by kind": {"sum": {"sum": 8, "colour": 1}, "joke": {}},
        "answer in noise": {"exact": 0.25, "quiet": 0.375, "n": 8},
        "second turn": {"exact": 0.5, "n": 10},
        "talks": {"exact by turn": [1.0, 0.75, 0.5, 0.25], "n": 20},
        "hear, general English, by voice": {"slt": errors},
        "finished": 1.0,
        "speed": {"real_time_factor": 0.2, "first_audio_seconds": 0.125, "seconds": 0.5, "threads": 1},
    }
    table = card_tables(result)
    # 2 + 4 + 0 of 16, not the seen ones
    assert "| held-out spoken questions | 0.375 (0.185 to 0.614, n = 16) |" in table
    assert "| joke | 4 | 0.75 | 1.00 | – |" in table and "| sum | 12 | 0.25 | 0.50 | sum 8, colour 1 |" in table
    assert "| spoken replies, against their own text | 0.250 / 0.125 | 0.500 / 0.125 | – | 3.14 |" in table
    assert "by turn (n = 20) | 1.00, 0.75, 0.50, 0.25 |" in table


def test_the_documents_show_what_was_measured():
    page = (ROOT / "docs" / "nano.md").read_text(encoding="utf-8")
    for table in card_tables(MEASURED).split("\n\n"):
        assert table in page
    share, count = held_out_answers(MEASURED)
    assert share_of(share, count) in CARD.read_text(encoding="utf-8")
    assert f"{share:.3f} (n = {count})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_model_index_of_the_card_holds_what_was_measured():
    values = {result.metric_name: result.metric_value for result in ModelCard.load(CARD).data.eval_results}
    splits, reply = MEASURED["answer by split"], MEASURED["reply, against its own text"]
    assert values == {
        name: round(value, 3)
        for name, value in {
            "known fact in unseen wording": splits["unseen_template"]["exact"],
            "unseen fact": splits["unseen_fact"]["exact"],
            "noise at 10 dB": MEASURED["answer in noise"]["exact"],
            "WER of unseen questions": MEASURED["hear, unseen questions"]["wer"],
            "WER of unseen sentences": MEASURED["hear, general English"]["wer"],
            "WER, recogniser with a bigram of the domain": reply["domain bigram"]["wer"],
            "WER, recogniser of general English": reply["general English"]["wer"],
        }.items()
    }

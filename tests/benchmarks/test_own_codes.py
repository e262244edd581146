"""Nano learns from what it spoke itself: the examples are what it wrote, id by id."""

import sys

from checkout import ROOT

from finetune.data.schema import make_record
from finetune.training.examples import build_examples
from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt import TttProcessor

sys.path.append(str(ROOT / "benchmarks"))

import own_codes

TEXTS = ["The opposite of hot is cold.", "Twelve."]


def test_what_was_spoken_is_learnt_id_by_id():
    recordings = [
        make_record(f"r{i}", "recording", language="en", text=text, codes=[1]) for i, text in enumerate(TEXTS)
    ]
    spoken = own_codes.spoken_by(nano_checkpoint(), recordings)
    assert [record["id"] for record in spoken] == ["r0", "r1"]
    model = TttForConditionalGeneration.from_pretrained(nano_checkpoint()).eval()
    processor = TttProcessor.from_pretrained(nano_checkpoint())
    for text, record in zip(TEXTS, spoken, strict=True):
        inputs = processor.prepare(processor.messages("tts", text), reply_texts=[text])
        ids = model.generate(**inputs, block_early_stop=True, **own_codes.TEACHER)[0].tolist()
        frame_rate = processor.codec_config.frame_rate
        example = build_examples(record, "messages", processor.tokenizer, processor.layout, frame_rate, aligned=1)
        assert example["input_ids"] == ids
        assert processor.layout.parse_reply(ids[inputs["input_ids"].shape[1] :]).finished


def test_the_table_has_a_row_for_each_setting():
    numbers = [
        {"setting": setting, "wer": 0.01 * i, "ids_per_forward": 2.0} for i, setting in enumerate(own_codes.SETTINGS)
    ]
    rows = own_codes.table(dict.fromkeys(own_codes.WAYS, numbers)).splitlines()
    assert rows[0] == "| learnt further from | nothing | recorded codes | its own codes |"
    assert rows[2] == "| steps 1 | 0.000 at 2.00 | 0.000 at 2.00 | 0.000 at 2.00 |"
    assert rows[-1].startswith("| entropy bound 10 | 0.060 at 2.00 |") and len(rows) == 2 + len(own_codes.SETTINGS)

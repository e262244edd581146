"""The checkpoint in the box: complete, small, and answering the questions that lie beside it."""

import json
from pathlib import Path

import jiwer
import pytest
import torch
from checkout import ROOT
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, GenerationConfig

import processing_ttt
from modeling_ttt import nano_checkpoint

FOLDER = nano_checkpoint()
QUESTIONS = [json.loads(line) for line in (FOLDER / "questions" / "questions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def nano():
    return AutoModel.from_pretrained(FOLDER).eval(), AutoProcessor.from_pretrained(FOLDER)


def ask(nano, task: str = "chat", **question):
    model, processor = nano
    inputs = processor.apply_chat_template(
        processor.conversation(task, **question),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    ids = model.generate(**inputs)
    return processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("What is 2+3?", "Two plus three is five."),
        ("what is 12-5", "Twelve minus five is seven."),
        ("WHAT IS THE CAPITAL OF ITALY", "The capital of Italy is Rome."),
        ("hello.", "Hello, how can I help you?"),
    ],
)
def test_digits_signs_and_capitals_are_read_as_if_they_were_spoken(nano, typed, answer):
    pytest.importorskip("wetext")
    assert ask(nano, text=typed).text == answer
    model, processor = nano
    conversation = processing_ttt.TttConversation(model, processor)
    assert conversation.say(text=typed).text == answer
    italian = processor.messages("chat", text=typed, language="it")
    assert italian[1]["content"][0]["text"] == typed  # the words of English are none of another language


def test_the_folder_is_complete_and_small():
    names = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "processor_config.json",
        "codec/config.json",
        "codec/model.safetensors",
    } <= names
    assert not [name for name in names if name.endswith(".py")], "publishing writes the sources"
    assert not [name for name in names if Path(name).suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}]
    assert sum((FOLDER / name).stat().st_size for name in names) <= 64_000_000


def test_weights_are_stored_in_bfloat16_and_computed_in_float32(nano):
    assert nano[0].dtype == torch.float32


def test_the_generation_config_is_nano_s_own():
    config = GenerationConfig.from_pretrained(FOLDER)
    assert (config.block_length, config.max_new_tokens) == (16, 400)


def test_the_generation_config_holds_the_best_point_of_the_sweep():
    results = json.loads((ROOT / "benchmarks" / "results" / "sweep.json").read_text())
    config = GenerationConfig.from_pretrained(FOLDER)
    as_good = [
        result
        for result in results
        if result["difference"] <= result["standard_error"]
        and result.get("answers_difference", -1.0) >= -result.get("answers_standard_error", 0.0)
    ]
    best = max(as_good, key=lambda result: result["ids_per_forward"])
    assert {"remasking": "low_confidence"} | best["setting"] == {
        name: getattr(config, name) for name in ("denoising_steps", "remasking", "entropy_bound")
    }


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["file"])
def test_nano_answers_the_shipped_questions_in_text_and_speech(nano, question):
    reply = ask(nano, audio=FOLDER / "questions" / question["file"])
    assert reply.text == question["answer"]
    assert reply.finished
    assert 0.5 < reply.seconds < 6.0
    assert abs(reply.audio).max() > 0.05


def test_cached_decoding_of_nano_equals_the_published_procedure(nano):
    model, processor = nano
    conversations = [processor.conversation("chat", audio=FOLDER / "questions" / q["file"]) for q in QUESTIONS[:3]]
    inputs = processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert torch.equal(model.generate(**inputs), model.generate(**inputs, use_cache=False))


def test_nano_transcribes_most_questions_without_audio(nano):
    replies = [ask(nano, "asr", audio=FOLDER / "questions" / question["file"]) for question in QUESTIONS]
    assert jiwer.wer([question["question"] for question in QUESTIONS], [reply.text for reply in replies]) < 0.25
    assert all(reply.audio.shape == (0,) for reply in replies)


def test_nano_reads_a_text_aloud(nano):
    spoken = ask(nano, "tts", text=QUESTIONS[0]["answer"])
    assert spoken.finished
    assert spoken.text.split()[0] == QUESTIONS[0]["answer"].split()[0]
    assert spoken.seconds > 0.5


def test_an_export_may_average_two_runs(tmp_path):
    from finetune.nano.checkpoint.make_checkpoint import export

    for name, value in (("first", 1.0), ("second", 3.0)):
        model = AutoModel.from_pretrained(FOLDER)
        with torch.no_grad():
            model.lm_head.weight.fill_(value)
        model.save_pretrained(tmp_path / name)
    AutoProcessor.from_pretrained(FOLDER).save_pretrained(tmp_path / "first")
    export(tmp_path / "first", FOLDER / "codec", tmp_path / "out", average_with=tmp_path / "second", share=0.25)
    averaged, original = AutoModel.from_pretrained(tmp_path / "out"), AutoModel.from_pretrained(FOLDER)
    assert torch.equal(averaged.lm_head.weight, torch.full_like(averaged.lm_head.weight, 1.5))
    assert torch.equal(averaged.model.layers[0].mlp.up_proj.weight, original.model.layers[0].mlp.up_proj.weight)
    assert load_file(tmp_path / "out" / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16
    assert AutoProcessor.from_pretrained(tmp_path / "out").spoken_input  # as in the box
    assert not list((tmp_path / "out").rglob("*.py"))
    assert not [path for path in (tmp_path / "out").rglob("*.json") if "auto_map" in json.loads(path.read_text())]

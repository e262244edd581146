"""What is measured, against numbers worked out by hand, and how test sets and judges are found."""

import io
import json

import datasets
import numpy as np
import pytest
import soundfile
import torch
from finetune_fixtures import recordings, tiny_checkpoint, tiny_data, tiny_info
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

from finetune.adapters.loading import load_model, load_processor
from finetune.data.languages import base_language, language_tag
from finetune.data.schema import make_record, save_prepared
from finetune.evaluation import evaluate as evaluate_module
from finetune.evaluation.answer_judges import ContainsJudge, ExactJudge, make_answer_judge
from finetune.evaluation.batched_model import Answer, Checkpoint, Question
from finetune.evaluation.evaluate import EvaluationOptions, evaluate, make_judges, measure
from finetune.evaluation.judges import ModelJudge, PocketsphinxJudge, make_judge
from finetune.evaluation.metrics import error_rates, normalise
from finetune.evaluation.results_table import markdown
from finetune.evaluation.test_sets import HUB_SETS, TestSet, load_test_set
from finetune.training.examples import build_examples


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("evaluate") / "base")


@pytest.fixture(scope="module")
def checkpoint(base):
    return Checkpoint(load_model(str(base)), load_processor(str(base)), batch_size=3, options={"do_sample": False})


# -------------------------------------------------------------------------------------------------------------- metrics


def test_error_rates_are_errors_over_words_and_characters_of_all_texts_together():
    """One substitution and one deletion in 2 + 3 words; in characters "cat" to "bat" is 1 and " it" is 3, of 7 + 10."""
    rates = error_rates(["The cat", "I have it."], ["the bat", "I have"], "it")
    assert rates.wer == pytest.approx(2 / 5)
    assert rates.cer == pytest.approx((1 + 3) / (len("the cat") + len("i have it")))
    assert rates.raw_wer == pytest.approx(3 / 5), "without normalisation `The` is another word"
    assert (rates.exact, rates.count) == (0.0, 2)


def test_texts_are_normalised_by_language():
    assert normalise("Twenty-one, please!", "en") == "21 please"
    assert normalise("Perché, ciao!", "it") == "perché ciao"
    assert normalise("你好，世界。", "zh-CN") == "你 好 世 界"
    assert normalise("Twenty-one", "en_US") == normalise("Twenty-one", "EN-gb") == "21"
    tags = ("en", "en_US", "EN-us", "zh-Hant-TW", "", None)
    assert [base_language(tag) for tag in tags] == ["en", "en", "en", "zh", "", ""]
    assert error_rates(["你好"], ["你坏"], "zh").wer == 0.5
    with pytest.raises(ValueError, match="no reference"):
        error_rates(["..."], ["x"])


@pytest.mark.parametrize(
    ("answer", "exact", "contains"),
    [
        ("Ten.", True, True),
        ("It is ten, I think.", False, True),
        ("Often.", False, False),
        ("", False, False),
        ("10", True, True),
    ],
)
def test_answers_are_judged_by_words(answer, exact, contains):
    accepted = ["ten", "a decade"]
    assert ExactJudge().is_right(None, answer, accepted, "en") == exact
    assert ContainsJudge().is_right(None, answer, accepted, "en") == contains
    assert make_answer_judge("contains").name == "contains"


@pytest.mark.parametrize("says", ["yes", "no"])
def test_a_chat_model_is_asked_with_its_own_template_and_its_word_counts(tmp_path, says):
    """A real checkpoint of transformers, whose projection has a bias that makes it say one word."""
    words = [
        "<pad>",
        "<s>",
        "</s>",
        "yes",
        "no",
        "Question",
        "Accepted",
        "answers",
        "Given",
        "answer",
        ":",
        "ten",
        "eleven",
    ]
    vocabulary = {word: index for index, word in enumerate(words)} | {"<unk>": len(words)}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    model = PhiForCausalLM(
        PhiConfig(
            vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.zero_()[vocabulary[says]] = 1.0
    model.save_pretrained(tmp_path)
    judge = make_answer_judge(str(tmp_path))
    asked = []
    generate = judge.model.model.generate
    judge.model.model.generate = lambda **given: (
        asked.append(tokenizer.decode(given["input_ids"][0])) or generate(**given)
    )
    assert judge.is_right("How much?", "eleven", ["ten"], "en") == (says == "yes")
    assert "Accepted answers : ten Given answer : eleven" in asked[0]


# --------------------------------------------------------------------------------------------------------------- asking


def test_answers_come_in_the_order_of_the_questions_and_are_those_of_each_alone(checkpoint):
    rows = recordings(7)
    questions = [Question("asr", codes=row["codes"], language="it") for row in rows]
    counts: list[int] = []
    together = checkpoint.ask(questions, counts.append)
    assert together == [checkpoint.ask([question])[0] for question in questions]
    assert sum(counts) == 7


def test_a_prompt_is_what_a_training_example_begins_with(checkpoint):
    (row,) = recordings(1)
    processor = checkpoint.processor
    for task, question in (
        ("asr", Question("asr", codes=row["codes"], language="it")),
        ("tts", Question("tts", row["text"], language="it")),
    ):
        example = build_examples(row, task, processor.tokenizer, processor.layout, 25.0)
        prompt = checkpoint.prompt(question)
        assert example["input_ids"][: len(prompt)] == prompt and set(example["labels"][: len(prompt)]) == {-100}


class Scripted(Checkpoint):
    """Answers from a list, so that what is measured is known beforehand."""

    def ask(self, questions, progress=None):
        answers = {"asr": "uno due tre", "tts": "", "chat": "Dodici.", "text": "Nove."}
        codes = [1, 2, 3] if questions[0].task in ("tts", "chat") else []
        return [Answer(answers[question.task], codes, True) for question in questions]


def test_each_task_is_measured_on_the_rows_that_fit_it(checkpoint):
    scripted = Scripted(checkpoint.model, checkpoint.processor)
    rows = [
        make_record("a", "recording", text="uno due tre", codes=[1] * 25, language="it", seconds=1.0),
        make_record("b", "recording", text="uno due", codes=[2] * 50, language="it", seconds=2.0),
        make_record("c", "dialogue", codes=[3], answer_text="dodici", answer_codes=[4], language="it"),
        make_record("d", "text", text="quanto?", answer_text="otto", language="it"),
    ]
    options = EvaluationOptions(judges=("model",))
    results = {
        result["task"]: result
        for result in measure(
            scripted, TestSet("made", rows, [[], [], ["dodici"], ["otto"]]), options, make_judges(options)
        )
    }
    assert results["asr"]["wer"] == pytest.approx(1 / 5), "one word too many of five"
    assert results["tts"]["wer (model)"] == pytest.approx(1 / 5) and results["tts"]["silent"] == 0
    assert results["qa"]["right (exact)"] == 0.5 and results["qa"]["judged"] == 2
    assert all(result["finished"] == 1.0 for result in results.values())
    options = EvaluationOptions(tasks=("qa",))
    only = list(measure(scripted, TestSet("made", rows, [[]] * 4), options, make_judges(options)))
    assert [result["task"] for result in only] == ["qa"] and "right (exact)" not in only[0], "nothing to judge by"


def test_bases_adapters_and_sets_stand_in_one_table_with_plots_and_files(base, tmp_path):
    data = tiny_data(tmp_path / "data")
    results = evaluate(
        [f"first={base}", f"again={base}"], [str(data), f"{data}:train"], tmp_path / "out",
        EvaluationOptions(limit=2, generation={"max_new_tokens": 8}),
    )  # fmt: skip
    assert len(results) == 8
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written == json.loads(json.dumps(results))
    first, again = (
        [r["cer"] for r in results if r["model"] == name and r["task"] == "asr"] for name in ("first", "again")
    )
    assert first == again
    table = (tmp_path / "out" / "results.md").read_text()
    assert table == markdown(results) and table.count("| first |") == 4
    pytest.importorskip("matplotlib")
    assert (tmp_path / "out" / "asr.png").stat().st_size > 1000


def data_in(folder, language):
    """A test split of recordings in a language."""
    row = make_record("a", "recording", text="uno", codes=[1] * 25, language=language, seconds=1.0)
    save_prepared(folder, {"test": [row]}, tiny_info())
    return str(folder)


def test_audio_of_each_model_and_set_have_a_folder_of_their_own_inside_the_results(base, tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.evaluation.evaluate.Checkpoint", Scripted)
    sets = [data_in(tmp_path / "it" / "tenth", "it"), data_in(tmp_path / "ru" / "tenth", "../../../elsewhere/x")]
    options = EvaluationOptions(tasks=("tts",), keep_audio=1)
    evaluate([f"..={base}", f"a/b={base}", f"../a/b={base}"], [*sets, sets[0] + ":test"], tmp_path / "out", options)
    written = {path.relative_to(tmp_path / "out").parts for path in (tmp_path / "out").rglob("*.wav")}
    assert len(written) == 9 and {len(parts) for parts in written} == {4}
    assert {parts[0] for parts in written} == {"audio"} and {parts[3] for parts in written} == {"1.wav"}
    assert len({parts[1] for parts in written}) == 3 and len({parts[2] for parts in written}) == 3
    assert not list(tmp_path.rglob("elsewhere")) and len(list(tmp_path.rglob("*.wav"))) == 9


class Unasked(Scripted):
    """Must not be asked."""

    def ask(self, questions, progress=None):
        raise AssertionError("asked before the judges were there")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"judges": ("pocketsphinx",)}, ValueError,
        r"pocketsphinx does not support 'it', the language of .*: choose another"),
        ({"judges": ("no/such-judge",)}, OSError, "."),
        ({"answer_judge": "no/such-judge"}, OSError, "."),
    ],
)  # fmt: skip
def test_a_judge_that_cannot_judge_is_refused_before_anything_is_asked(
    base, tmp_path, monkeypatch, options, error, message
):
    if options.get("judges") == ("pocketsphinx",):
        pytest.importorskip("pocketsphinx")
    monkeypatch.setattr("finetune.evaluation.evaluate.Checkpoint", Unasked)
    with pytest.raises(error, match=message):
        evaluate([str(base)], [data_in(tmp_path / "data", "it")], tmp_path / "out", EvaluationOptions(**options))


def test_judges_are_made_once_for_all_models_and_sets_and_each_result_is_written_when_it_is_there(
    base, tmp_path, monkeypatch
):
    class Deaf:
        def supports(self, language):
            return True

        def transcribe(self, waveforms, sampling_rate, language):
            written.append(json.loads((tmp_path / "out" / "results.json").read_text()))
            return ["" for _ in waveforms]

    made, written = [], []
    monkeypatch.setattr("finetune.evaluation.evaluate.make_judge", lambda name: made.append(name) or Deaf())
    monkeypatch.setattr("finetune.evaluation.evaluate.Checkpoint", Scripted)
    sets = [data_in(tmp_path / name, "it") for name in ("one", "two")]
    options = EvaluationOptions(judges=("model", "deaf"))
    evaluate([f"a={base}", f"b={base}"], sets, tmp_path / "out", options)
    assert made == ["deaf"]
    assert [len(results) for results in written] == [1, 3, 5, 7], "transcription is written before speech is judged"


# ------------------------------------------------------------------------------------------------------ sets and judges


def test_a_prepared_folder_gives_the_split_that_is_asked_for_spread_over_all_of_it(base, tmp_path):
    data, processor = tiny_data(tmp_path / "data", train=24), load_processor(str(base))
    assert len(load_test_set(str(data), processor).records) == 4
    chosen = load_test_set(f"{data}:train", processor, 3)
    assert [row["id"] for row in chosen.records] == ["1-0", "1-8", "1-16"]
    tiny_data(tmp_path / "empty", 2, 0, 0)
    with pytest.raises(ValueError, match=r"'test' .* is empty"):
        load_test_set(str(tmp_path / "empty"), processor)
    save_prepared(tmp_path / "foreign", {"test": recordings(2)}, tiny_info("0123"))
    with pytest.raises(ValueError, match="another codec than that of 'nano': prepare it anew"):
        load_test_set(str(tmp_path / "foreign"), processor, model="nano")
    with pytest.raises(ValueError, match="librispeech-clean"):
        load_test_set("librispeech", processor)
    with pytest.raises(ValueError, match="AISHELL-2"):
        load_test_set("aishell-2", processor)


class Stream(list):
    """A streamed data set, whose audio stays in files."""

    def cast_column(self, column, feature):
        assert column == "audio" and not feature.decode
        return self


def test_a_set_from_the_hub_is_encoded_as_it_comes(base, monkeypatch):
    file = io.BytesIO()
    soundfile.write(file, (0.3 * np.sin(np.arange(8000) / 9)).astype(np.float32), 16_000, format="wav")
    asked = []

    def load_dataset(repository, config, split, streaming):
        asked.append((repository, config, split, streaming))
        row = {"audio": {"bytes": file.getvalue(), "path": None}, "question": "who?", "answers": ["Ada", "A. L."]}
        return Stream([row] * 3)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    test = load_test_set("webquestions", load_processor(str(base)), 2)
    assert asked == [("TwinkStart/speech-web-questions", None, "test", True)]
    assert test.accepted == [["Ada", "A. L."]] * 2
    assert all(len(row["codes"]) > 5 and row["text"] == "who?" and row["kind"] == "dialogue" for row in test.records)
    with pytest.raises(ValueError, match="no column Answer, Questions any more"):
        load_test_set("llama-questions", load_processor(str(base)), 2)


def test_without_a_network_a_set_from_the_hub_is_one_clear_error(base, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    for name in HUB_SETS:
        with pytest.raises(ConnectionError, match=r"is on the Hub .* cannot be reached: no route"):
            load_test_set(name, load_processor(str(base)))


def test_judges_are_found_by_name_and_say_what_they_cannot(checkpoint):
    assert isinstance(make_judge("model", checkpoint), ModelJudge)
    with pytest.raises(ValueError, match="needs a model"):
        make_judge("model")
    pytest.importorskip("pocketsphinx")
    judge = make_judge("pocketsphinx")
    assert isinstance(judge, PocketsphinxJudge)
    with pytest.raises(ValueError, match="English only"):
        judge.transcribe([np.zeros(16_000, np.float32)], 16_000, "it")
    assert len(judge.transcribe([np.zeros(16_000, np.float32)], 16_000, "en_US")) == 1
    assert [judge.supports(tag) for tag in ("en", "en_US", None, "it", "enm")] == [True, True, True, False, False]


def test_a_model_judges_its_own_audio_by_its_codes(checkpoint):
    codes = [3, 1, 4, 1, 5, 9, 2, 6]
    waveform = checkpoint.processor.decode_codes(codes)
    rate = checkpoint.processor.codec_config.output_sampling_rate
    (transcript,) = ModelJudge(checkpoint).transcribe([waveform], rate, "it")
    again = checkpoint.processor.encode_audio(waveform, rate)
    assert transcript == checkpoint.ask([Question("asr", codes=again, language="it")])[0].text


def test_texts_of_several_languages_are_normalised_each_by_its_own():
    both = error_rates(["twenty one", "venti uno"], ["21", "21"], ["en", "it"])
    assert both.wer == pytest.approx(2 / 3), "one word in English, two of them wrong in Italian"


def test_languages_may_be_named():
    assert [language_tag(name) for name in ("Italian", "it", "it_IT", "Lombard", None)] == [
        "it",
        "it",
        "it_IT",
        "Lombard",
        None,
    ]


def test_sets_without_rows_for_the_tasks_are_an_error_and_not_an_empty_table(base, tmp_path):
    data = tiny_data(tmp_path / "data")
    with pytest.raises(ValueError, match=r"nothing to measure: .*data has no records for qa"):
        evaluate([str(base)], [str(data)], tmp_path / "out", EvaluationOptions(tasks=("qa",)))


def test_a_run_is_asked_without_a_tag_in_the_language_that_it_was_trained_in_without_one(base, tmp_path, monkeypatch):
    data, asked = data_in(tmp_path / "data", "it"), []
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("default_language: it\n")
    monkeypatch.setattr(evaluate_module, "load_processor", lambda name: load_processor(str(base)))
    monkeypatch.setattr(evaluate_module, "load_model", lambda name, *_: load_model(str(base)))
    monkeypatch.setattr(
        evaluate_module, "measure", lambda checkpoint, *_: asked.append(checkpoint.default_language) or []
    )
    monkeypatch.setattr(evaluate_module, "write_report", lambda *_: None)
    for options in (EvaluationOptions(), EvaluationOptions(default_language="fr")):
        evaluate([str(tmp_path / "run"), str(base)], [str(data)], tmp_path / "out", options)
    assert asked == ["it", "en", "fr", "fr"]

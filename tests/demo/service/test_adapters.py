"""A service with adapters: each request is answered by its own, in its language, as if no other were loaded."""

import json
from dataclasses import replace

import pytest
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe
from service_fixtures import tiny_service

from finetune.adapters.languages import AdapterLanguages, read_languages
from finetune.adapters.loading import load_model, load_processor
from finetune.adapters.lora import load_adapters
from finetune.training.train import train
from processing_ttt import TASKS, TttItemConversation
from spaces_demo.service import DecodingOptions, RequestError, TalkRequest, TalkService, Turn

QUESTION = "What is seven plus five?"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A base and two adapters trained on it."""
    root = tmp_path_factory.mktemp("adapters")
    base, data = tiny_checkpoint(root / "base"), tiny_data(root / "data")
    for name, rate in (("one", 1e-2), ("two", 5e-2)):
        train(tiny_recipe(base, data, root / name, learning_rate=rate, max_steps=3, eval_steps=100))
    return root


def alone(root, adapter):
    """The reply of a model that knows this adapter only."""
    model, processor = load_model(str(root / "base")), load_processor(str(root / "base"))
    if adapter is not None:
        model = load_adapters(model, {adapter: root / adapter})
    language = None if adapter is None else "it"  # as it was trained
    inputs = processor.prepare(processor.messages("chat", text=QUESTION, language=language))
    return model.generate(**inputs, max_new_tokens=30)[0, inputs["input_ids"].shape[1] :].tolist()


def test_each_request_is_answered_by_the_adapter_it_names(root):
    model, processor = load_model(str(root / "base")), load_processor(str(root / "base"))
    service = TalkService(model, processor, adapters={name: str(root / name) for name in ("one", "two")})
    expected = {adapter: alone(root, adapter) for adapter in (None, "one", "two")}
    assert len(set(map(tuple, expected.values()))) == 3
    for adapter in ("one", None, "two", "one", "two", None):
        request = TalkRequest(text=QUESTION, adapter=adapter, options=DecodingOptions(max_new_tokens=30))
        assert service.reply(request).token_ids == expected[adapter], adapter
        assert service.reply(replace(request, conversation=service.conversation())).token_ids == expected[adapter]
    with pytest.raises(RequestError, match="the adapters are one, two"):
        service.reply(TalkRequest(text=QUESTION, adapter="three"))


def test_a_question_is_prefilled_by_the_adapter_that_answers_it(root):
    model, processor = load_model(str(root / "base")), load_processor(str(root / "base"))
    service = TalkService(model, processor, adapters={name: str(root / name) for name in ("one", "two")})
    codes, replies = [1, 2, 3, 4, 5, 6, 7], []
    for is_prefilled in (False, True):
        service.reply(TalkRequest(text=QUESTION, adapter="two"))  # the last one that was served
        conversation = TttItemConversation(model, processor)
        request = TalkRequest(conversation=conversation, adapter="one", options=DecodingOptions(max_new_tokens=20))
        if is_prefilled:
            assert service.prefill(request, codes, is_whole=True)
        conversation.add("user", codes=codes)
        replies.append(service.reply(request).token_ids)
        assert conversation.cached_usage.total == (conversation.prompt_usage.total - 1 if is_prefilled else 0)
    assert replies[0] == replies[1] != []


def test_a_borrowed_gpu_prefills_nothing(monkeypatch):
    service = tiny_service()
    monkeypatch.setattr(service.model, "is_borrowed", True, raising=False)
    request = TalkRequest(conversation=TttItemConversation(service.model, service.processor))
    assert not service.prefill(request, [1, 2, 3], is_whole=True) and service.gate.forwards == 0


def published(folder, recipe="", **training):
    """What `ttt publish` leaves beside the weights."""
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "recipe.yaml").write_text(recipe)
    return read_languages(str(folder))


def test_the_only_language_of_an_adapter_is_asked_for_unless_it_needs_no_tag(tmp_path):
    processor, plain = tiny_service().processor, TASKS["asr"].system_prompt
    assert published(tmp_path, languages=["it"]).system_prompt("asr", processor) == f"{plain} Language: it."
    assert published(tmp_path, languages=["en"]).system_prompt("asr", processor) == plain
    own = published(tmp_path, "default_language: it", languages=["it"])
    assert own.system_prompt("asr", processor) == plain


def test_of_several_languages_one_must_be_chosen(tmp_path):
    processor, several = tiny_service().processor, published(tmp_path, languages=["it", "ru"])
    assert several.system_prompt("tts", processor) is None
    assert several.system_prompt("tts", processor, "ru").endswith(" Language: ru.")
    assert several.system_prompt("tts", processor, "fr") is None


@pytest.mark.parametrize("written", [None, "", "{", "[]", '{"languages": null}', '{"hours": 1.0}'])
def test_an_adapter_that_does_not_say_its_language_has_none(tmp_path, written):
    if written is not None:
        (tmp_path / "training.json").write_text(written)
    assert read_languages(str(tmp_path)) == AdapterLanguages()


def test_requests_are_written_in_the_language_of_their_adapter():
    service = tiny_service()
    service.languages = {"it": AdapterLanguages(("it",)), "both": AdapterLanguages(("it", "ru"))}
    plain = TASKS["tts"].system_prompt

    def prompt(adapter, language=None):
        return service.messages(
            Turn.of(TalkRequest("tts", QUESTION, adapter=adapter, language=language), service.limits)
        )[0]

    assert prompt(None)["content"] == prompt("both")["content"] == prompt(None, "it")["content"] == plain
    assert prompt("it")["content"] == prompt("both", "it")["content"] == f"{plain} Language: it."

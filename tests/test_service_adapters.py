"""A service with adapters: each request is answered by the one it names, as if no other were loaded."""

import pytest
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe

from finetune.adapters import load_adapters
from finetune.loading import load_model, load_processor
from finetune.train import train
from spaces_demo.service import DecodingOptions, DemoError, TalkRequest, TalkService

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
    conversation = processor.conversation("chat", text=QUESTION)
    inputs = processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=True, return_dict=True)
    return model.generate(**inputs, max_new_tokens=30)[0, inputs["input_ids"].shape[1] :].tolist()


def test_each_request_is_answered_by_the_adapter_it_names(root):
    model, processor = load_model(str(root / "base")), load_processor(str(root / "base"))
    service = TalkService(model, processor, adapters={name: str(root / name) for name in ("one", "two")})
    expected = {adapter: alone(root, adapter) for adapter in (None, "one", "two")}
    assert len(set(map(tuple, expected.values()))) == 3
    for adapter in ("one", None, "two", "one", "two", None):
        request = TalkRequest(text=QUESTION, adapter=adapter, options=DecodingOptions(max_new_tokens=30))
        assert service.reply(request).token_ids == expected[adapter], adapter
    with pytest.raises(DemoError, match="the adapters are one, two"):
        service.reply(TalkRequest(text=QUESTION, adapter="three"))

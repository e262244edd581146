"""Computed memory against memory that was taken."""

import pytest
import torch
from finetune_fixtures import tiny_checkpoint, tiny_recipe

from finetune.adapters.loading import load_model, load_processor
from finetune.adapters.lora import add_adapter
from finetune.training.memory import _with_adapter, estimate, saved_bytes, sized_config
from finetune.training.recipe import Recipe
from finetune.training.train import _quantization
from modeling_ttt import TttForConditionalGeneration

ROWS, LENGTH = 3, 40


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("memory") / "base", hidden_size=64)


def model_of(base, method, tmp_path):
    model = load_model(str(base), torch.float32)
    if method == "full":
        return model.train().requires_grad_(True)
    recipe = tiny_recipe(base, tmp_path, tmp_path, method=method, lora_r=4)
    return add_adapter(model, load_processor(str(base)).vocabulary, recipe)


@pytest.mark.parametrize("method", ["full", "lora", "rows"])
def test_weights_gradients_and_moments_are_what_training_takes(base, tmp_path, method):
    model = model_of(base, method, tmp_path)
    ids = torch.randint(5, 300, (2, 10))
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    model(input_ids=ids, labels=ids).loss.backward()
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    optimizer.step()
    parameters = list(model.parameters())
    taken = {
        "weights": sum(p.numel() * 4 for p in parameters),
        "gradients": sum(p.grad.numel() * 4 for p in parameters if p.grad is not None),
        "optimizer": sum(
            tensor.numel() * 4 for state in optimizer.state.values() for name, tensor in state.items() if name != "step"
        ),
    }
    computed = estimate(load_model(str(base)).config, method, 2, 10, half=False, lora_r=4)
    for name, number in taken.items():
        assert getattr(computed, name) == number, name


def test_counted_activations_are_those_that_autograd_keeps(base):
    """The same forward with data: every storage that is kept and is no parameter, once."""
    model = load_model(str(base), torch.float32).train()
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    embeddings = torch.randn(ROWS, LENGTH, 64, requires_grad=True)
    mask = torch.ones(ROWS, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    positions = torch.arange(LENGTH).expand(ROWS, LENGTH)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.model(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False)
    assert output.last_hidden_state.requires_grad
    with torch.device("meta"):
        fake = type(model)(model.config)
    assert saved_bytes(fake, ROWS, LENGTH, 4, checkpointing=False) == pytest.approx(sum(kept.values()), rel=0.1)


def test_methods_and_sizes_stand_in_the_order_that_one_expects():
    config = sized_config("0.5B")
    config.text_config.num_hidden_layers = 6
    small = {method: estimate(config, method, 1, 64, checkpointing=True).total for method in ("full", "lora", "qlora")}
    assert small["full"] > small["lora"] > small["qlora"]
    checkpointed, kept = (estimate(config, "full", 1, 64, checkpointing=on).activations for on in (True, False))
    assert checkpointed < 0.3 * kept


def test_a_size_is_the_size_it_is_called():
    with torch.device("meta"):
        model = TttForConditionalGeneration(sized_config("1.5B"))
    assert model.num_parameters() == pytest.approx(1.54e9 + 16_128 * 1536, rel=0.01), (
        "Qwen2.5-1.5B, and rows for the audio alphabet"
    )


def model_on_gpu(config, method, folder):
    """What `ttt train` has on the card before its first update."""
    if method == "full":
        return TttForConditionalGeneration(config).cuda()
    if method == "lora":
        return _with_adapter(TttForConditionalGeneration(config).cuda().bfloat16(), method, 32)
    quantized = _quantization(Recipe(method="qlora"))
    model = load_model(str(folder), torch.bfloat16, device_map={"": 0}, **quantized)
    return _with_adapter(model, method, 32)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_peak_of_a_gpu_is_what_was_computed(method, tmp_path):
    """
    A model of 100M parameters, one update of 4 rows of 512: within a quarter, for the allocator keeps more than it
    needs.
    """
    config = sized_config("0.5B")
    config.text_config.num_hidden_layers = 4
    config.text_config.vocab_size = 32_768 + 16_392
    config.audio_token_start_id = 32_768
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
        TttForConditionalGeneration(config).bfloat16().save_pretrained(tmp_path)
    torch.cuda.reset_peak_memory_stats()
    model = model_on_gpu(config, method, tmp_path)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    ids = torch.randint(5, 32_000, (4, 512), device="cuda")
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(
                input_ids=ids,
                labels=ids,
                audio_mask=torch.zeros_like(ids, dtype=torch.bool),
                mask_prob=torch.ones(4, device="cuda"),
            ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert estimate(config, method, 4, 512).total == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.25)

"""What a CUDA device must give: the CPU's ids in float32, the same ids with and without a cache, and bfloat16 within a stated tolerance."""

import pytest
import torch
from modeling_fixtures import tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

OPTIONS = {"max_new_tokens": 48, "block_length": 8, "denoising_steps": 3, "max_span_length": 20}


@pytest.fixture
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 12, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    return ids.cuda(), mask.cuda()


@pytest.mark.parametrize("use_cache", [True, False])
def test_float32_on_the_gpu_decodes_the_cpu_s_ids(prompts, use_cache):
    ids, mask = prompts
    model = tiny_model()
    wanted = model.generate(ids.cpu(), attention_mask=mask.cpu(), **OPTIONS)
    got = model.cuda().generate(ids, attention_mask=mask, use_cache=use_cache, **OPTIONS)
    assert torch.equal(got.cpu(), wanted)


def test_a_cpu_generator_samples_the_same_ids_on_the_gpu(prompts):
    ids, mask = prompts
    model = tiny_model()
    sampled = {"do_sample": True, "audio_temperature": 1.0, **OPTIONS}
    wanted = model.generate(ids.cpu(), attention_mask=mask.cpu(), generator=torch.Generator().manual_seed(1), **sampled)
    got = model.cuda().generate(ids, attention_mask=mask, generator=torch.Generator().manual_seed(1), **sampled)
    assert torch.equal(got.cpu(), wanted)


def test_bfloat16_logits_stay_within_three_percent_of_float32(prompts):
    ids, mask = prompts
    model = tiny_model().cuda()
    wanted = model(ids, attention_mask=mask).logits
    got = model.to(torch.bfloat16)(ids, attention_mask=mask).logits.float()
    real = mask.bool()
    assert (got - wanted)[real].norm() / wanted[real].norm() < 0.03

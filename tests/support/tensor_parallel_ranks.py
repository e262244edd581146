"""
Run by each rank of `test_tensor_parallel.py`: a model shared between the ranks must score and generate as the whole one
does.
"""

import sys

import torch
from modeling_fixtures import conversation, speaking

from modeling_ttt import TttForConditionalGeneration


def main(folder: str) -> None:
    torch.set_num_threads(1)
    whole = TttForConditionalGeneration.from_pretrained(folder).eval()
    shared = TttForConditionalGeneration.from_pretrained(folder, tp_plan="auto").eval()
    assert type(shared.lm_head.weight) is not torch.nn.Parameter, "the projection is not shared"
    prompt = torch.tensor([conversation(1)])
    with torch.no_grad():
        torch.testing.assert_close(shared(prompt).logits, whole(prompt).logits, atol=1e-3, rtol=1e-3)
    options = {"max_new_tokens": 20, "block_length": 8}
    spoken = shared.generate(prompt, logits_processor=speaking(), **options)
    assert torch.equal(spoken, whole.generate(prompt, logits_processor=speaking(), **options))
    assert (spoken[:, prompt.shape[1] :] >= whole.config.audio_token_start_id).any(), "there is no audio"
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])

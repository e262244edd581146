import os
import subprocess
import sys

import pytest
from checkout import ROOT
from modeling_fixtures import tiny_model

SUPPORT = ROOT / "tests" / "support"


@pytest.mark.slow
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_model_shared_between_two_ranks_generates_what_the_whole_one_does(is_tied, tmp_path):
    tiny_model(tie_word_embeddings=is_tied).save_pretrained(tmp_path)
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *(str(SUPPORT / "tensor_parallel_ranks.py"), str(tmp_path)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]

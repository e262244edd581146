"""
transformers' own common test suites on our classes.

The suites are not installed with transformers and not kept here: they are fetched with the source distribution of the
installed version (`upstream/source_distribution.py`) and run by a pytest of their own, on the CPU. What does not run or
cannot pass is listed below with the reason, and a list that says too much or too little is a failure.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import transformers
from source_distribution import download_source_distribution, unpack_suites

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Suite:
    """
    A suite and its exceptions, each a name or pattern of tests with the reason.

    Args:
        name (`str`): The class of transformers.
        path (`str`): The file that runs it on ours, in `upstream/`.
        skipped (`dict[str, str]`): Tests that skip themselves.
        failing (`dict[str, str]`): Tests that cannot pass.
    """

    name: str
    path: str
    skipped: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)


NO_PICTURES = "a Text-to-Talk model takes no pictures and no videos"

MODEL_SUITE = Suite(
    "ModelTesterMixin",
    "model_suite.py",
    skipped={
        # The machine: the suites run on the CPU, wherever they run.
        "test_can_load_with_device_context_manager": "needs a GPU",
        "test_can_load_with_global_device_set": "needs a GPU",
        "test_cpu_offload": "needs a GPU",
        "test_disk_offload_*": "needs a GPU",
        "test_flex_attention_with_grads": "needs a GPU; test_modeling_ttt tests flex attention",
        "test_kernels_can_load_without_crashing": "needs a GPU and kernels from the Hub",
        "test_model_parallelism": "needs several GPUs",
        "test_resize_*_with_deepspeed*": "needs a GPU and DeepSpeed",
        "test_sdpa_can_compile_dynamic": "needs a GPU",
        "test_sdpa_can_dispatch_on_flash": "needs a GPU",
        "test_torch_compile_for_training": "needs a GPU",
        # The model.
        "test_flash_attn_*": "flash attention takes no mask, so a span could not attend to itself: it is refused",
        "test_causal_lm_loss_honors_shift_labels": "the joint loss does not shift masked audio",
        "test_encoder_decoder_loss_no_double_shift": "not an encoder-decoder",
        "test_sdpa_can_dispatch_composite_models": "audio has no tower of its own beside the backbone",
        "test_sdpa_can_dispatch_non_composite_models": "the model is a composite one, with the backbone in it",
        "test_eager_matches_sdpa_inference_*_output_attentions": "forward does not name output_attentions",
        "test_can_load_from_already_mapped_keys": "no weight is renamed on loading",
        "test_reverse_loading_mapping": "no weight is renamed on loading",
        "test_keep_in_fp32_modules*": "no weight has to stay in float32",
        # The backbone: it is transformers' own and passes these tests there.
        "test_eager_matches_batched_and_grouped_inference_*": "the backbone of the test has no experts",
        "test_moe_models_record_router_logits": "the backbone of the test has no experts",
        "test_output_router_logits_from_config": "the backbone of the test has no experts",
        "test_model_rope_*": "rotary positions are the backbone's",
        "test_vision_axial_rope": "rotary positions are the backbone's",
        "test_resize_position_vector_embeddings": "the backbone of the test learns no positions",
        "test_sliding_window_mask": "windows are in the backbone's configuration, where the suite does not look",
    },
    failing={
        "test_generation_tester_mixin_inheritance": (
            "wants the generation suite, which is not in the source distribution; generation is held against a slow "
            "restatement "
            "in test_generation_ttt"
        ),
        "test_bc_cache_name_forward": (
            "wants `past_key_values` deprecated; we take both names of the cache for good, because transformers 5.23 "
            "knows only that one"
        ),
    },
)

PROCESSOR_SUITE = Suite(
    "ProcessorTesterMixin",
    "processor_suite.py",
    skipped={
        "*_images": NO_PICTURES,
        "*_videos": NO_PICTURES,
        "test_apply_chat_template_image*": NO_PICTURES,
        "test_apply_chat_template_video*": NO_PICTURES,
        "test_apply_chat_template_decoded_video*": NO_PICTURES,
        "test_args_overlap_kwargs": NO_PICTURES,
        "test_chat_template_audio_from_video": NO_PICTURES,
        "test_processor_text_has_no_visual": NO_PICTURES,
        "test_apply_chat_template_tool_calls_no_content": "conversations have no tools",
        "test_chat_template_audio_sampling_rate": "reads the rate from a feature extractor; here codecs have them",
        "test_get_num_multimodal_tokens_matches_processor_call*": "asks for a hook of vLLM's, which we do not offer",
        "test_processor_with_multiple_inputs": "wants a feature extractor; test_model_input_names has text and audio",
    },
    failing={
        "test_subprocessor_defaults_3_audio": "wants a part that takes audio alone; a codec owns its features here",
    },
)


@dataclass(frozen=True)
class Run:
    """
    What a suite said.

    Args:
        suite (`Suite`): The suite.
        outcomes (`dict[str, str]`): For each test `"passed"`, `"skipped"` or `"failed"`.
        messages (`dict[str, str]`): Why a test did not pass.
    """

    suite: Suite
    outcomes: dict[str, str]
    messages: dict[str, str]

    def tests(self, outcome: str) -> set[str]:
        return {test for test, other in self.outcomes.items() if other == outcome}

    def report(self, tests: set[str]) -> str:
        return "\n".join(f"{test}: {self.outcomes[test]}. {self.messages.get(test, '')}" for test in sorted(tests))


@pytest.fixture(scope="module")
def suites(request, tmp_path_factory) -> Path:
    version = transformers.__version__
    try:
        archive = download_source_distribution(version, request.config.cache.mkdir(f"transformers-{version}"))
    except ConnectionError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("suites")
    unpack_suites(archive, folder)
    return folder


@pytest.fixture(scope="module", params=[MODEL_SUITE, PROCESSOR_SUITE], ids=lambda suite: suite.name)
def run(request, suites) -> Run:
    suite = request.param
    result = suites / f"{suite.name}.xml"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(suites), str(TESTS.parent), os.environ.get("PYTHONPATH")))),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_TEST_DEVICE": "cpu",
        "RUN_SLOW": "0",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "-o", "addopts="]
    finished = subprocess.run(
        [*command, f"--junitxml={result}", str(TESTS / "upstream" / suite.path)],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode in (0, 1), f"The suite did not run:\n{(finished.stdout + finished.stderr)[-3000:]}"
    return Run(suite, *read_outcomes(result))


def read_outcomes(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    outcomes: dict[str, str] = {}
    messages: dict[str, str] = {}
    for case in ElementTree.parse(path).iter("testcase"):
        test = case.get("name")
        for child in case:
            if child.tag in ("skipped", "failure", "error") and outcomes.get(test) != "failed":
                outcomes[test] = "skipped" if child.tag == "skipped" else "failed"
                messages[test] = child.get("message", "").partition("\n")[0][:300]
        outcomes.setdefault(test, "passed")
    return outcomes, messages


def matching(tests: set[str], patterns: dict[str, str]) -> set[str]:
    return {test for test in tests if any(fnmatchcase(test, pattern) for pattern in patterns)}


def test_every_test_passes_but_the_listed_ones(run, capsys):
    with capsys.disabled():
        counts = ", ".join(f"{len(run.tests(outcome))} {outcome}" for outcome in ("passed", "skipped", "failed"))
        print(f"\n{run.suite.name} of transformers {transformers.__version__}: {counts}")
    unlisted = run.tests("failed") - matching(run.tests("failed"), run.suite.failing)
    assert not unlisted, f"\n{run.report(unlisted)}"


def test_no_test_is_skipped_but_the_listed_ones(run):
    unlisted = run.tests("skipped") - matching(run.tests("skipped"), run.suite.skipped)
    assert not unlisted, f"\n{run.report(unlisted)}"


def test_every_listed_exception_is_one(run):
    for patterns, outcome in ((run.suite.skipped, "skipped"), (run.suite.failing, "failed")):
        for pattern in patterns:
            named = matching(set(run.outcomes), {pattern: ""})
            assert named, (
                f"{pattern!r} is listed as {outcome}, but there is no such test any more: take it off the list."
            )
            others = named - run.tests(outcome)
            assert not others, f"{pattern!r} is listed as {outcome}, but not so:\n{run.report(others)}"

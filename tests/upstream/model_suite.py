"""
transformers' common model and configuration suites on `TttForConditionalGeneration`; run by `test_upstream_suites.py`.
"""

import copy
import unittest

import torch
from modeling_fixtures import PAD, conversation, tiny_config
from transformers_suites.test_configuration_common import ConfigTester
from transformers_suites.test_modeling_common import ModelTesterMixin

from modeling_ttt import TttConfig, TttForConditionalGeneration


class TttModelTester:
    """What the suite asks a model's tester for: sizes, a configuration and inputs with text and audio."""

    batch_size = 3
    seq_length = 14
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    is_training = True

    def get_config(self) -> TttConfig:
        return tiny_config(text_config={"initializer_range": 0.02}, initializer_range=0.02)

    def prepare_config_and_inputs_for_common(self) -> tuple[TttConfig, dict[str, torch.Tensor]]:
        input_ids = torch.tensor([conversation(seed, self.seq_length) for seed in range(self.batch_size)])
        attention_mask = torch.ones_like(input_ids)
        input_ids[0, :3], attention_mask[0, :3] = PAD, 0
        return self.get_config(), {"input_ids": input_ids, "attention_mask": attention_mask}


class TestTttModel(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (TttForConditionalGeneration,)
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = (
        True  # the suite reads a model's age from a copyright line, which ours has not
    )

    def setUp(self):
        self.model_tester = TttModelTester()
        # The suite's configuration has the default backbone, of 151936 ids.
        self.config_tester = ConfigTester(
            self,
            config_class=TttConfig,
            audio_token_start_id=151000,
            audio_codebook_size=16,
            audio_code_offset=151001,
            mask_token_id=151017,
            end_audio_token_id=151018,
            end_last_audio_token_id=151019,
            clean_audio_prob=0.5,
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs_dict = copy.deepcopy(inputs_dict)
        if return_labels:
            inputs_dict["labels"] = inputs_dict["input_ids"].clone()
        return inputs_dict

    def test_config(self):
        self.config_tester.run_common_tests()

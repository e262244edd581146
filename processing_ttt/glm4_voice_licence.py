"""
The licence of the released GLM-4-Voice weights: the notice that conversion shows and writes beside converted weights.

It has the terms in short and a link to the full text. None of the weights are part of this project.
"""

import os
from pathlib import Path

from huggingface_hub import ModelCard

from .codec_interface_ttt import CodecConfig
from .hub_ttt import codec_card

WEIGHTS_LICENCE = "glm-4-voice"
LICENCE_LINK = "https://huggingface.co/THUDM/glm-4-voice-9b/blob/main/LICENSE"
NOTICE_FILE = "LICENSE-glm-4-voice.md"

LICENCE_NOTICE = f"""\
The weights of the GLM-4-Voice speech tokenizer and decoder are not under this project's licence. They were released \
under "The glm-4-voice
License" ({LICENCE_LINK}); that text is what counts. In short, and without warranty:

- Academic research is free. Commercial use is free after registration with the publisher \
(https://open.bigmodel.cn/mla/form).
- Whoever passes the weights on, converted ones too, or offers a product with them, must enclose the licence and \
show "Built with glm-4".
- A model that is created, trained or improved with them must have a name that begins with "glm-4".
- Military and unlawful uses are excluded. The law of the People's Republic of China applies.

Converting changes the layout of the files and nothing else: the same terms hold for what is written.
"""


def weights_card(name: str, config: CodecConfig) -> ModelCard:
    """
    Write the card of the converted codec.

    Args:
        name (`str`): Hub id or folder, as `from_pretrained` takes it.
        config ([`Glm4VoiceCodecConfig`]): The codec's configuration.

    Returns:
        `huggingface_hub.ModelCard`: The card, with licence and origin.
    """
    return codec_card(
        name,
        config,
        license="other",
        license_name=WEIGHTS_LICENCE,
        license_link=LICENCE_LINK,
        base_model=["THUDM/glm-4-voice-tokenizer", "THUDM/glm-4-voice-decoder"],
        about="The speech tokenizer and the decoder of GLM-4-Voice, converted. Built with glm-4.\n\n"
        f"## Licence\n\n{LICENCE_NOTICE}",
    )


def write_notice(folder: str | os.PathLike) -> None:
    """
    Put the notice beside the weights.

    Args:
        folder (`str` or `os.PathLike`): The folder of the weights.
    """
    (Path(folder) / NOTICE_FILE).write_text(LICENCE_NOTICE, encoding="utf-8")


__all__ = ["LICENCE_NOTICE", "WEIGHTS_LICENCE", "weights_card", "write_notice"]

"""Options that several commands share: their names, types and help texts."""

from enum import Enum
from typing import Annotated

import typer


class Dtype(str, Enum):
    """Number formats of the weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Model = Annotated[
    str,
    typer.Option(
        help="Folder or Hub id of a checkpoint. The nano checkpoint in the box by default.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: the GPU if there is one.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Number format of the weights; auto: the checkpoint's.")]
Seed = Annotated[
    int | None, typer.Option(help="Seed of all sampling. Without it every run samples anew.", show_default=False)
]
Temperature = Annotated[
    float | None,
    typer.Option(min=0, help="Of the text; 0 is greedy. The checkpoint's setting by default.", show_default=False),
]
AudioTemperature = Annotated[
    float | None,
    typer.Option(min=0, help="Of the sound; 0 is greedy. The checkpoint's setting by default.", show_default=False),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="Denoising steps per block, at most. The checkpoint's setting by default.", show_default=False
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="Longest reply, in ids of text and sound. The checkpoint's setting by default.", show_default=False
    ),
]
Stream = Annotated[
    bool, typer.Option("--stream", help="Print and write the reply as it comes. Ctrl-C ends it, and keeps what came.")
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        help="NAME=FOLDER or a Hub id; of several, each answers in turn on the one loaded model.",
        show_default=False,
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        help="Tag of the language, as an adapter was trained with it: it. That of the adapter by default, if it has one.",
        show_default=False,
    ),
]

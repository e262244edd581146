"""
What the page states about itself: where its code, the paper, the model card and the licence are.

Depends on the folder of a checkpoint. Independent of Gradio and the model.
"""

import re
from pathlib import Path

LINKS = """The method is described in [From Text to Talk](https://arxiv.org/abs/2509.20072). The code is {code}, under
the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0)."""


def about(name_or_path: str, space_id: str | None = None) -> str:
    """
    Write where everything is.

    Args:
        name_or_path (`str`): Folder or Hub id of the checkpoint.
        space_id (`str`, *optional*): Name of the Space that the page runs in.

    Returns:
        `str`: Markdown, with the model card if the checkpoint is in a folder, and else a link to it.
    """
    files = f"[in the files of this Space](https://huggingface.co/spaces/{space_id}/tree/main)"
    links = LINKS.format(code=files if space_id else "the Python package `text-to-talk`, which runs this page")
    card = Path(name_or_path) / "README.md"
    if card.is_file():
        return (
            f"{links} The model card, with the licence of the weights:\n\n{_as_part(card.read_text(encoding='utf-8'))}"
        )
    if name_or_path and not Path(name_or_path).exists():
        return f"{links} The [model card](https://huggingface.co/{name_or_path}) has the licence of the weights."
    return links


def _as_part(card: str) -> str:
    """Drop the front matter of a card, and make its headings those of a part of the page."""
    body = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    fenced = re.split(r"(^```.*?^```$)", body, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else re.sub(r"^#", "##", part, flags=re.MULTILINE) for part in fenced)

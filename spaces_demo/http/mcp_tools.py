"""
What MCP clients get: the endpoints that give whole replies as tools, whose speech is audio and not only an address.

Depends on Gradio's MCP server, which turns files that are no pictures into addresses. Independent of the service.
"""

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta

Content = list[Any]  # of MCP's TextContent and AudioContent


def give_tools_audio(demo: gr.Blocks) -> None:
    """
    Leave the streams out of a page's tools, where they would be the same again, and let the others return audio.

    Args:
        demo (`gr.Blocks`): The page, mounted; without an MCP server it is left as it is.
    """
    server = demo.mcp_server_obj
    if server is None:
        return
    tools = server.tool_to_endpoint
    server.tool_to_endpoint = {name: path for name, path in tools.items() if not path.endswith("_stream")}
    content = partial(_content, server.types.AudioContent, server.postprocess_output_data)
    server.postprocess_output_data = content  # type: ignore[method-assign]


def _content(audio: type, others: Callable[..., Content], data: list[Any], root_url: str) -> Content:
    content: Content = []
    for output in data:
        for part in output if isinstance(output, list | tuple) else [output]:
            if is_file_obj_with_meta(part):
                content.append(audio(type="audio", data=_in_base64(part["path"]), mimeType="audio/wav"))
            if part is not None:
                content += others([part], root_url)  # of a file its address
    return content


def _in_base64(path: str) -> str:
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode("ascii")

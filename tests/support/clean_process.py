"""A process that does not have our packages, even where they are installed: what loads there is a folder's own code."""

# Comes before the code of such a process (`python -I -c`).
NOT_INSTALLED = """
import importlib.abc, sys

OWN = "modeling_ttt processing_ttt text_to_talk finetune spaces_demo ttt_cli".split()

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OWN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""

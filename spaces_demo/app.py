"""
Starts the demo: on this machine, or as a Space, where this file is what runs.

    python -m spaces_demo --model checkpoints/ttt-nano

Knows where models come from and which machine this is. What the page is, is `page.py`'s.
"""

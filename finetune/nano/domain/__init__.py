"""The questions and answers that nano is trained on, as text."""

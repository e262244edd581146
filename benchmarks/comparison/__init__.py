"""What `paper_comparison.py` is made of: the data, the systems, their training, their measurement, the table."""

"""What nano can do, measured from waveform to waveform."""

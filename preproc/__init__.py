"""Turns a batch of segments into training-ready spectrograms: arrays in, arrays out, one numerical step per file."""

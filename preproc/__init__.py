"""Turn a batch of segments into spectrograms for training, one numerical step per module."""

"""What a model promises, and how pixels, tensors and labels cross the line between training and serving."""

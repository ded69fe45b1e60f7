"""What all parts of the package may use: logits, masks, arrays, files."""

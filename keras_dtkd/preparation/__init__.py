"""What `fit` does before its first step."""

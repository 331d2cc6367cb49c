"""Training, evaluation and everything around them: the same for plain and for distilled detectors."""

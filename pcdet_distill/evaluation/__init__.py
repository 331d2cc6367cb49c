"""Evaluation of detections against ground truth, one package per benchmark."""

"""Detectors: what says whether an image is adversarial."""

"""Evaluation of trained and published models: metrics, intervals, calibration, operating points, novelty."""

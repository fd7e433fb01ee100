"""Measures of generated videos. Each has a direction, a sample size and an interval."""

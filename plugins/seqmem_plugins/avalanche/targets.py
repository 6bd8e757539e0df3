"""Constants of Avalanche's rows of targets, for modules without torch too."""

NO_TARGET = -100
"""Stands among the targets where nothing is to be predicted, as torch's cross entropy has it."""

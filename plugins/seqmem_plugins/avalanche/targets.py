"""What Avalanche's rows of targets say, where no torch may be imported too."""

NO_TARGET = -100
"""Stands among the targets where nothing is to be predicted, as torch's cross entropy has it."""

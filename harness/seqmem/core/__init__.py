"""Nouns without torch: data, and the schedules that streams are made of."""

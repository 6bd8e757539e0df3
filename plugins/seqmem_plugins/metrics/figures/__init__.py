"""Figures of metrics, a module per metric, imported when a figure is drawn."""

"""Carrying out jobs: worker processes of this machine."""

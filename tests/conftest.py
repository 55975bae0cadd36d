"""Helpers in this folder are importable from every test below it."""

"""Tests of the Python client against a scripted gateway."""

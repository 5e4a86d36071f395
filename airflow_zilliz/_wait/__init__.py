"""Decides what a response or an error means for one wait. No I/O, no clock."""

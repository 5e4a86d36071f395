"""Submits an import once, whatever fails. No I/O, no clock."""

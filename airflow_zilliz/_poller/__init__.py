"""Polls for all waits of a process together."""

"""Reads connections, and sends requests on a worker and on the triggerer's event loop."""

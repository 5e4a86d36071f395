"""Sends requests, on a worker and on the triggerer's event loop; what a connection says of where to."""

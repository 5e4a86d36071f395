"""The import API without I/O: requests to send, responses read."""

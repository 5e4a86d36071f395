"""What `make demo` and `make ui` run. It is not installed with the provider."""

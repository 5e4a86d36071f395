"""What sensors and operators share: poll, defer, resume, finish."""

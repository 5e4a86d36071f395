"""Shows the progress of imports: writes it to XComs, on a worker and in a triggerer, and serves the UI's pages."""

"""Shows how far an import is: what writes its XCom, on a worker and in a triggerer, and what the UI's pages are."""

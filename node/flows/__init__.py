"""One use case a file. Every transport enters here, so none can go round the license check."""

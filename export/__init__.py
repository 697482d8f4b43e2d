"""From a PyTorch network to constant-weight artifacts for phone runtimes."""

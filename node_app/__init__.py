"""A storage node: keeps blobs on disk by hash, replicates them, and serves them to clients."""

"""Starting servers: which there are, where each runs, and how they are kept alive."""

"""What a run leaves behind: answers on disk, counts, events and measurements."""

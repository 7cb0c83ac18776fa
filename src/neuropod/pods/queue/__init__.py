"""What runtimes have left, and in which order pods get it."""

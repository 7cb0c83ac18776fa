"""What keeps a worker that lost its lease from writing anything."""

"""What users keep for registries of images: who they are there."""

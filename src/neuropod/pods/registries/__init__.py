"""Registries of images, as pods name and are given what their owner keeps for them."""

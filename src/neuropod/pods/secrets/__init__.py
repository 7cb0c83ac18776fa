"""Secrets of users as pods name and are given them."""

"""The user's commands. They import client, wire, words and kit only, and each its own, so that they start quickly."""

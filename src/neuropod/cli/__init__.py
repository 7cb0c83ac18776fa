"""The user's commands. They import client, wire, words, settings and kit only, so that they start quickly."""

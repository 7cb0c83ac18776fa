"""Pods and their owners: what becomes of pods with their owner, and who owns a pod that is made for somebody."""

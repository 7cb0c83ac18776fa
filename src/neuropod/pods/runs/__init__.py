"""The loop's side of pods: claims, facts in, outcomes recorded. Used by reconcile alone."""

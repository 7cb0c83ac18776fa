"""The loops that bring facts to wishes, run by `driver`. docs/reconcile.md tells the whole."""

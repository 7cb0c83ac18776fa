"""The routes of `/api/v1`, a module per noun. They turn wire shapes into use-cases and back."""

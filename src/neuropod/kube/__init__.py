"""The place of the Kubernetes API client, informer and object builders (DESIGN §4); they come with that runtime."""

"""The `kubernetes` runtime: pods as Pods of a cluster (DESIGN §4); `runtime.KubernetesRuntime` is what others see."""

"""Pods: records, the pure decisions (lifecycle, status, workload), all their SQL, the use-cases."""

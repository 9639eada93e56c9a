"""Sweeps on Kubernetes: RayJob and RayCluster resources of KubeRay, and what they need."""

"""A team's servers as containers: `compose.yaml` and what it mounts. `deploy.servers` runs the same from packages."""
